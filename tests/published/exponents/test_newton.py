"""Newton steps of a network against its exponent."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from recurrax.published.exponents import newton


def test_a_network_as_it_is_described():
    with jax.enable_x64(True):
        weights, start, xs, guess = map(np.asarray, newton.draw(0))
        other = np.asarray(newton.draw(1).weights)
        assert weights.dtype == np.float64
    assert np.all(np.diag(weights) == 0)
    np.testing.assert_allclose(np.std(weights), 0.1, rtol=0.05)
    assert np.all(np.abs(start) <= 1)
    assert np.all(np.abs(guess) <= 1)
    np.testing.assert_allclose(np.std(guess), 1 / 3**0.5, rtol=0.02)
    size = np.abs(xs).max(0)  # a sine comes near its height within a thousand steps
    assert 0.15 < size.max() <= 0.2
    assert size.min() < 0.05
    # A sine of frequency w obeys x_{t+1} + x_{t-1} = 2 cos(w) x_t.
    cosines = np.sum((xs[2:] + xs[:-2]) * xs[1:-1], 0) / np.sum(xs[1:-1] ** 2, 0) / 2
    frequencies = np.arccos(np.clip(cosines, -1, 1))
    assert frequencies.min() > 0.49
    assert frequencies.max() < 3.01
    assert np.abs(other - weights).max() > 0.1


def test_few_steps_below_zero_and_many_above(monkeypatch):
    """At a fifth of the length; the exponent of a network at rest is that of its weights."""
    monkeypatch.setattr(newton, "SEEDS", 1)
    monkeypatch.setattr(newton, "GAINS", (0.5, 2.0))
    with jax.enable_x64(True):
        small = newton.draw(0, length=200, units=30)
        monkeypatch.setattr(newton, "draw", lambda seed: small)
        calm, wild = newton.newton_steps()
        still = small._replace(xs=0 * small.xs, start=0 * small.start)
        found = newton.newton_on(still, 0.5)
        radius = np.abs(np.linalg.eigvals(np.asarray(small.weights))).max()
    assert found.exponent == pytest.approx(np.log(0.5 * radius), abs=0.05)
    assert found.error < 1e-4
    assert calm.ours < 10 < wild.ours
    assert calm.tolerance == "few, since below 0"
    assert wild.tolerance == "many, since above 0"
    assert calm.verdict == "agrees"
    assert calm.what.startswith("g = 0.5, exponent -0.")
