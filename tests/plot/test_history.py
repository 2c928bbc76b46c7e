"""The picture of the training."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from close import says
from plot.results import entries, line, marks, watched

import recurrax as rx


def draw(results, **options):
    return rx.plot.history(results, rx.plot.blank_axes(), **options)


def points(ax):
    return ax.get_lines()[0].get_xydata().tolist()


def singles():
    """The rows of the stack one by one."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], watched()) for i in range(6)]


@pytest.mark.parametrize("made", [watched(), singles(), tuple(singles()), {"": watched()}])
def test_each_measurement_is_drawn_once(made):
    assert points(draw(made)) == [[0, -10], [5, -7.5], [10, -5]]


def test_rows_of_nothing_between_do_not_separate_repeats():
    assert points(draw(watched((0, -1, 0, -1, 5)))) == [[0, -10], [5, -7.5]]


def test_chunks_are_joined():
    assert points(draw([watched((0, 5)), watched((5, 10))])) == [[0, -10], [5, -7.5], [10, -5]]


@pytest.mark.parametrize(
    ("field", "last", "label"),
    [
        ("log_frobenius", -4.0, "(nats, median of the batch)"),
        ("rate", -0.1, "(nats a step, median of the batch)"),
        ("horizon", 70.0, "(steps, median of the batch)"),
        ("largest_singular_value", 2.0, "(no unit)"),
        ("gates.f", 0.6, "mean activation of gate f  (no unit)"),
        ("saturated.f", 0.1, "fraction of saturated units of gate f  (no unit)"),
    ],
)
def test_fields(field, last, label):
    ax = draw(watched(), field=field)
    assert points(ax)[-1] == pytest.approx([10, last])
    assert ax.get_ylabel().endswith(label)
    assert ax.get_xlabel() == "training step"


def test_what_is_not_finite_is_marked():
    made = watched((0, 5, 10, 15))
    ax = draw(made._replace(horizon=np.array([20.0, np.inf, 30.0, np.nan])), field="horizon")
    assert marks(ax) == {"^": [5], "x": [15]}
    assert entries(ax) == [r"$\infty$", "NaN"]


def test_several_runs_in_either_form():
    ax = draw({"a": watched(), "b": singles()})
    np.testing.assert_array_equal(line(ax, "a").get_xydata(), line(ax, "b").get_xydata())


def test_messages():
    with says(ValueError, "results must hold at least one rx.flow.Watched, got none"):
        draw([])
    with says(ValueError, "results['a'] must hold at least one rx.flow.Watched, got none"):
        draw({"a": []})
    with says(TypeError, "results[1] must be a rx.flow.Watched, got int"):
        draw([watched(), 3])
    with says(TypeError, "results['a'][0] must be a rx.flow.Watched, got dict"):
        draw({"a": [{}]})
    with says(ValueError, "results holds no measurement yet: the step of every row is -1"):
        draw(watched((-1, -1)))
    with says(
        ValueError,
        "results['a'] must be stacked over the training steps alone, [M], got shape (2, 2). Give "
        "runs that were mapped over by name, one by one.",
    ):
        draw({"a": watched(((0, 5), (0, 5)))})
    for field in ("loss", "gates", "gates.i", "largest_singular_value"):
        with says(
            ValueError,
            "field must be one that results has ('log_norm', 'log_frobenius', 'rate', 'horizon', "
            f"'gates.f', 'saturated.f'), got {field!r}",
        ):
            draw(watched()._replace(largest_singular_value=None), field=field)
