"""Cells and cures by name, for comparisons and for the command."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from recurrax import checks, cures, keys
from recurrax.cell import Cell
from recurrax.cells.names import CELLS as FAMILIES
from recurrax.cures import init
from recurrax.flow.steps.problem import floating_leaves
from recurrax.words import unknown

if TYPE_CHECKING:
    from recurrax.tasks.task import Task
    from recurrax.train.step import Regularizer


@dataclasses.dataclass(frozen=True)
class Cure:
    """What is done against a gradient that vanishes or explodes; nothing, by default.

    Args:
      optimizer: an `optax.GradientTransformation` that stands before the optimizer, such as
        `rx.cures.clip_by_global_norm(1.0)`.
      cell: `cell(cell) -> cell`, a combinator with the same params, such as one that clips the
        gradient of the state.
      regularizer: `regularizer(cell, params, state, xs) -> scalar`, added to the loss; of the
        cell's params and initial state.

    Raises:
      TypeError: if one of them is not of its kind.

    Example:
      >>> import functools, recurrax as rx
      >>> both = rx.train.Cure(
      ...     optimizer=rx.cures.clip_by_global_norm(1.0),
      ...     cell=functools.partial(rx.cures.clip_state_gradient, max_norm=1.0),
      ... )
      >>> both.regularizer is None
      True
    """

    optimizer: Any = None
    cell: Callable[[Cell], Cell] | None = None
    regularizer: Regularizer | None = None

    def __post_init__(self) -> None:
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise TypeError(
                "optimizer of a Cure must be an optax.GradientTransformation, such as "
                f"rx.cures.clip_by_global_norm(1.0), got {type(self.optimizer).__name__}"
            )
        for name in ("cell", "regularizer"):
            given = getattr(self, name)
            if given is not None and not callable(given):
                raise TypeError(f"{name} of a Cure must be a function, got {type(given).__name__}")


# --- cells ------------------------------------------------------------------------------------

# As torch begins its RNN, uniform in +-1/sqrt(H): a spectral radius near .58.
_UNIFORM = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _preset(family: str, **options: Any) -> Callable[[Task, int], Cell]:
    """Return a preset that builds a cell of `recurrax.cells.names` with these options."""

    def build(task: Task, hidden: int) -> Cell:
        return FAMILIES[family].build(task.input_size, hidden, **options)

    return build


def _lstm_chrono(task: Task, hidden: int) -> Cell:
    bias = init.chrono(max(2, task.length))
    return FAMILIES["lstm"].build(task.input_size, hidden, forget_bias=0.0, bias_init=bias)


CELLS: dict[str, Callable[[Task, int], Cell]] = {
    "elman": _preset("elman"),
    "elman-uniform": _preset("elman", recurrent_init=_UNIFORM),
    "elman-relu-identity": _preset("elman-relu", recurrent_init=init.identity()),
    "elman-exploding": _preset("elman", recurrent_init=init.spectral_radius(2.0)),
    "lstm": _preset("lstm"),
    "lstm-forget": _preset("lstm", forget_bias=5.0),
    "lstm-chrono": _lstm_chrono,
    "gru": _preset("gru"),
}
"""`cell(task, hidden_size)` by the names that `rx.train.compare` takes."""

ALIASES = {"irnn": "elman-relu-identity"}


# --- cures ------------------------------------------------------------------------------------


def _clipped_state(cell: Cell) -> Cell:
    return cures.clip_state_gradient(cell, max_norm=0.01)


def _detached(cell: Cell) -> Cell:
    """The same draws at every update, but other ones for each step and each of the batch."""
    return cures.detach(cell, 0.25, keys.own(keys.DETACH))


def _omega(cell: Cell, params: Any, state: Any, xs: Any) -> Any:
    """Of the first two examples, and of errors that begin at the sum of the last output."""
    few = jax.tree.map(lambda leaf: leaf[:2], state)
    return 0.01 * cures.omega(cell, params, few, xs[:, :2], _last_output)


def _last_output(ys: Any) -> Any:
    return ys[-1].sum()


def _orthogonality(cell: Cell, params: Any, state: Any, xs: Any) -> Any:
    return 0.01 * cures.orthogonality(params)


def _flossing(cell: Cell, params: Any, state: Any, xs: Any) -> Any:
    """Of the first two examples, and four exponents, which is what can be paid at every step."""
    few = jax.tree.map(lambda leaf: leaf[:2], state)
    size = sum(math.prod(leaf.shape[1:]) for _, leaf in floating_leaves(few))
    return cures.flossing(cell, params, few, xs[:, :2], k=min(4, size))


CURES: dict[str, Cure] = {
    "none": Cure(),
    "clip": Cure(optimizer=cures.clip_by_global_norm(1.0)),
    "percentile": Cure(optimizer=cures.clip_by_percentile(10.0)),
    "zscore": Cure(optimizer=cures.clip_by_zscore()),
    "skip": Cure(optimizer=cures.skip_spikes()),
    "clip-state": Cure(cell=_clipped_state),
    "detach": Cure(cell=_detached),
    "omega": Cure(regularizer=_omega),
    "orthogonality": Cure(regularizer=_orthogonality),
    "flossing": Cure(regularizer=_flossing),
}


# --- by name ----------------------------------------------------------------------------------


def cells_of(given: Any, task: Task, hidden: int) -> dict[str, Cell]:
    """Cells by name; names of presets are built for the task."""
    if isinstance(given, Mapping):
        _check_named("cells", given, Cell)
        return dict(given)
    checks.check_positive_int("hidden_size", hidden)
    names = _names("cells", given, [*CELLS, *ALIASES])
    return {name: CELLS[ALIASES.get(name, name)](task, hidden) for name in names}


def cures_of(given: Any) -> dict[str, Cure]:
    """Cures by name, of one's own or presets."""
    if isinstance(given, Mapping):
        _check_named("cures", given, Cure)
        return dict(given)
    return {name: CURES[name] for name in _names("cures", given, list(CURES))}


def _check_named(argument: str, given: Mapping[Any, Any], kind: type) -> None:
    if not given:
        raise ValueError(f"{argument} must hold at least one, got none")
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"{argument} must have strings as names, got {name!r}")
        if not isinstance(value, kind):
            module = "rx" if kind is Cell else "rx.train"
            raise TypeError(
                f"{argument}[{name!r}] must be a {module}.{kind.__name__}, got "
                f"{type(value).__name__}"
            )


def _names(argument: str, given: Any, known: list[str]) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"{argument} must be a dict by name, or a list of names, got {given!r}")
    if not given:
        raise ValueError(f"{argument} must hold at least one, got none")
    for name in given:
        if name not in known:
            raise ValueError(f"{argument}: {unknown(argument[:-1], name, known)}")
    if len(set(given)) < len(given):
        raise ValueError(f"{argument} names one twice: {', '.join(given)}")
    return list(given)
