"""The picture of what was promised, what was predicted and what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from recurrax.flow.report import Report
from recurrax.plot import curves
from recurrax.plot.arguments import check_kind
from recurrax.plot.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def report(result: Report, ax: Axes | None = None) -> Axes:
    """Draw the measured decay between its bounds, beside its mean-field predictions.

    Args:
      result: a `rx.flow.Report`. The measured line is the median over the batch of the log
        spectral norm, its band the middle 80 % of it; bounds are medians. The predictions are of
        the log Frobenius norm, which lies up to `1/2 log N` above; the measured one, of the mean
        square over the batch, is drawn with them. A lower bound of -inf is a mark at the bottom.
        What the weights alone promise is drawn where they promise something. What is measured and
        predicted frames the picture, and a bound far off leaves it.
      ax: matplotlib axes to draw on; None makes new ones.

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
    look, *looks = curves.styles(6)
    core = [curves.over_time(result.decay.log_norm, look, "measured: log norm")]
    for prediction, look in zip((result.tied, result.untied), looks, strict=False):
        if prediction is not None:
            label = f"predicted, {prediction.weights}: log Frobenius"
            core.append(curves.over_time(prediction.log_frobenius, look, label))
    if len(core) > 1:  # beside a prediction, that norm as it was measured
        logs = np.asarray(result.decay.log_frobenius, np.float64)
        logs = logs.reshape(len(logs), -1)
        mean_square = np.logaddexp.reduce(2 * logs, axis=1) - math.log(logs.shape[1])
        look = curves.Style(curves.GUIDE_TEXT, "-", "o")
        label = "measured: log Frobenius"
        core.append(curves.over_time(mean_square / 2, look, label, curves.THIN))
    promised = result.bounds
    steps = result.decay.steps
    steps = np.arange(1, len(result.decay.log_norm) + 1) if steps is None else np.asarray(steps)
    known = math.isfinite(promised.log_rate)
    promises = {
        "upper bound, step by step": promised.log_upper,
        "lower bound, step by step": promised.log_lower,
        "upper bound, weights alone": steps * promised.log_rate if known else None,
    }
    bounds = [
        curves.over_time(curves.batch_band(values)[1], look, label, curves.THIN)
        for (label, values), look in zip(promises.items(), looks[2:], strict=True)
        if values is not None
    ]
    curves.draw(ax, [*core, *bounds])
    # The limits are those of what is measured and predicted: a bound far off leaves the picture.
    low, high = _extent(core)
    room = 0.4 * (high - low) or 1.0
    least, most = _extent([*core, *bounds])
    ax.set_ylim(max(low - room, least - 0.1 * room), min(high + room, most + 0.1 * room))
    curves.draw_faint(ax)
    curves.finish(ax, curves.STEPS, curves.LOG_NORM, core, below=True)
    return ax


def _extent(lines: list[curves.Curve]) -> tuple[float, float]:
    values = np.concatenate([[0.0], *(curves.batch_band(line.values).ravel() for line in lines)])
    values = values[np.isfinite(values)]
    return float(values.min()), float(values.max())
