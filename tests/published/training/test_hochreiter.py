"""Data and rows of the claims of 1997."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from recurrax.published import get
from recurrax.published.training import hochreiter

MANY = 2_000


def _drawn(draw):
    return (np.asarray(leaf) for leaf in jax.vmap(draw)(jax.random.split(jax.random.key(0), MANY)))


def _places(found):
    """Of each sequence the places where something is so, [MANY, how many]."""
    return np.argwhere(found)[:, 1].reshape(MANY, -1)


def test_marked_numbers_as_they_are_described():
    xs, mask, target = _drawn(hochreiter.marked_numbers)
    values, markers = xs[..., 0], xs[..., 1]
    lengths = mask.sum(1)
    assert set(lengths) == set(range(100, 111))
    assert np.all(mask == (np.arange(110) < lengths[:, None]))
    places = _places(markers == 1)
    assert places.shape == (MANY, 2)
    assert places[:, 0].max() <= 9 + 1  # the second may be before the first
    assert places[:, 1].max() == 49
    assert set(places.min(1)) >= set(range(10))
    np.testing.assert_array_equal(markers[np.arange(MANY), lengths - 1], -1)
    unmarked = np.all(places > 0, 1)
    np.testing.assert_array_equal(markers[unmarked, 0], -1)
    np.testing.assert_array_equal(values[~unmarked, 0], 0)
    assert np.all(np.sum(markers != 0, 1) == 3 + unmarked)
    sums = np.where(markers == 1, values, 0).sum(1)
    np.testing.assert_allclose(target[:, 0], 0.5 + sums / 4, rtol=1e-6)
    assert values.min() < -0.99
    assert values.max() > 0.99


def test_ordered_symbols_as_they_are_described():
    xs, mask, target = _drawn(hochreiter.ordered_symbols)
    symbols, lengths = xs.argmax(-1), mask.sum(1)
    assert xs.shape == (MANY, 110, 8)
    assert np.all(xs.sum(-1) == 1)
    assert set(lengths) == set(range(100, 111))
    np.testing.assert_array_equal(symbols[:, 0], 0)
    np.testing.assert_array_equal(symbols[np.arange(MANY), lengths - 1], 1)
    relevant = (symbols == 2) | (symbols == 3)
    places = _places(relevant)
    assert set(places[:, 0]) == set(range(10, 21))
    assert set(places[:, 1]) == set(range(50, 61))
    others = symbols[mask & ~relevant & (symbols > 1)]
    np.testing.assert_allclose(np.bincount(others)[4:] / len(others), 1 / 4, atol=0.01)
    first, second = (symbols[np.arange(MANY), places[:, k]] - 2 for k in range(2))
    np.testing.assert_array_equal(target.argmax(-1), 2 * first + second)
    assert np.all(target.sum(-1) == 1)
    np.testing.assert_allclose(target.mean(0), 1 / 4, atol=0.05)


@pytest.mark.parametrize(("name", "size"), [("hochreiter-adding", 93), ("hochreiter-order", 156)])
def test_claims_as_they_are_published(name, size):
    claim = get(name)
    assert claim.long
    weights = next(iter(claim.measure()))
    assert (weights.published, weights.ours, weights.verdict) == (size, size, "agrees")


def test_rows_of_networks_that_stopped_and_of_such_that_did_not(monkeypatch):
    monkeypatch.setattr(hochreiter, "MOST", 4)
    monkeypatch.setattr(hochreiter, "TEST", 20)
    easy = dataclasses.replace(hochreiter.ADDING, tolerance=2.0, mean_error=2.0, last=3)
    rows = list(hochreiter.rows(easy, 2, 93, 5))
    assert [row.ours for row in rows[:4]] == [93, 3, 0, 0]
    assert (rows[1].published, rows[1].range) == (5, (3, 3))
    assert rows[4].ours < 2
    assert {row.verdict for row in rows} == {"agrees"}
    assert not any(row.note for row in rows)

    hard = dataclasses.replace(easy, tolerance=1e-9)  # four times what is published is too many
    _, needed, mean, most, _ = hochreiter.rows(hard, 2, 93, 5)
    assert (needed.ours, needed.verdict) == (20, "differs")
    assert needed.note == "2 of 2 had not stopped after 20"
    assert (mean.ours, most.ours) == (20, 20)
    monkeypatch.setattr(hochreiter, "MOST", 2)  # and twice might not have been
    _, needed, *_ = hochreiter.rows(hard, 2, 93, 5)
    assert (needed.ours, needed.verdict) == (10, "not comparable")
