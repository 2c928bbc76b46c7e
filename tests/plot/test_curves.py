"""What all pictures of curves share: bands, marks at the edges, grey, and legends."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from plot.results import entries, line, looks, marks

import recurrax as rx
from recurrax.plot.curves import (
    THICK,
    Curve,
    batch_band,
    draw,
    draw_legend,
    style_table,
    styles,
)

INF, NAN = np.inf, np.nan


def one(values, label="it"):
    values = np.asarray(values)
    return Curve(np.arange(len(values)), values, styles(1)[0], label)


def test_band_is_of_the_nearest_examples():
    low, middle, high = batch_band(np.array([[-INF, 1.0, 2.0], [0.0, 1.0, 2.0], [NAN, 1.0, 2.0]]))
    np.testing.assert_array_equal(low, [-INF, 0, 1])
    np.testing.assert_array_equal(middle, [1, 1, 1])
    np.testing.assert_array_equal(high, [2, 2, 2])


def test_an_example_that_is_nan_is_marked_and_hides_no_other():
    ax = rx.plot.blank_axes()
    draw(ax, [one([[1.0, 2.0, 3.0], [1.0, NAN, 2.0], [NAN, NAN, NAN]])])
    np.testing.assert_array_equal(line(ax, "it").get_ydata(), [2, 1, NAN])
    assert marks(ax) == {"x": [1, 2]}


def test_band_of_several_batch_axes():
    values = np.random.default_rng(0).normal(size=(4, 5, 3))
    np.testing.assert_array_equal(
        batch_band(values)[1], np.sort(values.reshape(4, 15), axis=1)[:, 7]
    )


# --- what has no place on the axis ---------------------------------------------------------------


def test_infinite_medians_are_marked_at_the_edges():
    ax = rx.plot.blank_axes()
    draw(ax, [one([1.0, 2.0, -INF, -INF, 3.0, INF, NAN])])
    draw_legend(ax, batched=False)
    np.testing.assert_array_equal(line(ax, "it").get_ydata(), [1, 2, NAN, NAN, 3, NAN, NAN])
    assert marks(ax) == {"v": [2, 3], "^": [5], "x": [6]}
    assert entries(ax) == ["it", r"$-\infty$", r"$\infty$", "NaN"]
    ax.set_ylim(-1e6, 1e6)  # whatever comes later, they stay at the edge
    ax.figure.draw_without_rendering()
    for mark in ax.get_lines()[1:]:
        height = ax.transAxes.inverted().transform(mark.get_window_extent().get_points())[:, 1]
        assert (height < 0.1).all() or (height > 0.9).all()


def test_marks_of_two_curves_do_not_hide_each_other():
    ax = rx.plot.blank_axes()
    draw(ax, [one([1.0, -INF], "a"), one([2.0, -INF], "b")])
    draw_legend(ax, batched=False)
    heights = [mark.get_ydata()[0] for mark in ax.get_lines() if mark.get_marker() == "v"]
    assert len(set(heights)) == 2
    assert entries(ax) == ["a", "b", r"$-\infty$"]


def test_point_between_gaps_is_marked():
    ax = rx.plot.blank_axes()
    draw(ax, [one([1.0, 2.0, -INF, 3.0, -INF])])
    assert (line(ax, "it").get_marker(), line(ax, "it").get_markevery()) == ("o", [3])
    draw(ax, [one([1.0], "alone")])
    assert line(ax, "alone").get_markevery() == [0]


def test_band_that_is_infinite_on_one_side_reaches_below_all_that_is_finite():
    ax = rx.plot.blank_axes()
    spread = np.linspace(-1, 1, 11)
    draw(ax, [one(np.stack([spread, np.where(spread < -0.5, -INF, spread)])), one([-4.0, -3.0])])
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[corners[:, 0] == 1, 1].min() < -4
    assert corners[corners[:, 0] == 0, 1].min() == pytest.approx(-0.8)
    assert len(ax.collections) == 1  # one without a batch has no band


@pytest.mark.parametrize("value", [-INF, NAN])
def test_nothing_finite_at_all(value, tmp_path):
    ax = rx.plot.blank_axes(3, 2)
    draw(ax, [one(np.full((3, 4), value))])
    rx.plot.save(ax, tmp_path / "p.png", dpi=40)
    assert list(marks(ax).values()) == [[0, 1, 2]]


# --- grey ----------------------------------------------------------------------------------------


def test_styles_differ_without_colour():
    assert len({(repr(s.dashes), s.marker) for s in styles(42)}) == 42
    assert styles(43)[42] == styles(1)[0]


@pytest.mark.parametrize(("rows", "columns"), [(1, 9), (3, 4), (8, 3), (2, 9)])
def test_table_of_styles_differs_without_colour(rows, columns):
    table = style_table(rows, columns)
    assert (len(table), len(table[0])) == (rows, columns)
    assert len({(repr(s.dashes), s.marker) for row in table for s in row}) == rows * columns


def test_lines_of_a_picture_with_many_names_differ_in_grey():
    values = -np.arange(1.0, 41.0)
    named = {f"cell {i}": rx.flow.Decay(values - i, values) for i in range(20)}
    ax = rx.plot.decay(named, rx.plot.blank_axes())
    assert len({looks(line(ax, name)) for name in named}) == 20


def test_colours_are_darker_than_the_paper():
    for style in styles(6):
        assert np.dot(to_rgba(style.colour)[:3], [0.299, 0.587, 0.114]) < 0.72


# --- legends -------------------------------------------------------------------------------------


def test_legend_names_each_once_and_the_band():
    ax = rx.plot.blank_axes()
    draw_legend(ax, batched=True)
    assert ax.get_legend() is None
    draw(ax, [one([1.0, 2.0], "a"), one([2.0, 3.0], "a"), one([2.0, 4.0], "b")])
    draw_legend(ax, batched=True)
    assert entries(ax) == ["a", "b"]
    assert ax.get_legend().get_title().get_text() == "median; band: middle 80 % of the batch"
    draw_legend(ax, batched=False)
    assert ax.get_legend().get_title().get_text() == ""


@pytest.mark.parametrize("width", [4.0, 7.0, 12.0])
def test_legend_of_many_stands_below_and_within_the_figure(width):
    ax = rx.plot.blank_axes(width, 4.5)
    draw(ax, [one([1.0, 2.0 + i], f"a name of some letters {i}") for i in range(9)])
    draw_legend(ax, batched=True)
    ax.set_xlabel("steps t")
    ax.figure.draw_without_rendering()
    legend, axis = ax.get_legend().get_window_extent(), ax.xaxis.get_tightbbox()
    assert legend.y1 <= axis.y0
    assert legend.x0 >= 0
    assert legend.y0 >= 0
    assert legend.x1 <= ax.figure.bbox.x1
    assert ax.get_legend()._ncols >= (2 if width > 4 else 1)


def test_lines_are_of_one_width_and_rcparams_are_left_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    ax = rx.plot.blank_axes()
    draw(ax, [one([1.0, 2.0])])
    draw_legend(ax, batched=False)
    assert line(ax, "it").get_linewidth() == THICK
    assert dict(mpl.rcParams) == before
