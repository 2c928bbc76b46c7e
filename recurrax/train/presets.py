"""Cells, cures and optimizers by name, for comparisons and for the command."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import optax

from recurrax import checks, keys
from recurrax.cell import Cell
from recurrax.cells import CELLS as FAMILIES
from recurrax.cures.clipping.adaptive import clip_by_percentile, clip_by_zscore, skip_spikes
from recurrax.cures.clipping.clip_state_gradient import clip_state_gradient
from recurrax.cures.clipping.global_norm import clip_by_global_norm
from recurrax.cures.detach import detach
from recurrax.cures.init.biases import chrono
from recurrax.cures.init.matrices import identity, spectral_radius
from recurrax.cures.penalties import flossing, omega, orthogonality
from recurrax.flow.steps.problem import floating_leaves
from recurrax.words import unknown

if TYPE_CHECKING:
    from recurrax.tasks.task import Task
    from recurrax.train.networks.objective import Regularizer


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


# --- cells ----------------------------------------------------------------------------------------


def _preset(family: str, **options: Any) -> Callable[[Task, int], Cell]:
    """Return a preset that builds a cell of `recurrax.cells.CELLS` with these options."""

    def build(task: Task, hidden: int) -> Cell:
        return FAMILIES[family].build(task.input_size, hidden, **options)

    return build


def _lstm_chrono(task: Task, hidden: int) -> Cell:
    bias = chrono(max(2, task.length))
    return _preset("lstm", forget_bias=0.0, bias_init=bias)(task, hidden)


# As torch begins its RNN, uniform in +-1/sqrt(H): a spectral radius near .58.
_UNIFORM = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

CELLS: dict[str, Callable[[Task, int], Cell]] = {family: _preset(family) for family in FAMILIES} | {
    "elman-uniform": _preset("elman", recurrent_init=_UNIFORM),
    "elman-relu-identity": _preset("elman-relu", recurrent_init=identity()),
    "elman-exploding": _preset("elman", recurrent_init=spectral_radius(2.0)),
    "lstm-forget": _preset("lstm", forget_bias=5.0),
    "lstm-chrono": _lstm_chrono,
}
"""`cell(task, hidden_size)` by the names that `rx.train.compare` takes."""

ALIASES = {"irnn": "elman-relu-identity"}


# --- cures ----------------------------------------------------------------------------------------


def _detached(cell: Cell) -> Cell:
    """The same draws at every update, but other ones for each step and each of the batch."""
    return detach(cell, 0.25, keys.own(keys.DETACH))


def _omega(cell: Cell, params: Any, state: Any, xs: Any) -> Any:
    """Of the first two examples, and of errors that begin at the sum of the last output."""
    few = jax.tree.map(lambda leaf: leaf[:2], state)
    return 0.01 * omega(cell, params, few, xs[:, :2], lambda ys: ys[-1].sum())


def _orthogonality(cell: Cell, params: Any, state: Any, xs: Any) -> Any:
    return 0.01 * orthogonality(params)


def _flossing(cell: Cell, params: Any, state: Any, xs: Any) -> Any:
    """Of the first two examples, and four exponents, which is what can be paid at every step."""
    few = jax.tree.map(lambda leaf: leaf[:2], state)
    size = sum(math.prod(leaf.shape[1:]) for _, leaf in floating_leaves(few))
    return flossing(cell, params, few, xs[:, :2], k=min(4, size))


CURES: dict[str, Cure] = {
    "none": Cure(),
    "clip": Cure(optimizer=clip_by_global_norm(1.0)),
    "percentile": Cure(optimizer=clip_by_percentile(10.0)),
    "zscore": Cure(optimizer=clip_by_zscore()),
    "skip": Cure(optimizer=skip_spikes()),
    "clip-state": Cure(cell=partial(clip_state_gradient, max_norm=0.01)),
    "detach": Cure(cell=_detached),
    "omega": Cure(regularizer=_omega),
    "orthogonality": Cure(regularizer=_orthogonality),
    "flossing": Cure(regularizer=_flossing),
}


# --- optimizers -----------------------------------------------------------------------------------

OPTIMIZERS = ("adam", "adamw", "nadam", "rmsprop", "adagrad", "lion", "sgd")  # as Optax calls them


def optimizer(name: str, learning_rate: float, clip: float | None = None) -> Any:
    """Return one of `OPTIMIZERS` with Optax's defaults, behind a clip of the norm if given."""
    made = getattr(optax, name)(learning_rate)
    return made if clip is None else optax.chain(clip_by_global_norm(clip), made)


# --- by name --------------------------------------------------------------------------------------


def cells_of(given: Any, task: Task, hidden: int) -> dict[str, Cell]:
    """Return cells by name; names of presets are built for the task."""
    if not isinstance(given, Mapping):
        checks.check_positive_int("hidden_size", hidden)
    presets = CELLS | {alias: CELLS[name] for alias, name in ALIASES.items()}
    chosen = _by_name("cells", given, presets, Cell)
    if isinstance(given, Mapping):
        return chosen
    return {name: build(task, hidden) for name, build in chosen.items()}


def cures_of(given: Any) -> dict[str, Cure]:
    """Return cures by name, of one's own or presets."""
    return _by_name("cures", given, CURES, Cure)


def _by_name(argument: str, given: Any, presets: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return what a user gives by name, each of a kind; or the presets of the names given."""
    by_name = isinstance(given, Mapping)
    if not by_name and (isinstance(given, str) or not isinstance(given, Sequence)):
        raise TypeError(f"{argument} must be a dict by name, or a list of names, got {given!r}")
    if not given:
        raise ValueError(f"{argument} must hold at least one, got none")
    for name in given:
        if by_name and not isinstance(name, str):
            raise TypeError(f"{argument} must have strings as names, got {name!r}")
        if by_name and not isinstance(given[name], kind):
            module = "rx" if kind is Cell else "rx.train"
            raise TypeError(
                f"{argument}[{name!r}] must be a {module}.{kind.__name__}, got "
                f"{type(given[name]).__name__}"
            )
        if not by_name and name not in list(presets):
            raise ValueError(f"{argument}: {unknown(argument[:-1], name, presets)}")
    if len(set(given)) < len(given):
        raise ValueError(f"{argument} names one twice: {', '.join(given)}")
    return dict(given) if by_name else {name: presets[name] for name in given}
