"""Two cells over one sequence, one in each direction of time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from recurrax import checks
from recurrax.cell import Cell

if TYPE_CHECKING:
    import chex


class Directions(NamedTuple):
    """Params or states of the two directions."""

    forward: Any
    backward: Any


@dataclasses.dataclass(frozen=True)
class Bidirectional:
    """What `rx.bidirectional` makes: not a cell, since its output at t depends on all inputs.

    `rx.unroll` and `rx.unroll_states` take it in the place of a cell. Params and states are a
    pair `(forward, backward)`.

    Args:
      forward: the cell that runs from the first input to the last.
      backward: the cell that runs from the last input to the first.

    Example:
      >>> import jax, recurrax as rx
      >>> both = rx.bidirectional(rx.cells.gru(3, 8))
      >>> both.forward == both.backward
      True
    """

    forward: Cell
    backward: Cell

    def __repr__(self) -> str:
        """The call that makes it."""
        cells = (self.forward,) if self.forward == self.backward else (self.forward, self.backward)
        return f"bidirectional({', '.join(map(repr, cells))})"

    def init(self, key: chex.PRNGKey) -> Directions:
        """Both cells' params."""
        checks.check_key(key)
        first, second = jax.random.split(key)
        return Directions(self.forward.init(first), self.backward.init(second))

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Directions:
        """Both cells' initial states."""
        forward, backward = params
        return Directions(
            self.forward.initial_state(forward, batch_shape),
            self.backward.initial_state(backward, batch_shape),
        )


def bidirectional(forward: Cell, backward: Cell | None = None) -> Bidirectional:
    """Run one cell from the start and one from the end, and join their outputs.

    `y_t = [forward y_t, backward y_t]` on the last axis.

    Args:
      forward: a `Cell`.
      backward: a `Cell`, by default the same as `forward`, with params of its own.

    Returns:
      A `Bidirectional`, which `rx.unroll` takes in the place of a cell. The final state of the
      backward direction is the one after the *first* input.

    Raises:
      TypeError: if something else than a `Cell` is given.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> both = rx.bidirectional(rx.cells.gru(3, 8))
      >>> params = both.init(jax.random.key(0))
      >>> state, ys = rx.unroll(both, params, both.initial_state(params, (2,)), jnp.ones((5, 2, 3)))
      >>> ys.shape
      (5, 2, 16)
    """
    backward = forward if backward is None else backward
    for name, cell in (("forward", forward), ("backward", backward)):
        if not isinstance(cell, Cell):
            raise TypeError(f"{name} must be a rx.Cell, got {type(cell).__name__}")
    return Bidirectional(forward, backward)
