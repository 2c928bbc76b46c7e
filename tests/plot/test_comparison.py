"""The picture of a comparison."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from close import says
from plot.seen import entries, line

import recurrax as rx


def trial(cell, cure, height, horizon=20.0):
    """Two reports of three seeds around a height."""
    seeds = height * np.array([[1.0, 2.0, 4.0], [0.5, 1.0, 2.0]])
    flow = [
        SimpleNamespace(rate=np.full(3, rate), horizon=np.full(3, steps))
        for rate, steps in ((-0.5, 5.0), (-0.1, horizon))
    ]
    return rx.train.Trial(
        cell=cell,
        cure=cure,
        learning_rate=0.01,
        step=np.array([10, 20]),
        history={"mse": seeds, "loss": seeds},
        solved_at=np.full(3, np.nan),
        diverged=np.zeros(3, bool),
        final={"mse": seeds[-1], "loss": seeds[-1]},
        start=flow[0],
        end=flow[1],
        seconds=1.0,
    )


def result(*trials):
    baseline = {"mse": 1 / 6, "loss": 1 / 6}
    return rx.train.Comparison("adding", 8, ("mse", "<", 0.01), baseline, trials)


PAIRS = result(trial("elman", "none", 0.1), trial("gru", "none", 0.01, np.inf))


def draw(found, field):
    return rx.plot.comparison(found, rx.plot.blank_axes(), field=field)


def test_learning_is_the_median_in_a_band_with_the_levels_across():
    ax = draw(PAIRS, "learning")
    np.testing.assert_allclose(line(ax, "elman, none").get_xydata(), [[10, 0.2], [20, 0.1]])
    assert entries(ax) == ["elman, none", "gru, none", "a guess without memory", "solved"]
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [0.05, 0.4])
    assert ax.get_yscale() == "log"


def test_the_test_split_is_drawn_where_there_is_one():
    tested = PAIRS.trials[0]
    tested = tested._replace(history=tested.history | {"test_mse": np.full((2, 3), 7.0)})
    assert line(draw(result(tested), "learning"), "elman, none").get_ydata().tolist() == [7, 7]


def test_a_row_from_the_start_to_the_end():
    ax = draw(PAIRS, "rate")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["elman, none", "gru, none"]
    first = ax.get_lines()[0]
    assert first.get_xydata().tolist() == [[-0.5, 0], [-0.1, 0]]
    assert ax.get_xlabel().endswith("(nats a step)")


def test_a_horizon_without_end_is_beyond_all_others():
    ax = draw(PAIRS, "horizon")
    ends = [mark for mark in ax.get_lines() if mark.get_marker() == ">"]
    assert len(ends) == 1
    assert ends[0].get_xdata()[0] > 20
    assert ends[0].get_ydata()[0] == 1


def test_a_pair_of_which_nothing_is_known_has_a_row():
    lost = trial("elman", "none", np.nan, np.nan)
    for field in ("learning", "rate", "horizon"):
        draw(result(lost), field).figure.canvas.draw()


def test_messages():
    with says(TypeError, "result must be what rx.train.compare returns, got int"):
        draw(3, "learning")
    with pytest.raises(ValueError, match="field must be one of 'learning', 'rate', 'horizon'"):
        draw(PAIRS, "loss")
