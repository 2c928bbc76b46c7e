"""The picture of the two paths and the gates."""

from __future__ import annotations

import numpy as np
from plot.results import band, entries, line, looks, marks, paths

import recurrax as rx

SHARE = "share of the detour"


def test_share_and_gates_hold_the_numbers():
    ax = rx.plot.paths(paths(), rx.plot.blank_axes())
    share = np.clip(np.arange(1, 13) / 10, 0, 1)
    np.testing.assert_allclose(line(ax, SHARE).get_ydata(), share)
    np.testing.assert_allclose(band(ax)[0], share - 0.08)
    np.testing.assert_allclose(band(ax)[1], share + 0.08)
    np.testing.assert_allclose(line(ax, "gate i").get_ydata(), 0.3 + 0.1 * share)
    np.testing.assert_allclose(line(ax, "gate f").get_ydata(), 0.9 - 0.1 * share)
    np.testing.assert_array_equal(line(ax, "gate f").get_xdata(), np.arange(1, 13))
    assert entries(ax) == [SHARE, "gate i", "gate f"]
    assert len({looks(found) for found in (line(ax, name) for name in entries(ax))}) == 3
    assert ax.get_ylabel() == "share, mean of each gate  (no unit)"


def test_share_above_one_and_nan():
    made = paths()
    share = made.share.copy()
    share[3], share[4] = 2.5, np.nan
    ax = rx.plot.paths(made._replace(share=share), rx.plot.blank_axes())
    assert line(ax, SHARE).get_ydata()[3] == 2.5
    assert ax.get_ylim()[1] > 2.5
    assert marks(ax) == {"x": [5]}
    assert entries(ax)[-1] == "NaN"


def test_without_gates_and_without_batch():
    made = paths()
    ax = rx.plot.paths(made._replace(share=made.share[:, 5], gates=None), rx.plot.blank_axes())
    assert entries(ax) == [SHARE]
    assert ax.get_ylabel() == "share  (no unit)"
    assert not ax.collections
