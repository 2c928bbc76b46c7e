"""The picture of the lags."""

from __future__ import annotations

import numpy as np
from close import says
from plot.results import entries, lag_profile, line, looks, marks

import recurrax as rx

LOST, PART = "lost after lag k; K = 4 keeps 95 %", "part of lag k"


def draw(result, **options):
    return rx.plot.lag_profile(result, rx.plot.blank_axes(), **options)


def test_lines_and_truncation_hold_the_numbers():
    made = lag_profile()
    ax = draw(made)
    assert entries(ax) == [LOST, PART, "log 0.05", r"$-\infty$"]
    parts = 0.5 ** np.arange(12) / (2 - 0.5**11)
    np.testing.assert_allclose(line(ax, PART).get_ydata(), np.log(parts))
    np.testing.assert_array_equal(line(ax, PART).get_xdata(), np.arange(12))
    np.testing.assert_allclose(line(ax, LOST).get_ydata()[:-1], np.log(made.error[:-1]))
    assert marks(ax) == {"v": [11]}  # after the last lag nothing is lost
    (cut,) = [found for found in ax.get_lines() if list(found.get_xdata()) == [4, 4]]
    assert looks(cut)[0] == looks(line(ax, LOST))[0]
    np.testing.assert_allclose(line(ax, "log 0.05").get_ydata(), np.log(0.05))
    assert made.error[4] <= 0.05 < made.error[3]


def test_keep():
    ax = draw(lag_profile(), keep=0.999)
    assert entries(ax)[0] == "lost after lag k; K = 9 keeps 99.9 %"
    assert "log 0.001" in entries(ax)
    with says(ValueError, "keep must be between 0 and 1, got 1.5"):
        draw(lag_profile(), keep=1.5)


def test_several_differ_in_grey():
    ax = draw({name: lag_profile() for name in ("lstm", "gru", "elman")})
    drawn = [line(ax, f"{n}: {k}") for n in ("lstm", "gru", "elman") for k in (LOST, PART)]
    assert len({looks(found) for found in drawn}) == 6


def test_parts_that_cancel_to_nothing_are_at_the_top():
    """G is zero, G_0 and G_1 are opposite, and all the others are zero."""
    logs = np.where(np.arange(12) < 2, 0.0, -np.inf)
    error = np.where(np.arange(12) < 1, np.inf, 0.0)
    made = lag_profile()._replace(log_norm=logs, error=error, log_total=np.asarray(-np.inf))
    found = [mark for mark in draw(made).get_lines() if mark.get_marker() in ("v", "^")]
    tops = [mark.get_xdata().tolist() for mark in found if mark.get_marker() == "^"]
    assert tops == [[0], [0, 1]]
    bottoms = [mark.get_xdata().tolist() for mark in found if mark.get_marker() == "v"]
    assert bottoms == [list(range(1, 12)), list(range(2, 12))]


def test_nan_is_refused():
    made = lag_profile()._replace(error=np.full(12, np.nan))
    with says(ValueError, "profile holds NaN, so nothing is kept: was the trajectory finite?"):
        draw(made)
