"""A cell, and the step function inside it; nothing here knows about time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import chex

Params: TypeAlias = Any
State: TypeAlias = Any
StepFn: TypeAlias = Callable[[Params, State, Any], tuple[State, Any]]
"""`step(params, state, x) -> (state, y)`, for one instant, with or without a batch."""


class InitialState(Protocol):
    """`initial_state(params, batch_shape=()) -> state`."""

    def __call__(self, params: Params, batch_shape: tuple[int, ...] = ()) -> State: ...


@dataclasses.dataclass(frozen=True)
class Cell:
    """A recurrent cell: three pure functions, and nothing else.

    `functools.partial(cell.step, params)` is the body of a `jax.lax.scan`. A cell is not a
    pytree; it is a static value, equal to another when its three functions are equal, so a cell
    built twice from the same sizes never compiles twice.

    Args:
      init: `init(key) -> params`.
      initial_state: `initial_state(params, batch_shape=()) -> state`; sizes and dtype are read
        off the params.
      step: `step(params, state, x) -> (state, y)`.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> def step(w, h, x):  # a running sum that forgets
      ...     h = w * h + x
      ...     return h, h
      >>> cell = rx.Cell(
      ...     init=lambda key: jax.random.uniform(key),
      ...     initial_state=lambda w, batch_shape=(): jnp.zeros(batch_shape),
      ...     step=step,
      ... )
      >>> state, ys = rx.unroll(cell, 0.5, cell.initial_state(0.5), jnp.ones(3))
      >>> [float(y) for y in ys]
      [1.0, 1.5, 1.75]
    """

    init: Callable[[chex.PRNGKey], Params]
    initial_state: InitialState
    step: StepFn

    def __repr__(self) -> str:
        """The call that makes it, where its step knows how to write it; else its step."""
        return cell_text(self.step, self.init)


def cell_text(step: StepFn, init: Any) -> str:
    """A cell with this step and this `init` in one line."""
    write = getattr(step, "call_text", None)
    name = getattr(step, "__name__", type(step).__name__)
    return f"Cell(step={name})" if write is None else str(write(init))


def check_cell(name: str, cell: Any) -> None:
    """Raise unless what a function of this name is given is a cell."""
    if not isinstance(cell, Cell):
        raise TypeError(
            f"{name} takes a rx.Cell, got {type(cell).__name__}. Wrap a bare step function as "
            "rx.Cell(init=..., initial_state=..., step=...), and the cells of a "
            "rx.bidirectional before it joins them."
        )


_CELL_OR_STEP = "cell must be a rx.Cell or a step function (params, state, x) -> (state, y)"


def as_step(cell: Cell | StepFn) -> StepFn:
    """The step function of a cell, or the bare step function itself."""
    if isinstance(cell, Cell):
        return cell.step
    if not callable(cell):
        raise TypeError(
            f"{_CELL_OR_STEP}, got {type(cell).__name__}. Build one with "
            "rx.cells.lstm(input_size, hidden_size), say."
        )
    makes = getattr(cell, "__annotations__", {}).get("return")
    if makes is Cell or makes in ("Cell", "Cell | BidirectionalStack", "Bidirectional"):
        name = getattr(cell, "__name__", "the function")
        raise TypeError(f"{_CELL_OR_STEP}, got {name}, which makes a cell: call it, {name}(...)")
    try:
        hash(cell)
    except TypeError:
        raise TypeError(
            f"cell must be hashable, since it decides what is compiled; a {type(cell).__name__} is "
            "not. Use a plain function or a frozen dataclass."
        ) from None
    return cell
