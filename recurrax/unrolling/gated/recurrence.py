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
from jax.custom_derivatives import SymbolicZero

from recurrax.unrolling.gated.backward import backward
from recurrax.unrolling.gated.forward import forward
from recurrax.unrolling.gated.linear_map import Folded, apply, axis_leaves
from recurrax.unrolling.gated.operands import LayerSpec, Operands, Switches
from recurrax.unrolling.gated.tangent import tangent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recurrax.unrolling.gated.linear_map import Leaves, LinearMap


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(spec: LayerSpec, flags: Switches, ops: Operands) -> tuple[Any, Any]:
    """The last state's fields, and the fields after every step (None where not wanted)."""
    final, stacks, _ = _forward(spec, flags, ops, remember=False)
    return final, stacks


def _forward(
    spec: LayerSpec, flags: Switches, ops: Operands, *, remember: bool
) -> tuple[Any, Any, Any]:
    run = forward if spec.kernel is None else spec.kernel.forward
    found: tuple[Any, Any, Any] = run(spec, flags, ops, remember=remember)
    return found


@dataclasses.dataclass(frozen=True)
class Derivative:
    """The recurrence linearised: from tangents of the operands to tangents of the states.

    Args:
      spec: what is static.
      tree: the structure of what it is linearised at: flags, operands, residuals.
      ops: the structure of the operands.
      axes: where the batch axis is in each array that it is linearised at, None for none.
      ops_axes: the same for the operands.
      fields: how many fields the state has.
    """

    spec: LayerSpec
    tree: Any
    ops: Any
    axes: tuple[int | None, ...]
    ops_axes: tuple[int | None, ...]
    fields: int

    def forward(self, at: Leaves, x: Leaves, wanted: Sequence[bool]) -> Leaves:
        """Forward mode."""
        flags, ops, residuals = jax.tree.unflatten(self.tree, at)
        moved = jax.tree.unflatten(self.ops, x)
        final, stacks = tangent(self.spec, flags, ops, residuals, moved)
        out = [*final, *stacks]
        return [a if here else None for a, here in zip(out, wanted, strict=True)]

    def backward(self, at: Leaves, y: Leaves, wanted: Sequence[bool]) -> Leaves:
        """Reverse mode."""
        flags, ops, residuals = jax.tree.unflatten(self.tree, at)
        final, stacks = tuple(y[: self.fields]), tuple(y[self.fields :])
        which = jax.tree.unflatten(self.ops, wanted)
        run = backward if self.spec.kernel is None else self.spec.kernel.backward
        found = run(self.spec, flags, ops, residuals, final, stacks, which)
        return list(self.ops.flatten_up_to(found))

    def batched(self, size: int, at: Sequence[Any], x: Sequence[Any]) -> LinearMap | None:
        """Fold the new axis into the batch, where it is one of examples and not of weights.

        Nor one of tangents alone: what all of those share is then computed once.
        """
        pairs = [*zip(at, self.axes, strict=True), *zip(x, self.ops_axes, strict=True)]
        if not any(at) or any(here and axis is None for here, axis in pairs):
            return None
        there = tuple(bool(here) for here in x)
        y_axes = (0,) * self.fields + (1,) * self.fields
        return Folded(self, size, tuple(at), there, self.axes, self.ops_axes, y_axes)


@partial(recurrence.defjvp, symbolic_zeros=True)
def _recurrence_jvp(spec: LayerSpec, primals: Any, tangents: Any) -> tuple[Any, Any]:
    flags, ops = primals
    final, stacks, residuals = _forward(spec, flags, ops, remember=True)
    at = (flags, ops, residuals)
    leaves, tree = jax.tree.flatten(at)
    ops_tree: Any = jax.tree.structure(ops)
    moved = ops_tree.flatten_up_to(tangents[1])
    axes = _batch_axes(spec, at)
    linear = Derivative(
        spec, tree, ops_tree, axis_leaves(at, axes), axis_leaves(ops, axes[1]), len(final)
    )
    absent = [None if isinstance(t, SymbolicZero) else t for t in moved]
    out = apply(linear, leaves, absent, [*final, *stacks])
    return (final, stacks), (tuple(out[: len(final)]), tuple(out[len(final) :]))


def _batch_axes(spec: LayerSpec, at: tuple[Switches, Operands, Any]) -> Any:
    """Where the batch axis is in each part; -1 where there is none."""
    flags, ops, residuals = at

    def kept(a: Any) -> int:
        # What is kept of an instant is shaped like a gate; where that cannot be told, no fold.
        batch, gates = ops.state[0].shape[0], spec.step.gates
        plain = a.shape[-2:] == ops.state[0].shape and batch not in (*a.shape[1:-2], gates)
        return a.ndim - 2 if plain else -1

    none: Any = None
    zero: Any = 0
    return (
        Switches(*(none if a is None else 1 for a in flags)),
        Operands(-1, -1, -1, -1, zero, zero if ops.start else none, 1),
        residuals._replace(
            states=residuals.states and 1,
            kept=residuals.kept and tuple(kept(a) for a in residuals.kept),
            chunk_starts=residuals.chunk_starts and 1,
        ),
    )
