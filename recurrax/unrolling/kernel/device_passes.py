"""The hoisted engine's two passes with the loop on the device: what `recurrence` calls.

Around each kernel stay the products over all steps, on the forward side `x W_in + b`, on the
backward side the recurrent products again (for the pre-activations) and the gradients of the
weights.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.unrolling.gated.forward import Residuals
from recurrax.unrolling.gated.layer import (
    Chunks,
    LayerSpec,
    Operands,
    Switches,
    product_over_all,
    sum_over_all,
    where,
)
from recurrax.unrolling.kernel import primitive as passes
from recurrax.unrolling.kernel.by_gate import backward_by_gate, forward_by_gate
from recurrax.unrolling.kernel.kernel_spec import Backward, Forward, KernelSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.unrolling.kernel.by_gate import ByGate
    from recurrax.unrolling.kernel.placement import Plan


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The kernel's way through time.

    Args:
      plan: how the work is laid on the device.
      interpret: whether to run it by Pallas's interpreter, on any device.
    """

    plan: Plan
    interpret: bool = False

    def forward(
        self, spec: LayerSpec, flags: Switches, ops: Operands, *, remember: bool
    ) -> tuple[Any, Any, Residuals | None]:
        """What `unrolling.gated.forward` does."""
        mask, resets = _lead(flags)
        given = Forward(
            mask=mask,
            resets=resets,
            z=_lead(_product(ops.xs, ops.w_in) + ops.b),
            w_rec=_lead(ops.w_rec),
            unit=_lead(ops.unit),
            columns=_columns(forward_by_gate, spec, ops),
            state=_lead(ops.state),
            start=None if flags.resets is None else _lead(ops.start),
        )
        wanted = tuple(remember or spec.all_fields or k == spec.h for k in range(len(ops.state)))
        final, stacks = _first(passes.forward(self._task(spec, wanted), given))
        out = tuple(a if spec.all_fields or k == spec.h else None for k, a in enumerate(stacks))
        return final, out, Residuals(stacks, None, None) if remember else None

    def backward(
        self,
        spec: LayerSpec,
        flags: Switches,
        ops: Operands,
        residuals: Residuals,
        final: tuple[Any, ...],
        stacks: tuple[Any, ...],
        wanted: Operands,
    ) -> Operands:
        """What `unrolling.gated.backward` does."""
        task = self._task(spec, (True,) * len(ops.state))
        old = _before(spec, flags, ops, residuals)
        z = _product(ops.xs, ops.w_in) + ops.b, _product(old[spec.h], ops.w_rec)
        mask, resets = _lead(flags)
        ends = zip(ops.state, final, strict=True)
        given = Backward(
            mask=mask,
            resets=resets,
            z=_lead((z[0] + z[1],) if _counts_the_sum(spec, ops) else z),
            w_rec=_lead(ops.w_rec),
            unit=_lead(ops.unit),
            columns=_columns(backward_by_gate, spec, ops),
            old=_lead(old),
            errors=_lead(stacks),
            final=_lead(tuple(jnp.zeros_like(a) if f is None else f for a, f in ends)),
        )
        found = _first(passes.backward(task, given))
        d_in, d_rec = found.z[0], found.z[-1]
        grads = Operands(
            w_in=product_over_all(ops.xs, d_in, _precision()) if wanted.w_in else None,
            w_rec=product_over_all(old[spec.h], d_rec, _precision()) if wanted.w_rec else None,
            b=sum_over_all(d_in) if wanted.b else None,
            unit=jax.tree.map(lambda d: d.sum(0), found.unit),
            state=found.state,
            start=found.start,
            xs=_product(d_in, ops.w_in.T) if wanted.xs else None,
        )
        chosen: Operands = jax.tree.map(
            lambda w, g, a: g.astype(a.dtype) if w else None, wanted, grads, ops
        )
        return chosen

    def _task(self, spec: LayerSpec, fields: tuple[bool, ...]) -> KernelSpec:
        return KernelSpec(spec.step, spec.reverse, fields, self.plan, self.interpret)


def _counts_the_sum(spec: LayerSpec, ops: Operands) -> bool:
    """Whether z_in and z_rec count by their sum alone; then they have one gradient."""
    made = forward_by_gate(spec.step, ops.unit, ops.w_rec.shape[0])
    place = len(jax.tree.leaves(ops.unit))
    return made.counts_the_sum(place, place + 1)


def _columns(by_gate: Callable[..., ByGate], spec: LayerSpec, ops: Operands) -> tuple[Any, ...]:
    """What the function that is traced so closes over, for the kernel to be given."""
    made = by_gate(spec.step, ops.unit, ops.w_rec.shape[0])
    return tuple(jnp.asarray(c, jnp.float32)[None] for c in made.columns)


def _lead(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[None], tree)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[0], tree)


def _before(
    spec: LayerSpec, flags: Switches, ops: Operands, residuals: Residuals
) -> tuple[Any, ...]:
    """The fields before every step, after its reset."""
    length = ops.xs.shape[0]
    old = Chunks(length, length, spec.reverse).previous(ops.state, residuals.states)
    before: tuple[Any, ...] = old if flags.resets is None else where(flags.resets, ops.start, old)
    return before


def _product(a: Any, w: Any) -> Any:
    return jnp.matmul(a, w, precision=_precision())


def _precision() -> Any:
    """As accurate as the kernel's own products, unless the user said to JAX what will do."""
    unsaid = jax.config.jax_default_matmul_precision is None  # type: ignore[attr-defined]
    return jax.lax.Precision.HIGHEST if unsaid else None
