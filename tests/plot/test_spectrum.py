"""The picture of the singular values."""

from __future__ import annotations

import numpy as np
from close import says
from plot.results import band, entries, line, looks, marks, spectrum

import recurrax as rx


def test_lines_and_bands_hold_the_numbers():
    ax = rx.plot.spectrum(spectrum(), rx.plot.blank_axes())
    for t, scale in ((2, 1), (20, 10)):
        drawn = line(ax, f"t = {t}")
        np.testing.assert_array_equal(drawn.get_xdata(), np.arange(1, 7))
        np.testing.assert_allclose(drawn.get_ydata(), -scale * np.arange(1.0, 7.0), atol=1e-12)
    np.testing.assert_allclose(band(ax, 1)[0], -10 * np.arange(1, 7) - 0.8)
    np.testing.assert_allclose(band(ax, 1)[1], -10 * np.arange(1, 7) + 0.8)
    assert entries(ax) == ["t = 2", "t = 20", "log 0.05"]
    np.testing.assert_allclose(line(ax, "log 0.05").get_ydata(), np.log(0.05))


def test_a_singular_product_is_marked_and_no_value_is_lost():
    made = spectrum()
    values = made.log_singular_values.copy()
    values[1, ..., 1:] = -np.inf
    ax = rx.plot.spectrum(made._replace(log_singular_values=values), rx.plot.blank_axes())
    assert marks(ax) == {"v": [2, 3, 4, 5, 6]}
    assert line(ax, "t = 20").get_markevery() == [0]  # the one value left is a point
    assert entries(ax)[-1] == r"$-\infty$"


def test_several_names_and_times_differ_in_grey():
    named = {"lstm": spectrum(), "gru": spectrum()}
    ax = rx.plot.spectrum(named, rx.plot.blank_axes(), below=0.5)
    drawn = [line(ax, f"{name}, t = {t}") for name in named for t in (2, 20)]
    assert len({looks(found) for found in drawn}) == 4
    assert len({found.get_color() for found in drawn}) == 2
    assert entries(ax)[-1] == "log 0.5"


def test_of_one_example():
    made = spectrum()
    one = made._replace(log_singular_values=made.log_singular_values[:, 5])
    ax = rx.plot.spectrum(one, rx.plot.blank_axes())
    assert not ax.collections
    assert ax.get_legend().get_title().get_text() == ""
    np.testing.assert_allclose(line(ax, "t = 2").get_ydata(), -np.arange(1.0, 7.0), atol=1e-12)


def test_below_is_a_fraction():
    with says(ValueError, "below must be between 0 and 1, got 1.0"):
        rx.plot.spectrum(spectrum(), rx.plot.blank_axes(), below=1.0)
