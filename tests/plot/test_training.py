"""The picture of a run, by what it draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from close import says
from plot.results import entries, line, looks, marks, watched

import recurrax as rx


class Fit(NamedTuple):
    """The one field of a `rx.train.Fit` that is drawn."""

    history: dict


def history(**more):
    made = {
        "step": np.array([10, 20, 30]),
        "loss": np.array([0.5, 0.2, 0.1]),
        "accuracy": np.array([0.1, 0.5, 0.9]),
        "gradient_norm": np.array([3.0, 2.0, 1.0]),
    }
    return made | more


def draw(results, **options):
    return rx.plot.training(results, rx.plot.blank_axes(), **options)


@pytest.mark.parametrize("results", [history(), Fit(history()), {"": history()}])
def test_a_field_against_the_training_step(results):
    ax = draw(results, field="accuracy", levels={"baseline": 0.1, "goal": 0.95})
    assert line(ax, "training").get_xydata().tolist() == [[10, 0.1], [20, 0.5], [30, 0.9]]
    assert line(ax, "goal = 0.95").get_ydata() == [0.95, 0.95]
    assert entries(ax) == ["training", "baseline = 0.1", "goal = 0.95"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == (
        "training step",
        "accuracy",
        "linear",
    )
    kinds = [looks(drawn) for drawn in ax.get_lines()]
    assert len(set(map(repr, kinds))) == 3  # told apart without colour


def test_test_data_where_it_was_evaluated():
    ax = draw(history(test_loss=np.array([np.nan, 0.4, 0.3])))
    assert line(ax, "test").get_xydata().tolist() == [[20, 0.4], [30, 0.3]]
    assert not marks(ax)


def test_gradient_norm_with_its_largest_and_the_clipped_steps():
    more = {"gradient_norm_max": np.array([9.0, 8.0, 7.0]), "clip_fraction": np.array([1, 0.5, 0])}
    ax = draw(history(**more), field="gradient_norm", levels={"clip": 2})
    assert line(ax, "mean").get_ydata().tolist() == [3, 2, 1]
    assert line(ax, "largest").get_ydata().tolist() == [9, 8, 7]
    (ground,) = ax.collections
    corners = ground.get_paths()[0].vertices
    assert corners[(corners[:, 0] > 10) & (corners[:, 0] <= 20), 1].max() == 0.5
    assert corners[corners[:, 0] == 0, 1].max() == 1  # the first report is of the first ten steps
    assert ax.get_yscale() == "log"
    assert "clipped (share of the height)" in entries(ax)


def test_what_was_watched():
    ax = draw(history(flow=watched()), field="horizon")
    assert ax.get_lines()[0].get_xdata().tolist() == [0, 5, 10]


def test_parts_that_were_watched_by_name():
    ax = draw({"run": history(flow={"a": watched(), "b": watched()})}, field="horizon")
    assert entries(ax) == ["run a", "run b"]


def test_a_learning_rate_that_changes_stands_beside_the_loss():
    ax = draw(history(learning_rate=np.array([0.02, 0.01, 0.005])))
    rate = line(ax, "learning rate (share of 0.02)")
    assert rate.get_ydata().tolist() == [1, 0.5, 0.25]
    assert rate.get_transform() == ax.get_xaxis_transform()
    constant = history(learning_rate=np.full(3, 0.1))
    assert entries(draw(constant)) == ["training"]
    ax = draw(constant, field="learning_rate")
    assert ax.get_ylabel() == "learning rate"


def test_a_loss_that_ranges_wide_is_logarithmic():
    assert draw(history()).get_yscale() == "linear"
    assert draw(history(loss=np.array([1.0, 0.1, 0.01]))).get_yscale() == "log"


def test_divergence_is_marked():
    assert marks(draw(history(loss=np.array([1.0, np.inf, np.nan])))) == {"^": [20], "x": [30]}


def test_several_runs():
    ax = draw({"lstm": Fit(history()), "gru": history()}, field="gradient_norm")
    assert entries(ax) == ["lstm", "gru"]


def test_messages():
    with says(
        TypeError,
        "results must be a rx.train.Fit or its history, or several by name in a dict; got str",
    ):
        draw("x")
    with says(ValueError, "results must hold at least one rx.train.Fit, got none"):
        draw({})
    with says(TypeError, "results['a'] must be a rx.train.Fit or its history, got int"):
        draw({"a": 3})
    with says(ValueError, "results holds no report yet: its history is empty"):
        draw({"step": np.zeros(0, int)})
    with says(
        ValueError,
        "field must be one that results has ('loss', 'accuracy', 'gradient_norm'), got 'horizon'",
    ):
        draw(history(), field="horizon")
    with says(TypeError, "levels must hold numbers by name in a dict, got float"):
        draw(history(), levels=0.1)
    with says(TypeError, "levels['goal'] must be a number, got 'x'"):
        draw(history(), levels={"goal": "x"})


def test_rows_that_were_lost_are_left_out():
    """They are no sign of divergence; and if all are, the picture is empty."""
    speed = np.array([1.0, np.nan, 1.0])
    history = {"step": np.array([1, 2, 3]), "loss": speed * 2, "gradient_norm": speed}
    for field in ("loss", "gradient_norm"):
        ax = rx.plot.training(
            history | {"steps_per_second": speed}, rx.plot.blank_axes(), field=field
        )
        (line, *_) = ax.get_lines()
        assert line.get_xdata().tolist() == [1, 3]
        gone = {name: values * np.nan for name, values in history.items() if name != "step"}
        gone |= {"step": history["step"], "steps_per_second": speed * np.nan}
        assert len(rx.plot.training(gone, rx.plot.blank_axes(), field=field).get_lines()) == 0
