"""The picture of the gradient of a loss by the states."""

from __future__ import annotations

import numpy as np
from plot.results import STEPS, band, line, loss_gradients, marks

import recurrax as rx


def test_line_and_band_hold_the_numbers():
    ax = rx.plot.loss_gradients(loss_gradients(), rx.plot.blank_axes())
    np.testing.assert_array_equal(line(ax, "11 examples").get_xdata(), STEPS)
    np.testing.assert_allclose(line(ax, "11 examples").get_ydata(), 0.5 * STEPS)
    np.testing.assert_allclose(band(ax)[1], 0.5 * STEPS + 0.8)


def test_states_that_the_loss_does_not_see_are_marked():
    logs = np.where(STEPS > 9, -np.inf, -STEPS)
    ax = rx.plot.loss_gradients(loss_gradients()._replace(log_norm=logs), rx.plot.blank_axes())
    assert marks(ax) == {"v": [10, 11, 12]}
