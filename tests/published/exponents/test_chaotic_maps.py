"""Maps and Lorenz's equations, as the claims have them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.published.exponents import chaotic_maps


def verdicts(name, chaotic=(), within=0.0):
    """Of the rows; rounding may move those that are chaotic by four standard errors."""
    (found,) = rx.published.reproduce([name])
    for row in found.rows:
        if row.what in chaotic:
            assert abs(row.ours - row.published) < within, row
    return {row.what: row.verdict for row in found.rows if row.what not in chaotic}


def test_the_maps_agree():
    of_henon = [f"Henon: {name}" for name in ("first exponent", "second exponent", "Kaplan-Yorke")]
    found = verdicts("chaotic-maps", of_henon, 0.004)
    assert list(found.values()) == 4 * ["agrees"]


def test_another_map_is_told_as_differing(monkeypatch):
    """The logistic map at 3.9, whose exponent is about 0.49; the others stay."""
    monkeypatch.setattr(chaotic_maps, "MAP_STEPS", 30_000)
    monkeypatch.setattr(chaotic_maps, "logistic", lambda s: 3.9 * s * (1 - s))
    found = verdicts("chaotic-maps")
    assert found["logistic map, r = 4: ln 2"] == "differs"
    assert found["Henon: sum, log 0.3"] == found["Arnold's cat: first exponent"] == "agrees"


def test_lorenz_agrees():
    found = verdicts("lorenz-63", ("first exponent", "third exponent"), 0.02)
    assert list(found.values()) == 3 * ["agrees"]


def test_the_step_is_of_fourth_order():
    """Against Heun's method at steps a thousand times as small."""

    def velocity(s):
        x, y, z = s
        return np.array([10 * (y - x), 28 * x - x * z - y, x * y - 8 / 3 * z])

    start = state = np.array([1.0, 2.0, 20.0])
    for _ in range(1000):
        first = velocity(state)
        state = state + 1e-5 / 2 * (first + velocity(state + 1e-5 * first))
    with jax.enable_x64(True):
        found = chaotic_maps.lorenz_step(0.01, jnp.asarray(start), None)[0]
    assert np.abs(np.asarray(found) - state).max() == pytest.approx(0, abs=2e-6)
