"""What mean-field theory says, as the claims have it."""

from __future__ import annotations

import math

import numpy as np

import recurrax as rx
from recurrax.published.starts import mean_field


def test_tied_and_untied_agree_with_their_sums():
    (found,) = rx.published.reproduce(["tied-weights"])
    assert [row.verdict for row in found.rows] == 4 * ["agrees"]
    ways = [math.comb(20, k) ** 2 * 0.9 ** (2 * (20 - k)) * 0.1 ** (2 * k) for k in range(21)]
    expected = [0.82**20, 0.82**20, sum(ways), sum(ways)]
    np.testing.assert_allclose([row.published for row in found.rows], expected, rtol=2e-3)


def test_one_matrix_for_all_times_is_told_from_fresh_ones(monkeypatch):
    def the_other(*arguments, weights, **options):
        return predict(*arguments, weights="tied" if weights == "untied" else "untied", **options)

    predict = mean_field.predict
    monkeypatch.setattr(mean_field, "predict", the_other)
    (found,) = rx.published.reproduce(["tied-weights"])
    assert [row.verdict for row in found.rows] == 2 * ["differs", "agrees"]


def test_the_minimal_network_agrees_and_another_point_does_not(monkeypatch):
    (found,) = rx.published.reproduce(["minimal-network"])
    assert [row.verdict for row in found.rows] == ["agrees"]
    monkeypatch.setattr(mean_field, "SIGMA_W", 6.0)
    (found,) = rx.published.reproduce(["minimal-network"])
    assert [row.verdict for row in found.rows] == ["differs"]
