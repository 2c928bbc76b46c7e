"""Combinators from cells to a cell, or to layers that read a sequence from both ends."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

from recurrax.cell import Cell, Params, State, check_cell
from recurrax.cells.bidirectional import Bidirectional, known_sizes
from recurrax.cells.combined import ResidualStep, StackInit, StackInitialState, StackStep

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


@dataclasses.dataclass(frozen=True)
class BidirectionalStack:
    """What `rx.stack` makes of layers of which one is bidirectional: not a cell either.

    `rx.unroll` and `rx.unroll_states` take it in the place of a cell and run it layer by layer,
    each over all outputs of the one below. Params and states are tuples, one entry a layer.

    Args:
      layers: from the inputs up, each a `Cell`, or what `rx.bidirectional` or `rx.stack` makes.

    Example:
      >>> import recurrax as rx
      >>> both = rx.bidirectional(rx.cells.gru(3, 8))
      >>> deep = rx.stack(both, rx.bidirectional(rx.cells.gru(16, 4)))
      >>> deep.layers[0] == both
      True
    """

    layers: tuple[Cell | Bidirectional | BidirectionalStack, ...]

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"stack({', '.join(map(repr, self.layers))})"

    def init(self, key: chex.PRNGKey) -> tuple[Params, ...]:
        """Each layer's params."""
        return StackInit(tuple(layer.init for layer in self.layers))(key)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        """Each layer's initial state."""
        starts = tuple(layer.initial_state for layer in self.layers)
        return StackInitialState(starts)(params, batch_shape)

    @property
    def gated_sizes(self) -> tuple[int | None, int | None]:
        """What the first layer takes and the last one gives, as far as they tell."""
        return known_sizes(self.layers[0])[0], known_sizes(self.layers[-1])[1]


BothWays: TypeAlias = Bidirectional | BidirectionalStack
"""What reads a sequence from both ends: run by `rx.unroll`, and not step by step."""


@overload
def stack(*cells: Cell) -> Cell: ...


@overload
def stack(*cells: Cell | BothWays) -> Cell | BidirectionalStack: ...


def stack(*cells: Cell | BothWays) -> Cell | BidirectionalStack:
    """Put cells on top of each other: `x -> cells[0] -> cells[1] -> ... -> y`.

    Args:
      *cells: at least one `Cell`, or what `rx.bidirectional` makes, in any order; each one's
        output size is the next one's input size, both directions' together where those are
        concatenated.

    Returns:
      A `Cell` whose params and state are tuples, one entry a cell, and whose output is the last
      cell's. If a layer is bidirectional, a `BidirectionalStack`, which has the same params and
      states, and which `rx.unroll` takes in the place of a cell.

    Raises:
      ValueError: if there is no cell, or the sizes do not chain.
      TypeError: if something else than these is given.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.stack(rx.cells.lstm(3, 8), rx.cells.gru(8, 4))
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = rx.unroll(cell, params, cell.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.shape, state[0].c.shape
      ((5, 2, 4), (2, 8))
      >>> deep = rx.stack(rx.bidirectional(rx.cells.lstm(3, 8)), rx.cells.gru(16, 4))
      >>> state, ys = rx.unroll(deep, deep.init(jax.random.key(0)), None, jnp.ones((5, 2, 3)))
      >>> ys.shape, state[0].backward.c.shape
      ((5, 2, 4), (2, 8))
    """
    if not cells:
        raise ValueError("stack needs at least one cell, got none")
    for cell in cells:
        if not isinstance(cell, (Cell, BothWays)):
            raise TypeError(
                f"stack takes cells and what rx.bidirectional makes, got {type(cell).__name__}. "
                "Wrap a bare step function as rx.Cell(init=..., initial_state=..., step=...)."
            )
    for i, (below, above) in enumerate(itertools.pairwise(cells)):
        gives, takes = known_sizes(below)[1], known_sizes(above)[0]
        if gives is not None and takes is not None and gives != takes:
            raise ValueError(
                f"cell {i} of the stack gives {gives} features, but cell {i + 1} takes {takes}: "
                f"build it with input_size={gives}"
            )
    plain = tuple(cell for cell in cells if isinstance(cell, Cell))
    if len(plain) < len(cells):
        return BidirectionalStack(cells)
    return Cell(
        init=StackInit(tuple(cell.init for cell in plain)),
        initial_state=StackInitialState(tuple(cell.initial_state for cell in plain)),
        step=StackStep(tuple(cell.step for cell in plain)),
    )


def residual(cell: Cell) -> Cell:
    """Add a cell's input to its output: `y_t = x_t + cell(x_t)`.

    Args:
      cell: a `Cell` whose output has the shape of its input.

    Returns:
      A `Cell` with the same params and state.

    Raises:
      TypeError: if `cell` is not a `Cell`.
      ValueError: when traced, if output and input differ in shape.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.residual(rx.cells.gru(4, 4))
      >>> params = cell.init(jax.random.key(0))
      >>> _, ys = rx.unroll(cell, params, cell.initial_state(params), jnp.ones((5, 4)))
      >>> ys.shape
      (5, 4)
    """
    check_cell("residual", cell)
    return Cell(cell.init, cell.initial_state, ResidualStep(cell.step))


_Function = TypeVar("_Function", bound="Callable[..., Any]")


def unless_both_ways(of_a_cell: _Function, otherwise: Callable[..., Any]) -> _Function:
    """A function of a cell first, with another in its place for what reads both ways."""

    @functools.wraps(of_a_cell)
    def either(*args: Any, **options: Any) -> Any:
        both = isinstance(args[0] if args else options.get("cell"), BothWays)
        return (otherwise if both else of_a_cell)(*args, **options)

    return cast("_Function", either)
