"""Two cells over one sequence, one in each direction of time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell

if TYPE_CHECKING:
    import chex

MERGES = ("concat", "sum", "mul", "ave")


class Directions(NamedTuple):
    """Params or states of the two directions."""

    forward: Any
    backward: Any


@dataclasses.dataclass(frozen=True)
class Bidirectional:
    """What `rx.bidirectional` makes: not a cell, since its output at t depends on all inputs.

    `rx.unroll` and `rx.unroll_states` take it in the place of a cell, and `rx.stack` as a layer.
    Params and states are a pair `(forward, backward)`.

    Args:
      forward: the cell that runs from the first input to the last.
      backward: the cell that runs from the last input to the first.
      merge: how their outputs are joined.

    Example:
      >>> import jax, recurrax as rx
      >>> both = rx.bidirectional(rx.cells.gru(3, 8))
      >>> both.forward == both.backward
      True
    """

    forward: Cell
    backward: Cell
    merge: str = "concat"

    def __repr__(self) -> str:
        """The call that makes it."""
        cells = (self.forward,) if self.forward == self.backward else (self.forward, self.backward)
        merge = () if self.merge == "concat" else (f"merge={self.merge!r}",)
        return f"bidirectional({', '.join((*map(repr, cells), *merge))})"

    def init(self, key: chex.PRNGKey) -> Directions:
        """Both cells' params."""
        checks.check_key(key)
        first, second = jax.random.split(key)
        return Directions(self.forward.init(first), self.backward.init(second))

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = ()) -> Directions:
        """Both cells' initial states."""
        check_pair("params", params)
        forward, backward = params
        return Directions(
            self.forward.initial_state(forward, batch_shape),
            self.backward.initial_state(backward, batch_shape),
        )

    @property
    def gated_sizes(self) -> tuple[int | None, int | None]:
        """How many features it takes and gives, each None where the cells do not tell."""
        (takes, ahead), (also_takes, back) = map(known_sizes, (self.forward, self.backward))
        gives = ahead if self.merge != "concat" else ahead and back and ahead + back
        return takes or also_takes, gives

    def join(self, ahead: Any, back: Any) -> Any:
        """The outputs of both directions, in the order of the inputs, as one."""

        def one(a: chex.Array, b: chex.Array) -> chex.Array:
            if self.merge == "concat":
                return jnp.concatenate([a, b], -1)
            if a.shape != b.shape:
                raise ValueError(
                    f"merge={self.merge!r} joins outputs of one shape, but those of forward are "
                    f'{a.shape} and those of backward {b.shape}. merge="concat" takes any sizes.'
                )
            if self.merge == "mul":
                return a * b
            return a + b if self.merge == "sum" else (a + b) / 2

        return jax.tree.map(one, ahead, back)


def bidirectional(
    forward: Cell, backward: Cell | None = None, *, merge: str = "concat"
) -> Bidirectional:
    """Run one cell from the start and one from the end, and join their outputs.

    `y_t = [forward y_t, backward y_t]` on the last axis.

    Args:
      forward: a `Cell`.
      backward: a `Cell`, by default the same as `forward`, with params of its own.
      merge: how outputs are joined: `"concat"` on the last axis, or for outputs of one size
        `"sum"`, `"mul"` or `"ave"`, elementwise, the last being half the sum.

    Returns:
      A `Bidirectional`, which `rx.unroll` takes in the place of a cell, and `rx.stack` as a layer.
      The final state of the backward direction is the one after the *first* input.

    Raises:
      TypeError: if something else than a `Cell` is given.
      ValueError: if merge is unknown, or the two cells are known to take inputs or, unless
        concatenated, to give outputs of different sizes.

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
    checks.check_choice("merge", merge, MERGES)
    (takes, gives), (also_takes, also_gives) = known_sizes(forward), known_sizes(backward)
    if takes and also_takes and takes != also_takes:
        raise ValueError(
            f"forward takes {takes} features and backward {also_takes}, but both read the same "
            f"inputs: build backward with input_size={takes}"
        )
    if merge != "concat" and gives and also_gives and gives != also_gives:
        raise ValueError(
            f"merge={merge!r} joins outputs of one size, but forward gives {gives} features and "
            f'backward {also_gives}. merge="concat" takes any sizes.'
        )
    return Bidirectional(forward, backward, merge)


def known_sizes(layer: Any) -> tuple[int | None, int | None]:
    """How many features a layer takes and gives; None is its own affair, as of a cell not gated."""
    told = layer.init if isinstance(layer, Cell) else layer
    takes, gives = getattr(told, "gated_sizes", (None, None))
    return takes, gives


def check_pair(name: str, given: Any) -> None:
    """Raise unless there is one for each direction."""
    if not isinstance(given, tuple) or len(given) != 2:
        raise TypeError(
            f"{name} of a bidirectional unroll must be a pair (forward, backward), as its init "
            f"and initial_state return; got {type(given).__name__}"
        )
