"""The picture of how far the errors travelled that make up a gradient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from recurrax.flow.horizon import truncation
from recurrax.flow.lag_profile import LagProfile
from recurrax.plot.arguments import by_name
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import THIN, Curve, draw, draw_level, finish, style_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes


def lag_profile(
    results: LagProfile | Mapping[str, LagProfile], ax: Axes | None = None, *, keep: float = 0.95
) -> Axes:
    """Draw what each lag adds to the gradient, and what a truncation there loses.

    With G the whole gradient, G_k the part of errors that travelled k steps, and
    `C_k = G_0 + ... + G_k`: `log ||G_k|| / ||G||` and `log ||G - C_k|| / ||G||` against k.

    Args:
      results: a `rx.flow.LagProfile`, or several by name. What is exactly zero, such as the loss
        after the last lag, is a mark at the bottom; at the top, what is not zero though G is.
      ax: matplotlib axes to draw on; None makes new ones.
      keep: the fraction of the gradient to keep, between 0 and 1: a vertical line, with the
        dashes of the loss, stands at the lag of `rx.flow.truncation`, a dotted one across at the
        log of what may be lost.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if a result is not a `LagProfile`.
      ValueError: if there is none, keep is not between 0 and 1, or a profile holds NaN.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):
      ...     h = w * h + x
      ...     return h, h
      >>> last = lambda ys: ys[-1]
      >>> p = rx.flow.lag_profile(linear, 0.5, 0.0, jnp.ones(30), last, wrt=None)
      >>> ax = rx.plot.lag_profile(p, rx.plot.blank_axes())
      >>> ax.get_legend().get_texts()[0].get_text()
      'lost after lag k; K = 4 keeps 95 %'
    """
    named = by_name(results, LagProfile)
    cuts = {name: int(truncation(result, keep=keep)) for name, result in named.items()}
    ax = axes_or_new(ax)
    table = style_table(len(named), 2)
    losses, parts = [], []
    for (name, result), (lost, part) in zip(named.items(), table, strict=True):
        before, cut = f"{name}: " if name else "", cuts[name]
        label = f"{before}lost after lag k; K = {cut} keeps {100 * keep:g} %"
        with np.errstate(divide="ignore"):
            log_losses = np.log(np.asarray(result.error, np.float64))
        losses.append(Curve(result.lags, log_losses, lost, label))
        logs, total = (np.asarray(v, np.float64) for v in (result.log_norm, result.log_total))
        # As fractions of the whole; nothing is no part of anything, not even of nothing.
        nothing = np.isneginf(logs)
        logs = np.where(nothing, -np.inf, np.where(nothing, 0, logs) - total)
        parts.append(Curve(result.lags, logs, part, f"{before}part of lag k", THIN))
        ax.axvline(cut, color=lost.colour, linestyle=lost.dashes, linewidth=THIN)
    draw(ax, losses + parts)
    draw_level(ax, math.log1p(-keep), f"log {1 - keep:.3g}")
    finish(ax, "lag k (steps)", r"log of the fraction of $\|G\|$  (nats)")
    return ax
