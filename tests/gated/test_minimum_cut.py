"""The minimum cut, against every possible one."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurrax.gated.derivatives import minimum_cut


def separates(cut, edges, lost, wanted):
    reached, queue = set(), [v for v in lost if v not in cut]
    while queue:
        a = queue.pop()
        reached.add(a)
        queue += [b for x, b in edges if x == a and b not in cut and b not in reached]
    return not reached & set(wanted)


@given(seed=st.integers(0, 2**32))
def test_no_cut_is_smaller(seed):
    draw = random.Random(seed)
    n = 7
    edges = [(a, b) for a, b in itertools.combinations(range(n), 2) if draw.random() < 0.4]
    size = {v: draw.choice([0, 1, 2, 5]) for v in range(n)}
    lost, wanted = [0, 1], [n - 2, n - 1]
    cuts = (c for k in range(n + 1) for c in itertools.combinations(range(n), k))
    best = min(sum(size[v] for v in c) for c in cuts if separates(c, edges, lost, wanted))
    found = minimum_cut(edges, size, lost, wanted)
    assert separates(found, edges, lost, wanted)
    assert sum(size[v] for v in found) == best


def test_of_two_cuts_of_one_size_the_one_nearest_to_what_is_wanted():
    edges = [("z", "a"), ("a", "b"), ("b", "c")]
    assert minimum_cut(edges, dict.fromkeys("zabc", 3), ["z"], ["c"]) == {"c"}


@pytest.mark.parametrize("wanted", [[], ["b"]])
def test_nothing_to_cut(wanted):
    assert minimum_cut([("z", "a")], {"z": 1, "a": 1, "b": 1}, ["z"], wanted) == set()


def test_what_is_lost_may_be_wanted_itself():
    assert minimum_cut([], {"z": 4}, ["z"], ["z"]) == {"z"}
