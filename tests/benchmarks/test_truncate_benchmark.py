"""The benchmark's own parts, at a size that takes no time."""

from __future__ import annotations

import jax
import numpy as np
from benchmarks.training import machine
from benchmarks.truncate import AUTO, DELAY, QUICK, REMAT, one, story, table, task_of, ways


def test_each_way_is_measured_and_the_story_says_so():
    found = {way: [one(QUICK[0], way)] for way in (AUTO, REMAT)}
    auto = found[AUTO][0]
    assert auto["chunks"]
    assert auto["measuring"] > 0
    assert min(auto["seconds"], auto["gradient"], auto["loss"]) > 0
    facts = machine() | {"rounds": 1, "versions": {}, "load": [0.0, 0.0], "backend": "cpu"}
    text = story([table(QUICK[0], found)], facts)
    assert "echo, GRU, T=30 B=2 H=4, 6 steps\n" in text
    assert '| truncate="auto" | ' in text
    assert len(ways(QUICK[0])) == 5


def test_an_echo_answers_what_came_some_steps_ago():
    batch = task_of(QUICK[0]).draw(jax.random.key(1), 3)
    np.testing.assert_array_equal(batch.targets[DELAY:], batch.xs[:-DELAY])
    assert batch.weights.sum() == (30 - DELAY) * 3
