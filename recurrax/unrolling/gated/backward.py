"""The recurrence linearised: the backward pass, and the forward-mode one that it transposes.

With the diagonal derivatives of `gated` and the error e_t, the gradient with respect to the
fields of s_t, a step back through time is

    dz_t  = sum_k rec_t[k] e_t[k]                    the gradient of h_{t-1} W_rec
    e_{t-1}[j] = sum_k direct_t[k][j] e_t[k] + [j is h] dz_t W_rec^T

Everything else is done for all steps of a chunk at once: the derivatives before the loop, and
after it the gradients of the weights, each as one product: dW_rec = sum_t h_{t-1}^T dz_t.
Forward mode is the same turned around:

    dz_in_t  = dx_t W_in + x_t dW_in + db        dz_rec_t = dh_{t-1} W_rec + h_{t-1} dW_rec
    ds_t[k]  = sum_g rec_t[k][g] dz_rec_t[g] + sum_j direct_t[k][j] ds_{t-1}[j] + drive_t[k]

where the drive, what comes by z_in and the unit parameters, is computed a chunk at a time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.gated.derivatives import weighted
from recurrax.unrolling.gated.forward import ChunkDerivatives, ChunkInputs, in_chunks
from recurrax.unrolling.gated.layer import (
    LayerSpec,
    Operands,
    Switches,
    at_least_float32,
    product_over_all,
    sum_over_all,
    varying,
    where,
)
from recurrax.unrolling.gated.linear_map import Folded, LinearMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recurrax.unrolling.gated.forward import Residuals
    from recurrax.unrolling.gated.linear_map import Leaves


@dataclasses.dataclass(frozen=True)
class LinearizedRecurrence(LinearMap):
    """From tangents of the operands to tangents of the states; a `LinearMap`.

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


def backward(
    spec: LayerSpec,
    flags: Switches,
    ops: Operands,
    residuals: Residuals,
    final: tuple[Any, ...],
    stacks: tuple[Any, ...],
    wanted: Operands,
) -> Operands:
    """Gradients of the operands.

    Args:
      spec: what is static.
      flags: mask and resets.
      ops: the arrays of the forward pass.
      residuals: what the forward pass kept.
      final: gradients of the last state's fields, None for zero.
      stacks: gradients of the fields after every step, `[T, B, H]`, None for zero.
      wanted: True in the place of each gradient that is wanted.

    Returns:
      The gradients, None where none is wanted.
    """
    chunks, traced, rows = in_chunks(spec, ops, residuals)
    to_h, to_x = ops.w_rec.T, ops.w_in.T
    needs_error = not traced.one_gate_gradient or bool(jax.tree.leaves(ops.unit))

    def chunk(carry: Any, first: Any, now: Any, before: Any) -> tuple[Any, Any]:
        (error, total), (part, errors) = carry, now
        at = ChunkDerivatives(spec, traced, chunks, ops, part, before)
        over = (tuple(at.derivatives()), part.resets, errors)
        error, start, dz, all_errors = _loop(spec, over, error, to_h, needs_error)
        dz_in, d_unit = at.pull(all_errors, dz) if needs_error else (dz, ops.unit)
        sums = Operands(
            w_in=product_over_all(part.xs, dz_in) if wanted.w_in else None,
            w_rec=product_over_all(at.old[spec.h], dz) if wanted.w_rec else None,
            b=sum_over_all(dz_in) if wanted.b else None,
            unit=jax.tree.map(
                lambda w, d: d.sum(0, dtype=at_least_float32(d.dtype)) if w else None,
                wanted.unit,
                d_unit,
            ),
            state=(),
            start=start,
            xs=None,
        )
        total = jax.tree.map(jnp.add, total, sums)
        return (error, total), dz_in @ to_x if wanted.xs else None

    def zero(a: Any, w: Any) -> Any:
        return jnp.zeros(a.shape, at_least_float32(a.dtype)) if w else None

    error = tuple(
        jnp.zeros_like(a) if e is None else e for a, e in zip(ops.state, final, strict=True)
    )
    total = Operands(
        w_in=zero(ops.w_in, wanted.w_in),
        w_rec=zero(ops.w_rec, wanted.w_rec),
        b=zero(ops.b, wanted.b),
        unit=jax.tree.map(zero, ops.unit, wanted.unit),
        state=(),
        start=None if ops.start is None else tuple(jnp.zeros_like(a) for a in ops.start),
        xs=None,
    )
    carry = varying((error, total), (ops, final, stacks))
    arrays = (ChunkInputs(ops.xs, *flags, residuals.states, residuals.kept), stacks)
    (error, total), d_xs = chunks.backwards().run(chunk, carry, arrays, rows)
    grads = total._replace(state=error, xs=d_xs)
    chosen: Operands = jax.tree.map(
        lambda w, g, a: g.astype(a.dtype) if w else None, wanted, grads, ops
    )
    return chosen


