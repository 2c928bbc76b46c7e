"""When two numbers agree, and what a row keeps of several seeds."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from recurrax.published.claim import (
    Claim,
    Tolerance,
    absolute,
    at_least,
    at_most,
    compared,
    factor,
    not_comparable,
    of_range,
    relative,
    stated,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("within", "published", "agree", "differ"),
    [
        (absolute(0.5), 2.0, [1.5, 2.5, 2.0], [1.4, 2.6, NAN, INF]),
        (relative(0.1), -10.0, [-9.0, -11.0], [-8.9, -11.1, 10.0, NAN]),
        (factor(3.0), 100.0, [34.0, 299.0], [33.0, 301.0, -100.0, 0.0, NAN, INF]),
        (factor(3.0), 0.0, [0.0], [0.1, -0.1]),
        (absolute(0.0), 8, [8], [8.001]),
        (at_most(), 0.2, [0.2, -5.0, 0.1], [0.21, NAN]),
        (at_least(), 0.2, [0.2, 5.0], [0.19, NAN]),
        (of_range(0.5), 2.0, [[1.0, 1.2, 1.5], [9.0, 2.5], 2.5], [[1.0, 1.4], 2.6, [NAN, NAN]]),
        (absolute(0.5), 2.0, [[0.0, 2.0, 9.0]], [[0.0, 2.6, 2.7], [2.0, NAN]]),
        (absolute(1.0), INF, [INF], [1e300, -INF, NAN]),
        (absolute(1.0), NAN, [], [NAN, 0.0]),
    ],
)
def test_what_agrees(within, published, agree, differ):
    for ours in agree:
        assert compared("it", published, ours, within).verdict == "agrees", ours
    for ours in differ:
        assert compared("it", published, ours, within).verdict == "differs", ours


def test_words_of_tolerances():
    kinds = absolute(0.02), relative(0.03), factor(10.0), of_range(0.1), at_most(), at_least()
    words = ["+- 0.02", "+- 3 %", "a factor of 10", "the range +- 0.1", "at most", "at least"]
    assert list(map(str, kinds)) == words
    assert compared("it", 1, 1, relative(0.03)).tolerance == "+- 3 %"


def test_a_row_keeps_median_and_range_as_plain_numbers():
    row = compared("it", 1, jnp.float32(2.0), absolute(1.5), "why")
    assert row == ("it", 1.0, 2.0, None, "+- 1.5", "agrees", "why")
    assert (type(row.published), type(row.ours)) == (float, float)
    for seeds in ([5, 1, 2], (x for x in (1, 2, 5)), np.array([2.0, 5.0, 1.0]), jnp.arange(3) + 1):
        row = compared("it", 2, seeds, absolute(0))
        assert (row.ours, row.range[0], row.verdict) == (2.0, 1.0, "agrees")
    row = compared("it", 0.0, 3.0, of_range(0.1), others=[0.1, 9.0])
    assert (row.ours, row.range, row.verdict) == (3.0, (0.1, 9.0), "agrees")


def test_rows_of_words():
    row = stated("wrong", [0, 3, 1], False, "none is wrong")
    assert math.isnan(row.published)
    assert row[2:] == (1.0, (0.0, 3.0), "none is wrong", "differs", "")
    assert not_comparable("steps", 7, 8.0, "cut short").verdict == "not comparable"
    assert not_comparable("steps", 7, 8.0, "cut short").note == "cut short"


def test_bad_input():
    with pytest.raises(ValueError, match=r"\Akind must be one of absolute, .*; got 'abs'\Z"):
        Tolerance("abs", 0.1)
    with pytest.raises(ValueError, match=r"\Asize of absolute must be at least 0, got -0.1\Z"):
        absolute(-0.1)
    with pytest.raises(ValueError, match=r"\Asize of factor must be at least 1, got 0.5\Z"):
        factor(0.5)
    with pytest.raises(ValueError, match=r"\Aours must be a number or several, got none\Z"):
        compared("it", 1.0, [], absolute(1))


def test_a_claim_takes_seconds_in_float32_unless_it_says_more():
    claim = Claim("a", "b", "c", "d", list)
    assert (claim.long, claim.float64) == (False, False)
