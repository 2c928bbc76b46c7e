"""Combinators from cells to a cell, or to layers that read a sequence from both ends."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import jax

from recurrax import checks
from recurrax.cell import Cell, InitialState, Params, State, StepFn, cell_text, check_cell
from recurrax.cells.bidirectional import Bidirectional, known_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


@dataclasses.dataclass(frozen=True)
class StackInit:
    """Each cell's params, in a tuple."""

    inits: tuple[Callable[[chex.PRNGKey], Params], ...]

    @property
    def gated_sizes(self) -> tuple[int | None, int | None]:
        """What the first cell takes and the last one gives, as far as they tell."""
        none = (None, None)  # what a cell gives or takes that is not gated is its own affair
        first, last = (getattr(self.inits[i], "gated_sizes", none) for i in (0, -1))
        return first[0], last[1]

    def __call__(self, key: chex.PRNGKey) -> tuple[Params, ...]:
        checks.check_key(key)
        keys = jax.random.split(key, len(self.inits))
        return tuple(init(k) for init, k in zip(self.inits, keys, strict=True))


@dataclasses.dataclass(frozen=True)
class StackInitialState:
    """Each cell's initial state, in a tuple."""

    initial_states: tuple[InitialState, ...]

    def __call__(self, params: Params, batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        check_entries("params", params, len(self.initial_states))
        pairs = zip(self.initial_states, params, strict=True)
        return tuple(initial(p, batch_shape) for initial, p in pairs)


@dataclasses.dataclass(frozen=True)
class StackStep:
    """The output of each cell is the input of the next, within one instant."""

    steps: tuple[StepFn, ...]

    def __call__(self, params: Params, state: State, x: Any) -> tuple[tuple[State, ...], Any]:
        new = []
        for step, p, s in zip(self.steps, params, state, strict=True):
            s, x = step(p, s, x)
            new.append(s)
        return tuple(new), x

    def call_text(self, init: Any) -> str:
        """A stack as the call that makes it."""
        inits = getattr(init, "inits", (None,) * len(self.steps))
        return f"stack({', '.join(map(cell_text, self.steps, inits))})"

    def check_inputs(self, params: Params, state: State, xs: Any) -> None:
        """The first cell sees the inputs."""
        for name, given in (("params", params), ("state", state)):
            check_entries(name, given, len(self.steps))
        if hasattr(self.steps[0], "check_inputs"):
            self.steps[0].check_inputs(params[0], state[0], xs)


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
        if not isinstance(cell, BothWays):
            check_cell("stack", cell)
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


@dataclasses.dataclass(frozen=True)
class ResidualStep:
    """`y = x + step(params, state, x)`."""

    step: StepFn

    def __call__(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        state, y = self.step(params, state, x)
        if y.shape != x.shape:
            raise ValueError(
                f"residual adds the cell's output {y.shape} to its input {x.shape}, which must "
                "have the same shape: build the cell with input_size == hidden_size"
            )
        return state, x + y

    def call_text(self, init: Any) -> str:
        """A residual as the call that makes it."""
        return f"residual({cell_text(self.step, init)})"

    def check_inputs(self, params: Params, state: State, xs: Any) -> None:
        """The wrapped cell sees the inputs as they are."""
        if hasattr(self.step, "check_inputs"):
            self.step.check_inputs(params, state, xs)


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


def check_entries(name: str, given: Any, count: int) -> None:
    """Raise unless there is one for each cell."""
    if not isinstance(given, tuple) or len(given) != count:
        came = f"{len(given)} of them" if type(given) is tuple else type(given).__name__
        raise TypeError(
            f"{name} of a stack of {count} cells must be a tuple with one entry for each, "
            f"got {came}"
        )
