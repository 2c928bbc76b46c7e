"""The picture of the Lyapunov spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax import checks
from recurrax.flow.lyapunov import Lyapunov
from recurrax.plot import curves
from recurrax.plot.arguments import by_name, numbers_by_name
from recurrax.plot.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THEORY_DASHES = ((0, (8, 3)), (0, (2, 2)), (0, (8, 3, 2, 3)), (0, (4, 4)))


def lyapunov(
    results: Lyapunov | Mapping[str, Lyapunov],
    ax: Axes | None = None,
    *,
    size: int | Mapping[str, int] | None = None,
    theory: Mapping[str, float] | None = None,
) -> Axes:
    """Draw the Lyapunov exponents, largest first, with their standard errors.

    Args:
      results: a `rx.flow.Lyapunov`, or several by name. The line is the median over the batch, the
        band its middle 80 %. A bar is one standard error to either side, the median over the batch;
        there is none where it is not known. An exponent of -inf is a mark at the bottom.
      ax: matplotlib axes to draw on; None makes new ones.
      size: N, the size of the whole state, for all results or by their names: exponents are then
        drawn against `i / N`, to compare networks of different sizes; None: against their index i.
      theory: values to compare with, by name, in nats a step: horizontal grey lines.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if a result is not a `Lyapunov`, or theory is not a dict of numbers.
      ValueError: if there is no result, or a size is missing or below the number of exponents.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> m = jnp.array([[2.0, 1.0], [0.0, 0.5]])
      >>> found = rx.flow.lyapunov(lambda m, s, x: (m @ s, s), m, jnp.ones(2), length=50)
      >>> ax = rx.plot.lyapunov(found, rx.plot.blank_axes(), size=2, theory={"log 2": 0.693})
      >>> ax.get_lines()[0].get_xdata().tolist(), ax.get_ylabel()
      ([0.5, 1.0], 'Lyapunov exponent  (nats a step)')
    """
    named = by_name(results, Lyapunov)
    levels = numbers_by_name("theory", theory, ", in nats a step;")
    sizes = {name: _size_of(size, name, result) for name, result in named.items()}
    ax = axes_or_new(ax)
    lines = []
    for (name, result), style in zip(named.items(), curves.styles(len(named)), strict=True):
        values, errors = (
            np.moveaxis(np.asarray(field, np.float64), -1, 0)
            for field in (result.exponents, result.standard_errors)
        )
        x = np.arange(1, len(values) + 1) / sizes[name]
        lines.append(curves.Curve(x, values, style, curves.label_of(name, values)))
        middle, error = (curves.batch_band(field)[1] for field in (values, errors))
        known = np.isfinite(middle) & np.isfinite(error)
        bars: dict[str, Any] = {"fmt": "none", "elinewidth": curves.THIN, "capsize": 2.5}
        ax.errorbar(x[known], middle[known], yerr=error[known], ecolor=style.colour, **bars)
    curves.draw(ax, lines)
    curves.draw_faint(ax)
    curves.draw_levels(ax, levels, _THEORY_DASHES)
    index = "index i of the exponent" if size is None else "index i / N"
    curves.finish(ax, index, "Lyapunov exponent  (nats a step)", lines)
    return ax


def _size_of(size: Any, name: str, result: Lyapunov) -> int:
    """What the index is divided by."""
    if size is None:
        return 1
    if isinstance(size, Mapping):
        if name not in size:
            raise ValueError(f"size must hold N for every result, and has none for {name!r}")
        size = size[name]
    checks.check_positive_int("size", size)
    count = np.shape(result.exponents)[-1]
    if size < count:
        raise ValueError(f"size must be N, at least the {count} exponents measured, got {size}")
    return int(size)
