"""The picture of how training went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax import checks
from recurrax.flow.watch import Watched
from recurrax.plot.axes import given_or_new
from recurrax.plot.curves import GUIDE, THIN, Curve, draw, draw_legend, styles
from recurrax.plot.watched import history as draw_watched
from recurrax.plot.words import legend_label, literal

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
    named = _histories(results)
    lines = _checked_levels(levels)
    watched = field in Watched._fields or "." in field
    for name, found in named.items():
        if field not in found and not (watched and "flow" in found):
            names = ", ".join(repr(known) for known in _fields(found))
            raise ValueError(f"field must be one that {_which(name)} has ({names}), got {field!r}")
    if watched:
        ax = draw_watched({name: found["flow"] for name, found in named.items()}, ax, field=field)
    else:
        ax = given_or_new(ax)
        curves = _curves(named, field)
        if field == "gradient_norm" and len(named) == 1:
            _draw_clipped(ax, *named.values())
        if curves:  # there are none if every row was lost
            _scale(ax, curves, field)
            draw(ax, curves)
        ax.set_xlabel("training step")
        ax.set_ylabel(literal(field.replace("_", " ")))
    for i, (name, value) in enumerate(lines.items()):
        dashes = _LEVEL_DASHES[i % len(_LEVEL_DASHES)]
        style = GUIDE | {"color": "0.35", "linestyle": dashes}
        ax.axhline(value, zorder=1, label=legend_label(f"{name} = {value:.3g}"), **style)
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
    rows: list[tuple[Any, Any, str, float]] = []
    for name, found in named.items():
        steps, test, known = found["step"], found.get(f"test_{field}"), ~lost_rows(found)
        rows.append((steps[known], found[field][known], name or "training", 0.75 * THIN + 0.75))
        if test is not None:
            # NaN stands where nothing was evaluated.
            there = ~np.isnan(test)
            rows.append((steps[there], test[there], f"{name} test".strip(), THIN))
    if field == "gradient_norm" and len(named) == 1:
        (found,) = named.values()
        known = ~lost_rows(found)
        steps = found["step"][known]
        rows = [(steps, found[field][known], "mean", THIN * 1.5)]
        if "gradient_norm_max" in found:
            rows.append((steps, found["gradient_norm_max"][known], "largest", 0.8 * THIN))
    looks = styles(len(rows))
    return [
        Curve(x, values, look, label, width)
        for (x, values, label, width), look in zip(rows, looks, strict=True)
        if len(x)
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


# --- what was given -------------------------------------------------------------------------------


def _histories(results: Any) -> dict[str, Any]:
    """Histories by name; one alone has the empty name."""
    alone = _history(results)
    if alone is not None:
        return {"": _checked("", alone)}
    if not isinstance(results, Mapping):
        raise TypeError(
            "results must be a rx.train.Fit or its history, or several by name in a dict; got "
            f"{type(results).__name__}"
        )
    if not results:
        raise ValueError("results must hold at least one rx.train.Fit, got none")
    named = {}
    for name, result in results.items():
        found = _history(result)
        if found is None:
            raise TypeError(
                f"results[{name!r}] must be a rx.train.Fit or its history, got "
                f"{type(result).__name__}"
            )
        named[str(name)] = _checked(str(name), found)
    return named


def _history(result: Any) -> Any:
    """Of a `Fit`, which this package cannot import; None for anything else."""
    found = getattr(result, "history", result)
    return found if isinstance(found, Mapping) and np.ndim(found.get("step", 0)) == 1 else None


def _checked(name: str, found: Any) -> Any:
    if not len(found["step"]):
        raise ValueError(f"{_which(name)} holds no report yet: its history is empty")
    return found


def _which(name: str) -> str:
    return f"results[{name!r}]" if name else "results"


def _fields(found: Any) -> list[str]:
    return [name for name in found if name not in ("step", "flow")]


def _checked_levels(levels: Any) -> dict[str, float]:
    if levels is None:
        return {}
    if not isinstance(levels, Mapping):
        raise TypeError(f"levels must hold numbers by name in a dict, got {type(levels).__name__}")
    for name, value in levels.items():
        checks.check_number(f"levels[{name!r}]", value)
    return {str(name): float(value) for name, value in levels.items()}
