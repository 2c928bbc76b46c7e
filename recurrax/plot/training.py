"""The pictures of training: what `rx.train.fit` recorded, and the gradient flow on its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.flow.watch import Watched
from recurrax.literal import literal
from recurrax.plot.arguments import argument_of, check_kind, numbers_by_name, read_by_name
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import (
    THIN,
    Curve,
    draw,
    draw_faint,
    draw_legend,
    draw_levels,
    finish,
    styles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVEL_DASHES: tuple[Any, ...] = (":", (0, (4, 2)), (0, (1, 3)))
_HEADROOM = 0.5  # of a gradient norm's axis, for the legend of all that is drawn there
_RATIO = 20  # between the largest and the smallest loss, above which its axis is logarithmic
_LABELS = {
    "log_norm": r"$\log\,\|\partial s_T / \partial s_0\|$  (nats, median of the batch)",
    "log_frobenius": r"$\log\,\|\partial s_T / \partial s_0\|_F$  (nats, median of the batch)",
    "rate": "rate of the gradient  (nats a step, median of the batch)",
    "horizon": "horizon  (steps, median of the batch)",
    "largest_singular_value": "largest singular value of w_rec  (no unit)",
}
_LABELS_OF_GATES = {
    "gates": "mean activation of gate {}  (no unit)",
    "saturated": "fraction of saturated units of gate {}  (no unit)",
}
_SIGNED = ("log_norm", "log_frobenius", "rate")

Records = Watched | Sequence[Watched]


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
        were lost with their file are left out. Beside the loss or a metric of one run stands the
        learning rate, if it is known and changes, as a share of its largest.
      ax: matplotlib axes to draw on; None makes new ones.
      field: which entry to draw: `"loss"`, a metric such as `"mse"`, `"gradient_norm"`, or what
        `flow_every` measured: `"horizon"` and the other fields of `rx.plot.history`. Of one run the
        gradient norm comes with its largest value, and with the share of the steps in which the
        gradient was clipped, in grey. Parts that were measured by name are curves by name.
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
    norm_of_one = field == "gradient_norm" and len(named) == 1
    if watched:
        ax = history(_flows(named), ax, field=field)
    else:
        ax = axes_or_new(ax)
        curves = _curves(named, field)
        if norm_of_one:
            _draw_clipped(ax, *named.values())
        # Logarithmic where values range wide and allow it.
        values = np.concatenate([np.empty(0), *(np.ravel(curve.values) for curve in curves)])
        values = values[np.isfinite(values)]
        wide = field == "gradient_norm" or (values.size and values.max() > _RATIO * values.min())
        if values.size and values.min() > 0 and wide:
            ax.set_yscale("log")
        if curves:  # there are none if every row was lost
            draw(ax, curves)
        if len(named) == 1 and field not in ("gradient_norm", "learning_rate"):
            _draw_learning_rate(ax, *named.values())
        ax.set_xlabel("training step")
        ax.set_ylabel(literal(field.replace("_", " ")))
    across = {f"{name} = {value:.3g}": value for name, value in lines.items()}
    draw_levels(ax, across, _LEVEL_DASHES)
    if norm_of_one and ax.get_yscale() == "log":
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
    look: dict[str, Any] = {"step": "pre", "color": "0.88", "linewidth": 0, "zorder": 0}
    look |= {"transform": ax.get_xaxis_transform(), "label": "clipped (share of the height)"}
    ax.fill_between(steps, share, **look)


def _draw_learning_rate(ax: Axes, found: Mapping[str, Any]) -> None:
    """A learning rate that changes, as a faint line; the height of the axes is its largest."""
    rates = found.get("learning_rate", np.zeros(0))
    known = rates[np.isfinite(rates)]
    if len(np.unique(known)) < 2:
        return
    largest = known.max()
    look: dict[str, Any] = {"color": "0.6", "linestyle": (0, (1, 1)), "zorder": 0}
    look |= {"transform": ax.get_xaxis_transform(), "linewidth": THIN}
    share = f"learning rate (share of {largest:.3g})"
    ax.plot(found["step"], rates / largest, label=share, **look)


def _flows(named: Mapping[str, Any]) -> dict[str, Any]:
    """What was watched in each run, or in each part of each."""
    found: dict[str, Any] = {}
    for name, run in named.items():
        parts = run["flow"] if isinstance(run["flow"], dict) else {"": run["flow"]}
        found |= {" ".join(filter(None, (name, part))): flow for part, flow in parts.items()}
    return found


def _history(argument: str, result: Any) -> Any:
    """The history of a `Fit`, which this package cannot import; None for anything else."""
    found = getattr(result, "history", result)
    if not isinstance(found, Mapping) or np.ndim(found.get("step", 0)) != 1:
        return None
    if not len(found["step"]):
        raise ValueError(f"{argument} holds no report yet: its history is empty")
    return found


def history(
    results: Records | Mapping[str, Records], ax: Axes | None = None, *, field: str = "log_norm"
) -> Axes:
    """Draw what was watched during training against the training step.

    Args:
      results: a `rx.flow.Watched` whose fields are stacked over the training steps `[M]`, a list of
        single ones, or several of either by name. Rows in which nothing was measured yet, with a
        step of -1, are left out, and so are those that repeat the step before. A value of -inf is
        a mark at the bottom, one of inf, such as a horizon without end, at the top, and NaN, of a
        network that has diverged, a cross at the bottom.
      ax: matplotlib axes to draw on; None makes new ones.
      field: which field to draw, `"log_norm"`, `"log_frobenius"`, `"rate"`, `"horizon"` or
        `"largest_singular_value"`; or a gate of one, `"gates.f"` or `"saturated.f"`.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if a result is not a `Watched`, nor a list of them.
      ValueError: if there is none, nothing was measured yet, or a record has no such field.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> steps, logs = jnp.asarray([-1, 0, 0, 2]), jnp.asarray([0.0, -3.0, -3.0, -2.0])
      >>> w = rx.flow.Watched(steps, logs, logs, logs / 50, -logs, None, {}, {})
      >>> rx.plot.history(w, rx.plot.blank_axes()).get_lines()[0].get_xydata().tolist()
      [[0.0, -3.0], [2.0, -2.0]]
    """
    named = read_by_name(results, "rx.flow.Watched", _records)
    rows = {name: _measured(argument_of(name), own, field) for name, own in named.items()}
    ax = axes_or_new(ax)
    named_rows = zip(rows.items(), styles(len(rows)), strict=True)
    draw(ax, [Curve(*row, style, name or None) for (name, row), style in named_rows])
    if field in _SIGNED:
        draw_faint(ax)
    group, _, gate = field.partition(".")
    label = _LABELS[field] if field in _LABELS else _LABELS_OF_GATES[group].format(literal(gate))
    finish(ax, "training step", label)
    return ax


def _records(argument: str, found: Any) -> list[Watched] | None:
    """A list of records, also of a single one; None for anything else."""
    if isinstance(found, Watched):
        return [found]
    if not isinstance(found, Sequence) or isinstance(found, str):
        return None
    if not found:
        raise ValueError(f"{argument} must hold at least one rx.flow.Watched, got none")
    for i, record in enumerate(found):
        check_kind(f"{argument}[{i}]", record, Watched)
    return list(found)


def _measured(which: str, records: list[Watched], field: str) -> tuple[np.ndarray, np.ndarray]:
    """The training steps and the values of the rows that were measured, each step once."""
    columns = []
    for record in records:
        known = {name: value for name in _LABELS if (value := getattr(record, name)) is not None}
        for group in _LABELS_OF_GATES:
            known |= {f"{group}.{gate}": value for gate, value in getattr(record, group).items()}
        if field not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(f"field must be one that {which} has ({names}), got {field!r}")
        columns.append([np.atleast_1d(np.asarray(part)) for part in (record.step, known[field])])
        for part in columns[-1]:
            if part.ndim != 1:
                raise ValueError(
                    f"{which} must be stacked over the training steps alone, [M], got shape "
                    f"{part.shape}. Give runs that were mapped over by name, one by one."
                )
    steps, values = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    steps, values = steps[steps >= 0], values[steps >= 0].astype(np.float64)
    if not len(steps):
        raise ValueError(f"{which} holds no measurement yet: the step of every row is -1")
    new = np.append(True, steps[1:] != steps[:-1])
    return steps[new], values[new]
