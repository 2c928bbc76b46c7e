"""The picture of how large the derivative is between any two times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recurrax import checks
from recurrax.flow.gradient_map import GradientMap
from recurrax.plot.arguments import check_kind
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import batch_band, batch_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A number e^-16 of another is lost when the two are added in float32.
_FELT = 16.0


def gradient_map(
    result: GradientMap, ax: Axes | None = None, *, limits: tuple[float, float] | None = None
) -> Axes:
    """Draw `log ||d s_t / d s_s||` as a heat map, over the source s and the target t.

    Args:
      result: a `rx.flow.GradientMap`; the median over the batch is drawn. Where s > t there is no
        influence, and the picture is blank; so it is where a value is NaN.
      ax: matplotlib axes to draw on; None makes new ones.
      limits: the range of the colours, in nats; None takes the range of the data, and no more than
        -16 to 16, beyond which float32 cannot add such a gradient to one of norm 1. An arrow at
        the end of the colour bar says that there are values beyond it, with a colour of its own;
        -inf is below every range.

    Returns:
      The axes; the colour bar is an inset that stands beside them.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if the result is not a `GradientMap`, or a limit is no number.
      ValueError: if the limits are not two finite numbers, the lower one first.

    Example:
      >>> import jax.numpy as jnp, numpy as np, recurrax as rx
      >>> t, s = np.arange(1, 21), np.arange(20)
      >>> lag = t[:, None] - s
      >>> logs = jnp.where(lag >= 0, -0.1 * lag, -jnp.inf)
      >>> ax = rx.plot.gradient_map(rx.flow.GradientMap(logs, logs, t, s), rx.plot.blank_axes())
      >>> ax.get_xlabel(), ax.get_ylabel()
      ('source s (steps)', 'target t (steps)')
    """
    check_kind("result", result, GradientMap)
    if limits is not None:
        if not isinstance(limits, (tuple, list)) or len(limits) != 2:
            raise TypeError(f"limits must be two numbers (low, high), in nats; got {limits!r}")
        for limit in limits:
            checks.check_number("limits", limit)
        if not limits[0] < limits[1]:
            raise ValueError(f"limits must have the lower one first, got {tuple(limits)}")
    targets, sources = np.asarray(result.targets), np.asarray(result.sources)
    pairs = np.reshape(result.log_norm, (len(targets) * len(sources), -1))
    logs = batch_band(pairs)[1].reshape(len(targets), len(sources))
    blank = (sources > targets[:, None]) | np.isnan(logs)
    values = logs[~blank]
    low, high = _range(values) if limits is None else limits
    ax = axes_or_new(ax)
    from matplotlib import colormaps  # now that the axes are there, or the remedy was said

    mesh = ax.pcolormesh(
        _edges(sources),
        _edges(targets),
        # An infinite value would be left blank: it goes a little beyond the range as well.
        np.ma.masked_array(np.clip(logs, low - 1, high + 1), blank),
        # Its lightness grows evenly, so that it reads in grey; its ends go beyond it.
        cmap=colormaps["cividis"].with_extremes(under="black", over="#FFF8C0"),
        vmin=low,
        vmax=high,
        rasterized=True,
    )
    ax.set_aspect("equal")
    ax.set_xlabel("source s (steps)")
    ax.set_ylabel("target t (steps)")
    ends = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    extend = ends[bool((values < low).any()), bool((values > high).any())]
    # Inside the axes' own box, so that it is as tall as they are.
    bar = ax.figure.colorbar(mesh, cax=ax.inset_axes((1.04, 0, 0.05, 1)), extend=extend)
    note = ", median of the batch" if batch_size(pairs) > 1 else ""
    bar.set_label(rf"$\log\,\|\partial s_t / \partial s_s\|$  (nats{note})")
    return ax


def _range(values: np.ndarray) -> tuple[float, float]:
    """The range of the finite values, cut off at what is felt; a nat wide, or all is noise."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return -_FELT, 0.0
    high = float(np.clip(finite.max(), 1 - _FELT, _FELT))
    return min(max(float(finite.min()), -_FELT), high - 1), high


def _edges(times: np.ndarray) -> np.ndarray:
    """The edges of cells with the times in their middle."""
    every = times[1] - times[0] if len(times) > 1 else 1
    return np.append(times, times[-1] + every) - every / 2
