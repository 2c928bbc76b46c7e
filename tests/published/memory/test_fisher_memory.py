"""Fisher memory, as the claim has it."""

from __future__ import annotations

import jax
import numpy as np

import recurrax as rx
from recurrax.published.memory import fisher_memory


def test_all_agree():
    (found,) = rx.published.reproduce(["fisher-memory"])
    assert [row.verdict for row in found.rows] == 4 * ["agrees"] + ["not comparable"]
    assert [round(row.published, 4) for row in found.rows[2:4]] == [4.4992, 17.9657]


def test_the_memory_of_two_units_by_hand(monkeypatch):
    """W = [[0, 0], [1, 0]]: C = diag(1, 2), J(0) = 1 and J(1) = 1/2 from the first unit."""
    monkeypatch.setattr(fisher_memory, "SIZE", 2)
    with jax.enable_x64(True):
        found = fisher_memory._total_memory(np.eye(2, k=-1))
    np.testing.assert_allclose(found, [[1.5, 0.0], [0.0, 0.5]], atol=1e-12)


def test_the_covariance_solves_its_equation():
    w = np.random.default_rng(1).standard_normal((50, 50))
    w *= 0.95 / np.abs(np.linalg.eigvals(w)).max()
    found = fisher_memory._covariance(w)
    np.testing.assert_allclose(found, w @ found @ w.T + np.eye(50), rtol=1e-9, atol=1e-7)


def test_states_that_are_no_powers_of_w_differ(monkeypatch):
    """What they lose is in no row the same as what C says."""
    monkeypatch.setattr(fisher_memory, "SIZE", 10)
    monkeypatch.setattr(fisher_memory, "_linear", lambda w, h, x: 2 * (0.9 * w @ h,))
    (found,) = rx.published.reproduce(["fisher-memory"])
    assert [row.verdict for row in found.rows[:4]] == 4 * ["differs"]


def test_a_network_that_loses_something_differs(monkeypatch):
    """Of the powers that were said to be of W; the mean over directions is 1 for any."""
    monkeypatch.setattr(fisher_memory, "SIZE", 10)
    right = fisher_memory._total_memory
    monkeypatch.setattr(fisher_memory, "_total_memory", lambda w: right(0.9 * w))
    (found,) = rx.published.reproduce(["fisher-memory"])
    verdicts = [row.verdict for row in found.rows[:4]]
    assert verdicts == ["agrees", "agrees", "differs", "differs"]
