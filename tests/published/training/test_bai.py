"""Copying digits by networks of ten thousand weights."""

from __future__ import annotations

import math
from types import SimpleNamespace

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


def test_a_short_run_gives_a_row(monkeypatch):
    monkeypatch.setattr(bai, "UNITS", {"LSTM": 4})
    monkeypatch.setattr(bai, "SEEDS", 2)
    monkeypatch.setattr(bai, "RUNS", (bai.Run("LSTM", 2, 2, claimed=False),))
    (row,) = bai.accuracies()
    assert row.what == "LSTM, T = 2: accuracy on the last 10"
    assert math.isnan(row.published)
    assert row.verdict == "not comparable"
    assert 0 <= row.range[0] <= row.ours <= row.range[1] <= 1
    assert "after 2 updates" in row.note


@pytest.mark.parametrize(
    ("updates", "found", "verdict"),
    [
        (15_650, [0.12, 0.19, 0.9], "agrees"),
        (15_650, [0.12, 0.21, 0.9], "differs"),
        (5_000, [0.12, 0.21, 0.9], "differs"),  # learned with less, so it would with more
        (5_000, [0.12, 0.19, 0.9], "not comparable"),
    ],
)
def test_where_the_budget_decides_nothing_is_claimed(monkeypatch, updates, found, verdict):
    final = {"accuracy": np.array(found), "loss": np.ones(3)}
    trial = SimpleNamespace(final=final, step=np.array([updates]))
    monkeypatch.setattr(bai, "trained", lambda run: trial)
    monkeypatch.setattr(bai, "RUNS", (bai.Run("GRU", 200, updates),))
    (row,) = bai.accuracies()
    assert (row.published, row.ours, row.verdict) == (0.2, found[1], verdict)
    assert bai.THEIR_UPDATES == 15_650
