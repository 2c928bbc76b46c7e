"""Copying digits by networks of ten thousand weights."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from recurrax.published.training import bai
from recurrax.train import network


def test_the_digits_as_they_are_described():
    xs, targets, weights, *_ = (
        np.asarray(leaf) for leaf in bai.copying_digits(7).draw(jax.random.key(0), 400)
    )
    assert xs.shape == (27, 400, 1)
    digits, waited, asked = xs[:10, :, 0], xs[10:16], xs[16:]
    assert set(np.unique(digits)) == set(range(1, 9))
    assert np.all(waited == 0)
    assert np.all(asked == 9)  # eleven of them
    assert np.all(targets[:17] == 0)
    np.testing.assert_array_equal(targets[17:], digits)
    assert np.all(weights == 1)


@pytest.mark.parametrize("kind", list(bai.UNITS))
def test_ten_thousand_weights_that_begin_as_in_torch(kind):
    units = bai.UNITS[kind]
    net = network(bai.network_cell(kind, units), 10, 1)
    params = net.init(jax.random.key(0))
    gates = {"LSTM": 4, "GRU": 3}[kind]
    size = gates * units * (units + 2) + 10 * units + 10 + (units if kind == "GRU" else 0)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size
    assert abs(size - 10_000) < 500
    for leaf in (params.cell.w_in, params.cell.w_rec):
        assert np.abs(leaf).max() <= 1 / math.sqrt(units)
        np.testing.assert_allclose(np.std(leaf), 1 / math.sqrt(3 * units), rtol=0.15)
    np.testing.assert_array_equal(params.cell.b, 0)


def test_a_short_run_gives_a_row_each_and_says_when_the_budget_decides(monkeypatch):
    monkeypatch.setattr(bai, "UNITS", {"LSTM": 4})
    monkeypatch.setattr(bai, "SEEDS", 2)
    monkeypatch.setattr(bai, "RUNS", (bai.Run("LSTM", 2, 2), bai.Run("LSTM", 2, 2, claimed=False)))
    budget, shown = bai.accuracies()
    assert budget.what == shown.what == "LSTM, T = 2: accuracy on the last 10"
    assert (budget.published, math.isnan(shown.published)) == (0.2, True)
    assert 0 <= budget.range[0] <= budget.ours <= budget.range[1] <= 1
    assert budget.verdict in ("not comparable", "differs")
    assert shown.verdict == "not comparable"
    monkeypatch.setattr(bai, "RUNS", (bai.Run("LSTM", 2, 2),))
    monkeypatch.setattr(bai, "THEIR_UPDATES", 2)
    (full,) = bai.accuracies()
    assert full.verdict == ("agrees" if full.ours <= 0.2 else "differs")
    assert full.ours == budget.ours
