"""The benchmark's own parts, at a size that takes no time."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.decay import Line, fit, measure, story


def test_the_sum_of_a_line():
    line = Line(start=0.5, per_step=0.25)
    np.testing.assert_allclose(line.total(7), sum(0.5 + 0.25 * t for t in range(1, 8)))


def test_the_fit_finds_a_line():
    line = fit({t: 0.5 + 0.25 * t for t in (1, 4, 9)})
    np.testing.assert_allclose(line, (0.5, 0.25), rtol=1e-12)
    assert fit({1: 0.3, 2: 0.1}).per_step == 0  # noise does not make a negative price


def test_both_sides_agree_and_the_story_says_so():
    result = measure(hidden=3, length=12, at=[2, 5, 12], rounds=1)
    assert result.compared == [2, 5, 12]
    assert result.difference < 1e-5
    assert math.isclose(result.ratio, result.line.total(12) / result.decay)
    text = story(result, 3, 12)
    assert text.startswith("LSTM H = 3 (N = 6), T = 12, one sequence, float32\n")
    assert f"\nratio: {result.ratio:.0f}\n" in text
