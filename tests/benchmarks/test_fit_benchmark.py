"""The benchmark's own parts, at a size that takes no time."""

from __future__ import annotations

from benchmarks.fit import QUICK, measure, story
from benchmarks.training import machine


def test_all_sides_end_with_the_same_params_and_the_story_says_so():
    outcome = measure(QUICK[0], rounds=1)
    assert outcome.wrong == []
    assert set(outcome.seconds) == {"fit", "fit with the bar", "by hand"}
    assert [len(figure.ratios) for figure in outcome.figures] == [1, 1]
    facts = machine() | {"rounds": 1, "versions": {}, "load": [0.0, 0.0], "backend": "cpu"}
    text = story([outcome], facts)
    assert "elman T=4 B=3 H=4, 30 steps\n" in text
    assert "| a loop by hand over fit" in text
