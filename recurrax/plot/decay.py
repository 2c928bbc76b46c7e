"""The picture of vanishing and exploding gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.flow.decay import Decay
from recurrax.plot import curves
from recurrax.plot.arguments import by_name
from recurrax.plot.axes import axes_or_new

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes


def decay(
    results: Decay | Mapping[str, Decay],
    ax: Axes | None = None,
    *,
    scalars: Sequence[float] = (0.9, 1.1),
) -> Axes:
    """Draw `log ||d s_t / d s_0||` against t: one line a cell, a band over its batch.

    Args:
      results: a `rx.flow.Decay`, or several by name. The line is the median over the batch, the
        band its middle 80 %. A median of -inf is a mark at the bottom.
      ax: matplotlib axes to draw on; None makes new ones.
      scalars: numbers w whose powers `w^t` are drawn in grey for comparison.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if a result is not a `Decay`.
      ValueError: if there is none, or a scalar is not positive.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> d = rx.flow.Decay(-0.1 * jnp.arange(1.0, 65.0), -0.1 * jnp.arange(1.0, 65.0))
      >>> ax = rx.plot.decay({"lstm": d}, rx.plot.blank_axes())
      >>> ax.get_xlabel()
      'steps t'
    """
    named = by_name(results, Decay)
    for scalar in scalars:
        if not scalar > 0:
            raise ValueError(f"scalars must be positive, got {scalar}")
    ax = axes_or_new(ax)
    lines = curves.each_over_time({name: result.log_norm for name, result in named.items()})
    length = max(len(line.x) for line in lines)
    steps = np.arange(length + 1)
    for scalar in scalars:
        powers = steps * math.log(scalar)
        ax.plot(steps, powers, **curves.GUIDE)
        beside: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        end = (length, powers[-1])
        ax.annotate(f"${scalar:g}^t$", end, color=curves.GUIDE_TEXT, **beside)
    curves.draw(ax, lines)
    curves.draw_faint(ax)
    ax.set_xlim(0, length * 1.08)
    curves.finish(ax, curves.STEPS, curves.LOG_NORM, lines)
    return ax
