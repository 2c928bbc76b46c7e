"""The picture of a comparison."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from close import says
from plot.results import entries, line

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
        solved_at=np.array([20.0, np.nan, 10.0]),
        solved_at_end=np.array([True, False, False]),
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
    names = [f"{cell}, none: 2 of 3, 1 at the end" for cell in ("elman", "gru")]
    np.testing.assert_allclose(line(ax, names[0]).get_xydata(), [[10, 0.2], [20, 0.1]])
    assert entries(ax) == [*names, "a guess without memory", "solved"]
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [0.05, 0.4])
    assert ax.get_yscale() == "log"


def stars(ax):
    """What is marked at the end."""
    return [
        tuple(mark.get_xydata()[0].tolist()) for mark in ax.get_lines() if mark.get_marker() == "*"
    ]


def test_a_star_is_what_was_reached_on_other_sequences():
    tested = PAIRS.trials[0]
    tested = tested._replace(final=tested.final | {"mse": np.array([7.0, 5.0, 9.0])})
    assert stars(draw(result(tested), "learning")) == [(20, 7)]


def diverging(metric="mse", relation="<"):
    """The last of three seeds ends in NaN; its accuracy is then that of a constant answer."""
    whole = trial("elman", "none", 0.1)
    seeds = whole.history["mse"]
    lost = np.where([[0, 0, 0], [0, 0, 1]], np.nan, seeds)
    flow = SimpleNamespace(rate=np.array([-0.3, -0.1, np.nan]), horizon=np.array([5, 9, np.nan]))
    history = {"loss": lost, metric: lost if metric == "mse" else seeds}
    whole = whole._replace(
        history=history,
        final={name: rows[-1] for name, rows in history.items()},
        diverged=np.array([False, False, True]),
        end=flow,
    )
    return result(whole)._replace(goal=(metric, relation, 0.01), baseline={metric: 1 / 6})


def test_a_seed_that_has_diverged_is_the_worst():
    """The median is of the others and of it, whether small is good or large."""
    for found, median in ((diverging(), 0.1), (diverging("accuracy", ">"), 0.05)):
        ax = draw(found, "learning")
        curve = line(ax, "elman, none: 2 of 3, 1 at the end, 1 diverged")
        np.testing.assert_allclose(curve.get_ydata(), [0.2, median])
        np.testing.assert_allclose(stars(ax), [(20, median)])


def test_most_seeds_have_diverged():
    (lost,) = diverging().trials
    gone = np.full((2, 3), np.nan)
    lost = lost._replace(history={"mse": gone, "loss": gone}, final={"mse": gone[0]})
    ax = draw(result(lost), "learning")
    assert r"$\infty$" in entries(ax)
    assert not stars(ax)


def test_the_flow_is_that_of_the_seeds_of_which_it_is_known():
    for field, ends in (("rate", [-0.5, -0.2]), ("horizon", [5, 7])):
        row = draw(diverging(), field).get_lines()[0]
        np.testing.assert_allclose(row.get_xdata(), ends)


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
