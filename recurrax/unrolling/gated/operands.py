"""What the hoisted engine is given: one gated cell, one batch axis, one sequence."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.gated.diagonals import input_share, split_gates

if TYPE_CHECKING:
    import chex

    from recurrax.gated.cell import GatedStep


class Switches(NamedTuple):
    """What is not differentiated."""

    mask: chex.Array | None  # bool [T, B]
    resets: chex.Array | None  # bool [T, B]


class Operands(NamedTuple):
    """What is differentiated. Also the shape of a gradient, None where it is not wanted."""

    w_in: Any  # [I, G*H]
    w_rec: Any  # [H, G*H]
    b: Any  # [G*H]
    unit: Any  # a pytree of [H] arrays
    state: tuple[Any, ...]  # the fields of the first state, each [B, H]
    start: tuple[Any, ...] | None  # the state that a reset returns to
    xs: Any  # [T, B, I]


class Plan(NamedTuple):
    """How much is worked on at once and kept, where the shapes are not to decide it."""

    chunk: int  # steps
    keep: bool  # whether the forward pass keeps what the derivatives are computed from


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """What is static.

    Args:
      step: the gated step.
      reverse: whether time runs from the end to the start.
      remat: how many steps apart the states are that are kept for the backward pass, or None.
      all_fields: whether every field of the state is wanted at every instant, or h alone.
      kernel: what runs both passes in place of the loops here, with their `forward` and `backward`.
      plan: the size of chunks and what is kept, or None to choose them by the shapes.
    """

    step: GatedStep
    reverse: bool
    remat: int | None
    all_fields: bool
    kernel: Any = None
    plan: Plan | None = None

    @property
    def h(self) -> int:
        """Which field of the state is h."""
        fields: tuple[str, ...] = self.step.state._fields  # type: ignore[attr-defined]
        return fields.index("h")

    def z_in(self, ops: Operands, x: chex.Array) -> chex.Array:
        """The input's share of the pre-activations, `[..., G*H]`."""
        return input_share(ops, x)

    def gates(self, z: chex.Array) -> chex.Array:
        """`[..., G*H]` to `[G, ..., H]`, as the pointwise function wants it."""
        return split_gates(z, self.step.gates)

    def instant(self, ops: Operands) -> tuple[Any, ...]:
        """What the pointwise function is given at one instant, as shapes."""

        def first(ops: Operands) -> Any:
            z_in = self.gates(self.z_in(ops, ops.xs[0]))
            return ops.unit, z_in, self.gates(ops.state[self.h] @ ops.w_rec), ops.state

        shapes: tuple[Any, ...] = jax.eval_shape(first, ops)
        return shapes


def where(flags: chex.Array | None, yes: Any, no: Any) -> Any:
    """`jnp.where` over a tree of `[..., H]` arrays with flags `[...]`; yes where there are none."""
    if flags is None:
        return yes
    return jax.tree.map(lambda a, b: jnp.where(flags[..., None], a, b), yes, no)
