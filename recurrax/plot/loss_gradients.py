"""The picture of the gradient of a loss by the state at every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurrax.flow.loss_gradients import LossGradients
from recurrax.plot.arguments import by_name
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import STEPS, draw, each_over_time, finish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes


def loss_gradients(
    results: LossGradients | Mapping[str, LossGradients], ax: Axes | None = None
) -> Axes:
    """Draw `log ||d L / d s_t||` against t: one line a cell, a band over its batch.

    Args:
      results: a `rx.flow.LossGradients`, or several by name. The line is the median over the
        batch, the band its middle 80 %. A median of -inf, where the loss sees nothing of a state,
        is a mark at the bottom.
      ax: matplotlib axes to draw on; None makes new ones.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if a result is not a `LossGradients`.
      ValueError: if there is none.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):
      ...     h = w * h + x
      ...     return h, h
      >>> last = lambda ys: ys[-1].sum()
      >>> g = rx.flow.loss_gradients(linear, 0.5, jnp.zeros(1), jnp.ones((4, 1)), last)
      >>> ax = rx.plot.loss_gradients(g, rx.plot.blank_axes())
      >>> len(ax.get_lines()[0].get_xdata())
      4
    """
    named = by_name(results, LossGradients)
    ax = axes_or_new(ax)
    curves = each_over_time({name: result.log_norm for name, result in named.items()})
    draw(ax, curves)
    finish(ax, STEPS, r"$\log\,\|\partial L / \partial s_t\|$  (nats)", curves)
    return ax
