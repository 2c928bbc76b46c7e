"""The unrolled recurrence as one differentiable function.

Its forward-mode rule runs the forward pass, keeps what is needed, and binds a linear map whose
transpose is the hand-written backward pass. So `jax.grad` runs that one, and no transformation is
lost; derivatives of derivatives are those of the code of both passes.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from recurrax.unrolling.hoisted.backward import backward
from recurrax.unrolling.hoisted.forward import forward
from recurrax.unrolling.hoisted.linear import apply
from recurrax.unrolling.hoisted.problem import Flags, Operands, Spec
from recurrax.unrolling.hoisted.tangent import tangent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recurrax.unrolling.hoisted.linear import Leaves, LinearMap


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(spec: Spec, flags: Flags, ops: Operands) -> tuple[Any, Any]:
    """The last state's fields, and the fields after every step (None where not wanted)."""
    final, stacks, _ = forward(spec, flags, ops, remember=False)
    return final, stacks


@dataclasses.dataclass(frozen=True)
class Derivative:
    """The recurrence linearised: from tangents of the operands to tangents of the states.

    Args:
      spec: what is static.
      tree: the structure of what it is linearised at: flags, operands, memory.
      ops: the structure of the operands.
      fields: how many fields the state has.
    """

    spec: Spec
    tree: Any
    ops: Any
    fields: int

    def forward(self, at: Leaves, x: Leaves, wanted: Sequence[bool]) -> Leaves:
        """Forward mode."""
        moved = jax.tree.unflatten(self.ops, x)
        final, stacks = tangent(self.spec, *jax.tree.unflatten(self.tree, at), moved)
        out = [*final, *stacks]
        return [a if here else None for a, here in zip(out, wanted, strict=True)]

    def backward(self, at: Leaves, y: Leaves, wanted: Sequence[bool]) -> Leaves:
        """Reverse mode."""
        final, stacks = tuple(y[: self.fields]), tuple(y[self.fields :])
        which = jax.tree.unflatten(self.ops, wanted)
        at_ = jax.tree.unflatten(self.tree, at)
        found = backward(self.spec, *at_, final, stacks, which)
        return list(self.ops.flatten_up_to(found))

    def batched(self, size: int, at: Sequence[Any], x: Sequence[Any]) -> LinearMap | None:
        """Nothing better than `jax.vmap` of both."""
        return None


@partial(recurrence.defjvp, symbolic_zeros=True)
def _recurrence_jvp(spec: Spec, primals: Any, tangents: Any) -> tuple[Any, Any]:
    flags, ops = primals
    final, stacks, memory = forward(spec, flags, ops, remember=True)
    leaves, tree = jax.tree.flatten((flags, ops, memory))
    values, ops_tree = jax.tree.flatten(ops)
    moved = [None if isinstance(t, SymbolicZero) else t for t in ops_tree.flatten_up_to(tangents[1])]
    linear = Derivative(spec, tree, ops_tree, len(final))
    out = apply(linear, leaves, moved, [*final, *stacks])
    moved_stacks = tuple(out[len(final) :])
    return (final, stacks), (tuple(out[: len(final)]), moved_stacks)
