"""The picture of bounds, predictions and measurement."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from plot.results import STEPS, band, entries, line, looks, marks, report

import recurrax as rx

LABELS = [
    "measured: log norm",
    "predicted, tied: log Frobenius",
    "predicted, untied: log Frobenius",
    "measured: log Frobenius",
    "upper bound, step by step",
    "lower bound, step by step",
    "upper bound, weights alone",
]


def draw(result):
    return rx.plot.report(result, rx.plot.blank_axes())


def test_lines_hold_the_numbers():
    made = report()
    ax = draw(made)
    assert entries(ax) == LABELS
    drawn = {label: line(ax, label) for label in LABELS}
    squares = np.exp(2 * made.decay.log_frobenius).mean(1)
    for label, values in zip(
        LABELS,
        (-0.5 * STEPS, -0.4 * STEPS[:8], -0.6 * STEPS, 0.5 * np.log(squares), 0 * STEPS,
         -20 * STEPS - 40, 0.1 * STEPS),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(drawn[label].get_ydata(), values, atol=1e-12, err_msg=label)
        np.testing.assert_array_equal(drawn[label].get_xdata(), np.arange(1, len(values) + 1))
    np.testing.assert_allclose(band(ax)[0], -0.5 * STEPS - 0.8)
    assert len({looks(found) for found in drawn.values()}) == 7
    assert ax.get_ylabel().endswith("(nats)")


def test_a_bound_far_off_leaves_the_picture_and_what_is_measured_fills_it():
    low, high = draw(report()).get_ylim()
    assert -12 < low < -7.2
    assert 0.8 < high < 5


def test_a_lower_bound_that_promises_nothing_is_marked():
    made = report()
    none = np.full_like(made.bounds.log_lower, -np.inf)
    ax = draw(made._replace(bounds=made.bounds._replace(log_lower=none, log_rate=np.inf)))
    assert marks(ax) == {"v": list(range(1, 13))}
    assert entries(ax) == [*LABELS[:-1], r"$-\infty$"]


def test_of_a_step_that_is_not_gated():
    made = report()
    bare = made.bounds._replace(log_upper=None, log_lower=None, log_rate=float("inf"))
    ax = draw(made._replace(tied=None, untied=None, bounds=bare))
    assert entries(ax) == LABELS[:1]


def test_of_the_microscope_itself():
    cell = rx.cells.elman(1, 4)
    params = cell.init(jax.random.key(0))
    found = rx.flow.report(cell, params, None, jnp.ones((6, 1)))
    ax = draw(found)
    np.testing.assert_allclose(line(ax, LABELS[0]).get_ydata(), found.decay.log_norm, rtol=1e-6)
    np.testing.assert_allclose(
        line(ax, LABELS[3]).get_ydata(), found.decay.log_frobenius, rtol=1e-5, atol=1e-6
    )
    upper, lower = (line(ax, label).get_ydata() for label in LABELS[4:6])
    assert (upper >= line(ax, LABELS[0]).get_ydata() - 1e-5).all()
    assert (lower <= line(ax, LABELS[0]).get_ydata() + 1e-5).all()
