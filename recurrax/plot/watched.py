"""The picture of the gradient flow during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.flow.watch import Watched
from recurrax.literal import literal
from recurrax.plot.arguments import argument_of, check_kind, read_by_name
from recurrax.plot.axes import axes_or_new
from recurrax.plot.curves import Curve, draw, draw_faint, finish, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

    Returns:
      The axes.

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
    draw(
        ax,
        [
            Curve(steps, values, style, name or None)
            for (name, (steps, values)), style in zip(rows.items(), styles(len(rows)), strict=True)
        ],
    )
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
    columns = [
        [np.atleast_1d(np.asarray(part)) for part in (record.step, _value(which, record, field))]
        for record in records
    ]
    for column in columns:
        for part in column:
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


def _value(which: str, record: Watched, field: Any) -> Any:
    """A field, or a gate of it."""
    known = {name: value for name in _LABELS if (value := getattr(record, name)) is not None}
    for group in _LABELS_OF_GATES:
        known |= {f"{group}.{gate}": value for gate, value in getattr(record, group).items()}
    if field not in known:
        names = ", ".join(map(repr, known))
        raise ValueError(f"field must be one that {which} has ({names}), got {field!r}")
    return known[field]
