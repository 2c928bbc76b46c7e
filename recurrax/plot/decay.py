"""The picture of vanishing and exploding gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.flow import Decay
from recurrax.plot.axes import given_or_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which the colour-blind can tell apart; dashes for a grey printer.
_STYLES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1))),
    ("#000000", (0, (1, 1))),
    ("#E69F00", (0, (7, 2))),
)


def decay(
    results: Decay | Mapping[str, Decay],
    ax: Axes | None = None,
    *,
    scalars: Sequence[float] = (0.9, 1.1),
) -> Axes:
    """Draw `log ||d s_t / d s_0||` against t: one line a cell, a band over its batch.

    Args:
      results: a `rx.flow.Decay`, or several by name. The line is the median over the batch, the
        band holds the middle 80 % of it.
      ax: matplotlib axes to draw on; None makes new ones.
      scalars: numbers w whose powers `w^t` are drawn in grey for comparison.

    Returns:
      The axes.

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
    if not isinstance(results, (Decay, Mapping)):
        raise TypeError(
            f"results must be a rx.flow.Decay, or several by name in a dict; got "
            f"{type(results).__name__}"
        )
    named = {"": results} if isinstance(results, Decay) else dict(results)
    if not named:
        raise ValueError("results must hold at least one rx.flow.Decay, got none")
    for name, result in named.items():
        if not isinstance(result, Decay):
            raise TypeError(
                f"results[{name!r}] must be a rx.flow.Decay, got {type(result).__name__}"
            )
    ax = given_or_new(ax)
    length = max(result.log_norm.shape[0] for result in named.values())
    _draw_scalars(ax, scalars, length)
    for (name, result), (colour, dashes) in zip(named.items(), _styles(len(named)), strict=True):
        low, middle, high = batch_band(result.log_norm)
        steps = np.arange(1, len(middle) + 1)
        ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
        ax.plot(steps, middle, color=colour, linestyle=dashes, linewidth=2, label=name or None)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_xlabel("steps t")
    ax.set_ylabel(r"$\log\,\|\partial s_t / \partial s_0\|$  (nats)")
    ax.set_xlim(0, length * 1.08)
    if any(named):
        ax.legend(frameon=False, title="median; band: middle 80 % of the batch")
    return ax


def batch_band(log_norm: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 10th, 50th and 90th percentile over the batch, each `[T]`; NaN where not finite."""
    rows = np.asarray(log_norm, np.float64)
    rows = rows.reshape(rows.shape[0], -1)
    # Percentiles interpolate, and -inf less -inf is NaN: so the nearest order statistics.
    band = np.percentile(rows, [10, 50, 90], axis=1, method="nearest")
    band[~np.isfinite(band)] = np.nan
    return band[0], band[1], band[2]


def _styles(count: int) -> list[tuple[str, Any]]:
    return [_STYLES[i % len(_STYLES)] for i in range(count)]


def _draw_scalars(ax: Axes, scalars: Sequence[float], length: int) -> None:
    steps = np.arange(length + 1)
    for scalar in scalars:
        if not scalar > 0:
            raise ValueError(f"scalars must be positive, got {scalar}")
        ax.plot(steps, steps * math.log(scalar), color="0.55", linestyle=":", linewidth=1.2)
        ax.annotate(
            f"${scalar:g}^t$",
            (length, length * math.log(scalar)),
            xytext=(4, 0),
            textcoords="offset points",
            color="0.4",
            va="center",
        )
