"""The picture of where a derivative flows, and of the gates that let it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recurrax.flow.paths import Paths
from recurrax.plot import curves
from recurrax.plot.arguments import check_kind
from recurrax.plot.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def paths(result: Paths, ax: Axes | None = None) -> Axes:
    """Draw the share of the detour against t, with the mean activation of each gate.

    Args:
      result: a `rx.flow.Paths`. The share's line is the median over the batch, its band the middle
        80 %; of the gates, the medians are drawn. The share is near 0 where the derivative stays
        inside its hidden units, near 1 where nearly all of it goes round by `h @ w_rec`, above 1
        where the two parts cancel; a cross at the bottom is NaN.
      ax: matplotlib axes to draw on; None makes new ones.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if the result is not a `Paths`.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.lstm(1, 8)
      >>> params = cell.init(jax.random.key(0))
      >>> p = rx.flow.paths(cell, params, None, jnp.ones((20, 1)))
      >>> ax = rx.plot.paths(p, rx.plot.blank_axes())
      >>> [text.get_text() for text in ax.get_legend().get_texts()]
      ['share of the detour', 'gate i', 'gate f', 'gate g', 'gate o']
    """
    check_kind("result", result, Paths)
    ax = axes_or_new(ax)
    names = () if result.gates is None else result.gates.names
    look, *looks = curves.styles(1 + len(names))
    lines = [curves.over_time(result.share, look, "share of the detour", 2 * curves.THIN)]
    if result.gates is not None:
        means = np.moveaxis(np.asarray(result.gates.mean, np.float64), -1, 0)
        for name, mean, style in zip(names, means, looks, strict=True):
            median = curves.batch_band(mean)[1]
            lines.append(curves.over_time(median, style, f"gate {name}", curves.THIN))
    curves.draw(ax, lines)
    for edge in (0, 1):
        curves.draw_faint(ax, edge)
    label = f"share{', mean of each gate' if names else ''}  (no unit)"
    curves.finish(ax, curves.STEPS, label, lines, below=True)
    return ax
