"""The picture of advice: how far back the gradient of each start is felt, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax import checks
from recurrax.literal import literal
from recurrax.plot import curves
from recurrax.plot.axes import axes_or_new, blank_axes
from recurrax.plot.comparison import comparison
from recurrax.plot.over_seeds import known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recurrax.advice.outcome import Advice

_FIELDS = ("horizon", "spread", "gradient_norm")
_LABELS = {
    "horizon": "how far back the gradient is felt\n(steps; a triangle has no end)",
    "spread": "spread over the directions of the state\n(nats; 0: all carry alike)",
    "gradient_norm": "norm of the gradient at the start\n(no unit; triangle: beyond)",
}
_BEYOND = 1.6  # times the largest finite number: where one without end is marked
_BEST, _DEFAULT, _OTHER = "#0072B2", "#D55E00", "0.45"


def advice(result: Advice, ax: Axes | None = None, *, field: str = "horizon") -> Axes:
    """Draw what was measured of each start, one row a candidate, the first choice on top.

    Args:
      result: what `rx.advise` returns.
      ax: matplotlib axes to draw on; None makes new ones.
      field: `"horizon"`, each seed a small mark and their median a large one, with the wanted
        horizon across; `"spread"` or `"gradient_norm"`, the same of those. What has no end, or
        is not finite, is a triangle beyond all others. The first choice is blue, the cell as it
        was given orange.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if the result is no advice.
      ValueError: if there is no such field.

    Example:
      >>> import jax, recurrax as rx
      >>> xs = jax.random.normal(jax.random.key(0), (12, 4, 2))
      >>> found = rx.advise(rx.cells.elman(2, 3), xs, key=jax.random.key(1), seeds=2)
      >>> ax = rx.plot.advice(found, rx.plot.blank_axes())
      >>> "default" in [label.get_text() for label in ax.get_yticklabels()]
      True
    """
    if not hasattr(result, "options"):
        raise TypeError(f"result must be what rx.advise returns, got {type(result).__name__}")
    checks.check_choice("field", field, _FIELDS)
    ax = axes_or_new(ax)
    rows = [np.asarray(getattr(o.start, field), np.float64) for o in result.options]
    logarithmic = field != "spread"
    finite = np.concatenate([r[np.isfinite(r) & ((r > 0) | (not logarithmic))] for r in rows])
    most = max(finite.max() if finite.size else 1.0, result.wanted if field == "horizon" else 0.0)
    for height, (option, row) in enumerate(zip(result.options, rows, strict=True)):
        colour = _OTHER
        if option.candidate.name == result.default.candidate.name:
            colour = _DEFAULT
        elif height == 0:
            colour = _BEST
        _draw_row(ax, row, height, _BEYOND * most, colour)
    names = [literal(option.candidate.name) for option in result.options]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.9)
    # Over less than a decade a scale of logs has no number to show.
    if logarithmic and finite.size and most >= 10 * finite.min():
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter("")
    if field == "horizon":
        ax.axvline(result.wanted, zorder=0, **curves.GUIDE)
        ax.text(result.wanted, -0.6, " wanted", color=curves.GUIDE_TEXT, va="center", fontsize=9)
    ax.set_xlabel(_LABELS[field])
    return ax


def panels(result: Advice) -> Axes:
    """All fields side by side, and how those that were trained learned; returns the first axes."""
    count = len(_FIELDS) + (result.proof is not None)
    height = max(4.2, 1.6 + 0.3 * len(result.options))
    figure: Any = blank_axes(4.6 * count, height).figure
    figure.clear()
    widths = (1, 1, 1, 1.5)[:count]
    axes = figure.subplots(1, count, width_ratios=widths)
    for number, (ax, field) in enumerate(zip(axes, _FIELDS, strict=False)):
        advice(result, ax, field=field)
        ax.tick_params(labelleft=number == 0)
    axes[0].set_title(literal(result.data))
    if result.proof is not None:
        comparison(result.proof, axes[-1])
        axes[-1].set_title("trained at an equal budget")
    first: Axes = axes[0]
    return first


def _draw_row(ax: Axes, values: np.ndarray, height: int, far: float, colour: str) -> None:
    """The seeds of one candidate, and their median."""
    middle = known(values)[0]
    for numbers, size in ((values, 4), (np.array([middle]), 9)):
        finite = np.isfinite(numbers)
        look: dict[str, Any] = {"linestyle": "none", "color": colour, "markersize": size}
        ax.plot(numbers[finite], np.full(finite.sum(), height), marker="o", alpha=0.8, **look)
        beyond = ~finite & ~np.isneginf(numbers)
        ax.plot(np.full(beyond.sum(), far), np.full(beyond.sum(), height), marker=">", **look)
