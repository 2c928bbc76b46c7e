"""The picture of how many directions still carry a gradient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from recurrax import checks
from recurrax.flow.spectrum import Spectrum
from recurrax.plot.arguments import by_name
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import Curve, draw, draw_faint, draw_level, finish, style_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes


def spectrum(
    results: Spectrum | Mapping[str, Spectrum], ax: Axes | None = None, *, below: float = 0.05
) -> Axes:
    """Draw the log singular values of `d s_t / d s_0` against their index: one line a time t.

    Args:
      results: a `rx.flow.Spectrum`, or several by name. A line is the median over the batch, its
        band holds the middle 80 % of it. A singular value of zero, whose log is -inf, is a mark at
        the bottom.
      ax: matplotlib axes to draw on; None makes new ones.
      below: the fraction of a gradient that no longer counts, between 0 and 1: a dotted line. The
        directions above it still carry a gradient.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if a result is not a `Spectrum`.
      ValueError: if there is none, or `below` is not between 0 and 1.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> w = jnp.diag(jnp.asarray([1.0, 0.5, 0.01]))
      >>> def linear(w, h, x):
      ...     h = h @ w + x
      ...     return h, h
      >>> s = rx.flow.spectrum(linear, w, jnp.zeros(3), jnp.zeros((8, 3)), at=(2, 8))
      >>> ax = rx.plot.spectrum(s, rx.plot.blank_axes())
      >>> [text.get_text() for text in ax.get_legend().get_texts()]
      ['t = 2', 't = 8', 'log 0.05']
    """
    named = by_name(results, Spectrum)
    checks.check_fraction("below", below)
    ax = axes_or_new(ax)
    times = max(len(result.t) for result in named.values())
    table = style_table(len(named), times)
    curves = []
    for (name, result), styles in zip(named.items(), table, strict=True):
        for t, values, style in zip(result.t, result.log_singular_values, styles, strict=False):
            by_index = np.moveaxis(np.asarray(values), -1, 0)
            label = f"{name}, t = {t}" if name else f"t = {t}"
            curves.append(Curve(np.arange(1, len(by_index) + 1), by_index, style, label))
    draw(ax, curves)
    draw_faint(ax)
    draw_level(ax, math.log(below), f"log {below:g}")
    index = "index i of the singular value, largest first"
    finish(ax, index, r"$\log\,\sigma_i(\partial s_t / \partial s_0)$  (nats)", curves)
    return ax
