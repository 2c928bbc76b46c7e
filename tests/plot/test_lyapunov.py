"""The picture of the Lyapunov exponents."""

from __future__ import annotations

import numpy as np
from close import says
from plot.results import band, entries, line, lyapunov, marks

import recurrax as rx


def draw(result, **options):
    return rx.plot.lyapunov(result, rx.plot.blank_axes(), **options)


def bars(ax):
    """Where the error bars stand, and their ends."""
    (container,) = ax.containers
    return np.array(container.lines[2][0].get_segments())


def test_line_band_and_bars_hold_the_numbers():
    ax = draw(lyapunov())
    middle = 0.2 - 0.3 * np.arange(5)
    drawn = line(ax, "11 examples")
    np.testing.assert_array_equal(drawn.get_xdata(), np.arange(1, 6))
    np.testing.assert_allclose(drawn.get_ydata(), middle, atol=1e-12)
    np.testing.assert_allclose(band(ax)[0], middle - 0.08, atol=1e-12)
    np.testing.assert_array_equal(bars(ax)[:, 0, 0], np.arange(1, 6))
    np.testing.assert_allclose(bars(ax)[..., 1], middle[:, None] + [-0.02, 0.02], atol=1e-12)
    assert ax.get_xlabel() == "index i of the exponent"
    assert ax.get_ylabel() == "Lyapunov exponent  (nats a step)"


def test_unknown_errors_have_no_bar_and_minus_infinity_a_mark():
    made = lyapunov()
    exponents, errors = made.exponents[0].copy(), made.standard_errors[0].copy()
    errors[1], exponents[4], errors[4] = np.inf, -np.inf, np.inf
    ax = draw(made._replace(exponents=exponents, standard_errors=errors))
    np.testing.assert_array_equal(bars(ax)[:, 0, 0], [1, 3, 4])
    assert marks(ax) == {"v": [5]}
    assert entries(ax) == [r"$-\infty$"]


def test_sizes_by_name():
    ax = draw({"a": lyapunov(), "b": lyapunov()}, size={"a": 5, "b": 10})
    np.testing.assert_allclose(line(ax, "a").get_xdata(), np.arange(1, 6) / 5)
    np.testing.assert_allclose(line(ax, "b").get_xdata(), np.arange(1, 6) / 10)
    assert ax.get_xlabel() == "index i / N"


def test_theory_is_drawn_by_name():
    ax = draw(lyapunov(), theory={"largest": 0.31, "mean": -2.27})
    assert entries(ax) == ["11 examples", "largest", "mean"]
    np.testing.assert_array_equal(line(ax, "mean").get_ydata(), -2.27)
    assert line(ax, "mean")._unscaled_dash_pattern != line(ax, "largest")._unscaled_dash_pattern


def test_of_one_exponent_of_one_example():
    made = lyapunov()
    ax = draw(made._replace(exponents=made.exponents[0, :1], standard_errors=np.array([np.inf])))
    assert ax.get_lines()[0].get_markevery() == [0]
    assert ax.get_legend() is None


def test_arguments():
    with says(ValueError, "size must be N, at least the 5 exponents measured, got 4"):
        draw(lyapunov(), size=4)
    with says(TypeError, "size must be a positive integer, got 'N'"):
        draw(lyapunov(), size="N")
    with says(ValueError, "size must hold N for every result, and has none for 'b'"):
        draw({"a": lyapunov(), "b": lyapunov()}, size={"a": 5})
    with says(TypeError, "theory must hold numbers by name in a dict, in nats a step; got float"):
        draw(lyapunov(), theory=0.3)
    with says(TypeError, "theory['mean'] must be a number, got '0.3'"):
        draw(lyapunov(), theory={"mean": "0.3"})
