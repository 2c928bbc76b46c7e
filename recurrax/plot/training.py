"""The picture of how training went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.flow.watch import Watched
from recurrax.literal import literal
from recurrax.plot.arguments import argument_of, numbers_by_name, read_by_name
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import THIN, Curve, draw, draw_legend, draw_levels, styles
from recurrax.plot.watched import history as draw_watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_CLIPPED = "clipped (share of the height)"
_LEVEL_DASHES: tuple[Any, ...] = (":", (0, (4, 2)), (0, (1, 3)))
_HEADROOM = 0.5  # of a gradient norm's axis, for the legend of all that is drawn there
_RATIO = 20  # between the largest and the smallest loss, above which its axis is logarithmic


def training(
    results: Any,
    ax: Axes | None = None,
    *,
    field: str = "loss",
    levels: Mapping[str, float] | None = None,
) -> Axes:
    """Draw what `rx.train.fit` recorded against the training step.

    Args:
      results: a `rx.train.Fit` or its history, or several of either by name. A point of a curve is
        the mean since the point before. Where test data was evaluated, it is a curve of its own.
        What is not finite, of a network that has diverged, is a mark at the edge; rows that
        were lost with their file are left out.
      ax: matplotlib axes to draw on; None makes new ones.
      field: which entry to draw: `"loss"`, a metric such as `"mse"`, `"gradient_norm"`, or what
        `flow_every` measured: `"horizon"` and the other fields of `rx.plot.history`. Of one run the
        gradient norm comes with its largest value, and with the share of the steps in which the
        gradient was clipped, in grey.
      levels: numbers by name, drawn across, such as `{"baseline": 1 / 6}`.

    Returns:
      The axes. The gradient norm's are logarithmic, and so are those of a loss or a metric that is
      above 0 and changes by more than a factor of 20.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if a result is neither a `Fit` nor a history, or levels holds no numbers.
      ValueError: if there is none, it holds no report yet, or it has no such field.

    Example:
      >>> import jax, optax, recurrax as rx
      >>> task, adam, key = rx.tasks.adding(4), optax.adam(0.01), jax.random.key(0)
      >>> options = {"key": key, "steps": 6, "report_every": 2}
      >>> fit = rx.train.fit(rx.cells.gru(2, 4), task, adam, **options)
      >>> ax = rx.plot.training(fit, rx.plot.blank_axes(), levels={"baseline": 0.167})
      >>> [text.get_text() for text in ax.get_legend().get_texts()]
      ['training', 'baseline = 0.167']
      >>> ax.get_lines()[0].get_xdata().tolist()
      [2, 4, 6]
    """
    named = read_by_name(results, "rx.train.Fit", _history, also=" or its history")
    lines = numbers_by_name("levels", levels)
    watched = field in Watched._fields or "." in field
    for name, found in named.items():
        if field not in found and not (watched and "flow" in found):
            names = ", ".join(repr(known) for known in found if known not in ("step", "flow"))
            raise ValueError(
                f"field must be one that {argument_of(name)} has ({names}), got {field!r}"
            )
    if watched:
        ax = draw_watched({name: found["flow"] for name, found in named.items()}, ax, field=field)
    else:
        ax = axes_or_new(ax)
        curves = _curves(named, field)
        if field == "gradient_norm" and len(named) == 1:
            _draw_clipped(ax, *named.values())
        if curves:  # there are none if every row was lost
            _scale(ax, curves, field)
            draw(ax, curves)
        ax.set_xlabel("training step")
        ax.set_ylabel(literal(field.replace("_", " ")))
    across = {f"{name} = {value:.3g}": value for name, value in lines.items()}
    draw_levels(ax, across, _LEVEL_DASHES)
    if field == "gradient_norm" and len(named) == 1 and ax.get_yscale() == "log":
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** _HEADROOM)
    draw_legend(ax, batched=False)
    return ax


def lost_rows(history: Mapping[str, Any]) -> np.ndarray:
    """Which rows of a `Fit`'s history were lost with its file: bool `[M]`.

    Of those alone the speed is unknown; what is NaN in others was so.
    """
    steps = np.asarray(history["step"])
    gone: np.ndarray = np.isnan(history.get("steps_per_second", np.zeros(len(steps))))
    return gone


def _curves(named: dict[str, Any], field: str) -> list[Curve]:
    """Each run's curve; that of its test data; of the gradient norm of one run its largest."""
    rows: list[tuple[Any, Any, Any, str, float]] = []  # steps, values, which are known, ...
    alone = field == "gradient_norm" and len(named) == 1
    for name, found in named.items():
        steps, known, test = found["step"], ~lost_rows(found), found.get(f"test_{field}")
        label, width = ("mean", 1.5 * THIN) if alone else (name or "training", 0.75 * THIN + 0.75)
        rows.append((steps, found[field], known, label, width))
        if alone and "gradient_norm_max" in found:
            rows.append((steps, found["gradient_norm_max"], known, "largest", 0.8 * THIN))
        if test is not None:
            # NaN stands where nothing was evaluated.
            rows.append((steps, test, ~np.isnan(test), f"{name} test".strip(), THIN))
    return [
        Curve(steps[known], values[known], look, label, width)
        for (steps, values, known, label, width), look in zip(rows, styles(len(rows)), strict=True)
        if known.any()
    ]


def _draw_clipped(ax: Axes, found: Mapping[str, Any]) -> None:
    """The share of clipped steps as a grey ground, the height of the axes being all of them."""
    if "clip_fraction" not in found:
        return
    share = np.nan_to_num(found["clip_fraction"])
    # A report stands for the steps before it, the first one for those since the beginning.
    steps, share = np.append(0, found["step"]), np.append(share[:1], share)
    ax.fill_between(
        steps,
        share,
        step="pre",
        transform=ax.get_xaxis_transform(),
        color="0.88",
        linewidth=0,
        zorder=0,
        label=_CLIPPED,
    )


def _scale(ax: Axes, curves: Sequence[Curve], field: str) -> None:
    """Logarithmic where values range wide and allow it."""
    values = np.concatenate([np.ravel(curve.values) for curve in curves])
    values = values[np.isfinite(values)]
    if not values.size or values.min() <= 0:
        return
    if field == "gradient_norm" or values.max() > _RATIO * values.min():
        ax.set_yscale("log")


def _history(argument: str, result: Any) -> Any:
    """The history of a `Fit`, which this package cannot import; None for anything else."""
    found = getattr(result, "history", result)
    if not isinstance(found, Mapping) or np.ndim(found.get("step", 0)) != 1:
        return None
    if not len(found["step"]):
        raise ValueError(f"{argument} holds no report yet: its history is empty")
    return found