def _loop(
    spec: LayerSpec, over: tuple[Any, ...], error: Any, to_h: Any, needs_error: bool
) -> tuple[Any, Any, Any, Any]:
    """Step back through one chunk, over its derivatives, resets and the errors of its outputs.

    Returns the error before it, what went to the state that resets return to, the gradients of
    z_rec and (if needed) the errors at each step.
    """

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        error, start = carry
        (rec, direct), reset, more = now
        error = tuple(e if m is None else e + m for e, m in zip(error, more, strict=True))
        # Side by side and not broadcast over a gate axis: so the sum is one vectorised loop.
        parts = [
            r * jnp.concatenate([e] * spec.step.gates, -1).astype(r.dtype)
            for r, e in zip(rec, error, strict=True)
            if r is not None
        ]
        # The barrier: computed once, not again for each use.
        dz = jax.lax.optimization_barrier(sum(parts[1:], parts[0])) if parts else nothing
        back = [weighted([row[j] for row in direct], error, e) for j, e in enumerate(error)]
        back[spec.h] = back[spec.h] + (dz @ to_h).astype(back[spec.h].dtype)
        if reset is not None:
            zero = tuple(jnp.zeros_like(e) for e in back)
            to_start = where(reset, tuple(back), zero)
            start = tuple(a + b for a, b in zip(start, to_start, strict=True))
            back = where(reset, zero, tuple(back))
        return (tuple(back), start), (dz, error if needs_error else None)

    # Where a state does not depend on the recurrent product at all.
    nothing = jnp.zeros((error[0].shape[0], to_h.shape[0]), to_h.dtype)
    start = None if over[1] is None else tuple(jnp.zeros_like(e) for e in error)
    (error, start), (dz, all_errors) = jax.lax.scan(
        step, (error, start), over, reverse=not spec.reverse
    )
    return error, start, dz, all_errors


def tangent(
    spec: LayerSpec, flags: Switches, ops: Operands, residuals: Residuals, moved: Operands
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """How the states move when the operands do.

    Args:
      spec: what is static.
      flags: mask and resets.
      ops: the arrays of the forward pass.
      residuals: what the forward pass kept.
      moved: the tangents of the operands, None for zero.

    Returns:
      The tangents of the last state's fields and of the fields after every step.
    """
    chunks, traced, rows = in_chunks(spec, ops, residuals)

    def chunk(state: Any, first: Any, now: Any, before: Any) -> tuple[Any, Any]:
        part, d_xs = now
        size = (*part.xs.shape[:-1], ops.w_rec.shape[1])
        at = ChunkDerivatives(spec, traced, chunks, ops, part, before)
        rec, direct = at.derivatives()
        dz_rec = None if moved.w_rec is None else at.old[spec.h] @ moved.w_rec
        parts = [] if d_xs is None else [d_xs @ ops.w_in]
        parts += [] if moved.w_in is None else [part.xs @ moved.w_in]
        parts += [] if moved.b is None else [jnp.broadcast_to(moved.b, size)]
        dz_in = sum(parts[1:], parts[0]) if parts else None
        unit_moves = bool(jax.tree.leaves(moved.unit))
        drive = None
        if dz_in is not None and traced.one_gate_gradient and not unit_moves:
            dz_rec, dz_in = dz_in if dz_rec is None else dz_rec + dz_in, None
        elif dz_in is not None or unit_moves:
            unit = jax.tree.map(
                lambda a, d: jnp.zeros_like(a) if d is None else d, ops.unit, moved.unit
            )
            dtype = traced.z_in.aval.dtype
            dz_in = jnp.zeros(size, dtype) if dz_in is None else dz_in.astype(dtype)
            drive = at.push(unit, dz_in)

        def step(state: Any, now: Any) -> tuple[Any, Any]:
            (rec, direct), reset, dz_rec, drive = now
            if reset is not None:
                state = where(reset, start, state)
            dz = state[spec.h] @ ops.w_rec
            dz = dz if dz_rec is None else dz + dz_rec
            new = tuple(
                _sum_gates(r, dz, a) + weighted(row, state, a)
                for r, row, a in zip(rec, direct, state, strict=True)
            )
            if drive is not None:
                new = jax.tree.map(jnp.add, new, drive)
            return new, new

        over = ((rec, direct), part.resets, dz_rec, drive)
        return jax.lax.scan(step, state, over, reverse=spec.reverse)

    start = _or_zero(ops.start, moved.start)
    state = _or_zero(ops.state, moved.state)
    arrays = (ChunkInputs(ops.xs, *flags, residuals.states, residuals.kept), moved.xs)
    final, stacks = chunks.run(chunk, state, arrays, rows)
    return final, stacks


def _or_zero(values: Any, moved: Any) -> Any:
    """Tangents of some arrays, zero where there is none."""
    if values is None:
        return None
    moved = (None,) * len(values) if moved is None else moved
    return tuple(jnp.zeros_like(a) if d is None else d for a, d in zip(values, moved, strict=True))


def _sum_gates(rec: Any, dz: Any, like: Any) -> Any:
    """`sum_g rec[g] dz[g]`, `[B, H]`."""
    if rec is None:
        return jnp.zeros_like(like)
    gates = jnp.split(rec * dz, rec.shape[-1] // like.shape[-1], -1)
    return sum(gates[1:], gates[0]).astype(like.dtype)
