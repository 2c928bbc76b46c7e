"""The picture of what was promised, what was predicted and what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from recurrax.flow.report import Report
from recurrax.plot.arguments import check_kind
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import (
    GUIDE_TEXT,
    LOG_NORM,
    STEPS,
    THIN,
    Curve,
    Style,
    batch_band,
    draw,
    draw_faint,
    finish,
    over_time,
    styles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def report(result: Report, ax: Axes | None = None) -> Axes:
    """Draw the measured decay between its bounds, beside its mean-field predictions.

    Args:
      result: a `rx.flow.Report`. The measured line is the median over the batch of the log
        spectral norm, its band holds the middle 80 % of it; so is the median of each bound. The
        predictions are of the log Frobenius norm, which lies up to `1/2 log N` above; the measured
        one, of the mean square over the batch, is drawn with them. A lower bound of -inf is a mark
        at the bottom. What the weights alone promise is drawn where they promise something. The
        picture is framed by what is measured and predicted, and a bound far off leaves it.
      ax: matplotlib axes to draw on; None makes new ones.

    Returns:
      The axes.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if the result is not a `Report`.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.elman(1, 8)
      >>> r = rx.flow.report(cell, cell.init(jax.random.key(0)), None, jnp.ones((20, 1)))
      >>> ax = rx.plot.report(r, rx.plot.blank_axes())
      >>> [text.get_text() for text in ax.get_legend().get_texts()][:2]
      ['measured: log norm', 'predicted, tied: log Frobenius']
    """
    check_kind("result", result, Report)
    ax = axes_or_new(ax)
    measured = over_time(result.decay.log_norm, styles(1)[0], "measured: log norm")
    core, bounds = [measured, *_predictions(result)], _bounds(result)
    draw(ax, [*core, *bounds])
    _frame(ax, core, bounds)
    draw_faint(ax)
    finish(ax, STEPS, LOG_NORM, core, below=True)
    return ax


def _predictions(result: Report) -> list[Curve]:
    """What is predicted, and that norm as it was measured."""
    curves = [
        over_time(prediction.log_frobenius, look, f"predicted, {prediction.weights}: log Frobenius")
        for prediction, look in zip((result.tied, result.untied), styles(3)[1:], strict=True)
        if prediction is not None
    ]
    if curves:
        logs = np.asarray(result.decay.log_frobenius, np.float64)
        logs = logs.reshape(len(logs), -1)
        mean_square = np.logaddexp.reduce(2 * logs, axis=1) - math.log(logs.shape[1])
        look = Style(GUIDE_TEXT, "-", "o")
        curves.append(over_time(mean_square / 2, look, "measured: log Frobenius", THIN))
    return curves


def _bounds(result: Report) -> list[Curve]:
    steps = np.arange(1, len(result.decay.log_norm) + 1)
    promised = result.bounds
    weights = steps * promised.log_rate if math.isfinite(promised.log_rate) else None
    return [
        over_time(batch_band(values)[1], look, label, THIN)
        for (values, label), look in zip(
            (
                (promised.log_upper, "upper bound, step by step"),
                (promised.log_lower, "lower bound, step by step"),
                (weights, "upper bound, weights alone"),
            ),
            styles(6)[3:],
            strict=True,
        )
        if values is not None
    ]


def _frame(ax: Axes, core: list[Curve], bounds: list[Curve]) -> None:
    """Limits by what is measured and predicted: a bound may be far off, and leaves the picture."""

    def extent(curves: list[Curve]) -> tuple[float, float]:
        values = np.concatenate([[0.0], *(batch_band(curve.values).ravel() for curve in curves)])
        values = values[np.isfinite(values)]
        return float(values.min()), float(values.max())

    low, high = extent(core)
    room = 0.4 * (high - low) or 1.0
    least, most = extent([*core, *bounds])
    ax.set_ylim(max(low - room, least - 0.1 * room), min(high + room, most + 0.1 * room))
