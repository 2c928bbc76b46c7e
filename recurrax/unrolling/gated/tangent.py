"""The forward-mode derivative: the transpose of `backward.py`, written out.

    dz_in_t  = dx_t W_in + x_t dW_in + db        dz_rec_t = dh_{t-1} W_rec + h_{t-1} dW_rec
    ds_t[k]  = sum_g rec_t[k][g] dz_rec_t[g] + sum_j direct_t[k][j] ds_{t-1}[j] + drive_t[k]

The drive, what comes by z_in and the unit parameters, is computed a chunk at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.gated.local import weighted
from recurrax.unrolling.gated.chunk import ChunkDerivatives, ChunkInputs, in_chunks
from recurrax.unrolling.gated.operands import LayerSpec, Operands, Switches, where

if TYPE_CHECKING:
    from recurrax.unrolling.gated.forward import Residuals


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
    chunks, local, rows = in_chunks(spec, ops, residuals)

    def chunk(state: Any, first: Any, now: Any, before: Any) -> tuple[Any, Any]:
        part, d_xs = now
        instants = ChunkDerivatives(spec, local, chunks, ops, part, before)
        rec, direct = instants.derivatives()
        dz_rec = None if moved.w_rec is None else instants.old[spec.h] @ moved.w_rec
        dz_in = _input_tangent(ops, moved, part.xs, d_xs)
        unit_moves = bool(jax.tree.leaves(moved.unit))
        drive = None
        if dz_in is not None and local.one_gate_gradient and not unit_moves:
            dz_rec, dz_in = dz_in if dz_rec is None else dz_rec + dz_in, None
        elif dz_in is not None or unit_moves:
            unit = jax.tree.map(
                lambda a, d: jnp.zeros_like(a) if d is None else d, ops.unit, moved.unit
            )
            size = (*part.xs.shape[:-1], ops.w_rec.shape[1])
            dtype = local.z_in.aval.dtype
            dz_in = jnp.zeros(size, dtype) if dz_in is None else dz_in.astype(dtype)
            drive = instants.push(unit, dz_in)

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


def _input_tangent(ops: Operands, moved: Operands, xs: Any, d_xs: Any) -> Any:
    """`dx W_in + x dW_in + db` of one chunk, or None if nothing moves."""
    parts = []
    if d_xs is not None:
        parts.append(d_xs @ ops.w_in)
    if moved.w_in is not None:
        parts.append(xs @ moved.w_in)
    if moved.b is not None:
        parts.append(jnp.broadcast_to(moved.b, (*xs.shape[:-1], moved.b.shape[0])))
    return sum(parts[1:], parts[0]) if parts else None


def _sum_gates(rec: Any, dz: Any, like: Any) -> Any:
    """`sum_g rec[g] dz[g]`, `[B, H]`."""
    if rec is None:
        return jnp.zeros_like(like)
    gates = jnp.split(rec * dz, rec.shape[-1] // like.shape[-1], -1)
    return sum(gates[1:], gates[0]).astype(like.dtype)
