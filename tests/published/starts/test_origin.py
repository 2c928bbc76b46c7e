"""The Jacobians at the origin, as the claim has them."""

from __future__ import annotations

import numpy as np
import pytest

import recurrax as rx
from recurrax.published.starts import origin


def test_all_agree_and_the_limits_are_those_of_a_disc():
    (found,) = rx.published.reproduce(["origin"])
    assert {row.verdict for row in found.rows} == {"agrees"}
    limits = {row.what: row.published for row in found.rows}
    for bias, radius, gain in ((0, 0.75, 2.0), (1, 0.981, 1.076), (3, 1.2026, 0.19)):
        name = f"LSTM, forget bias {bias}"
        assert limits[f"{name}: spectral radius, g = 1"] == pytest.approx(radius, rel=1e-3)
        assert limits[f"{name}: critical gain"] == pytest.approx(gain, rel=3e-3)


def test_the_critical_gain_of_one_eigenvalue():
    """`1/2 + g (3/4 - 1/2) = 1` at g = 2; what is 0 belongs to no recurrent weight."""
    assert origin._critical_gain(0.5, np.array([0.75, 0.0, 0.4])) == pytest.approx(2.0)


def test_a_gain_that_is_not_1_is_told(monkeypatch):
    monkeypatch.setattr(origin, "SEEDS", 1)
    monkeypatch.setattr(origin, "_jacobian", _twice(origin._jacobian))
    (found,) = rx.published.reproduce(["origin"])
    assert {row.verdict for row in found.rows} == {"differs"}


def _twice(jacobian):
    return lambda cell, params: 2 * jacobian(cell, params)
