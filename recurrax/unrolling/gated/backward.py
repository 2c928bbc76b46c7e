"""The backward pass: what stays in the loop is linear.

With the diagonal derivatives of `gated` and the error e_t, the gradient with respect to the
fields of s_t, a step back through time is

    dz_t  = sum_k rec_t[k] e_t[k]                    the gradient of h_{t-1} W_rec
    e_{t-1}[j] = sum_k direct_t[k][j] e_t[k] + [j is h] dz_t W_rec^T

Everything else is done for all steps of a chunk at once: the derivatives before the loop, and
after it the gradients of the weights, each as one product: dW_rec = sum_t h_{t-1}^T dz_t.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.gated.local import weighted
from recurrax.unrolling.gated.chunk import ChunkDerivatives, ChunkInputs, in_chunks
from recurrax.unrolling.gated.chunks import product_over_all, sum_over_all, wide
from recurrax.unrolling.gated.operands import LayerSpec, Operands, Switches, where
from recurrax.unrolling.gated.shard_map import varying

if TYPE_CHECKING:
    from recurrax.gated.local import Derivatives
    from recurrax.unrolling.gated.forward import Residuals


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
    chunks, local, rows = in_chunks(spec, ops, residuals)
    to_h, to_x = ops.w_rec.T, ops.w_in.T
    needs_error = not local.one_gate_gradient or bool(jax.tree.leaves(ops.unit))

    def chunk(carry: Any, first: Any, now: Any, before: Any) -> tuple[Any, Any]:
        (error, total), (part, errors) = carry, now
        instants = ChunkDerivatives(spec, local, chunks, ops, part, before)
        error, start, dz, all_errors = _loop(
            spec, instants.derivatives(), part.resets, error, errors, to_h, needs_error
        )
        dz_in, d_unit = instants.pull(all_errors, dz) if needs_error else (dz, ops.unit)
        sums = Operands(
            w_in=product_over_all(part.xs, dz_in) if wanted.w_in else None,
            w_rec=product_over_all(instants.old[spec.h], dz) if wanted.w_rec else None,
            b=sum_over_all(dz_in) if wanted.b else None,
            unit=jax.tree.map(lambda w, d: _over_time(d) if w else None, wanted.unit, d_unit),
            state=(),
            start=start,
            xs=None,
        )
        total = jax.tree.map(jnp.add, total, sums)
        return (error, total), dz_in @ to_x if wanted.xs else None

    error = tuple(
        jnp.zeros_like(a) if e is None else e for a, e in zip(ops.state, final, strict=True)
    )
    error, total = varying((error, _zeros(ops, wanted)), (ops, final, stacks))
    arrays = (ChunkInputs(ops.xs, *flags, residuals.states, residuals.kept), stacks)
    (error, total), d_xs = chunks.backwards().run(chunk, (error, total), arrays, rows)
    grads = total._replace(state=error, xs=d_xs)
    chosen: Operands = jax.tree.map(
        lambda w, g, a: g.astype(a.dtype) if w else None, wanted, grads, ops
    )
    return chosen


def _zeros(ops: Operands, wanted: Operands) -> Operands:
    """Where the sums over the chunks begin; in float32 at least."""

    def zero(a: Any, w: Any = True) -> Any:
        return jnp.zeros(a.shape, wide(a.dtype)) if w else None

    return Operands(
        w_in=zero(ops.w_in, wanted.w_in),
        w_rec=zero(ops.w_rec, wanted.w_rec),
        b=zero(ops.b, wanted.b),
        unit=jax.tree.map(zero, ops.unit, wanted.unit),
        state=(),
        start=None if ops.start is None else tuple(jnp.zeros_like(a) for a in ops.start),
        xs=None,
    )


def _loop(
    spec: LayerSpec,
    derivatives: Derivatives,
    resets: Any,
    error: tuple[Any, ...],
    errors: tuple[Any, ...],
    to_h: Any,
    needs_error: bool,
) -> tuple[Any, Any, Any, Any]:
    """Step back through one chunk.

    Returns the error before it, what went to the state that resets return to, the gradients of
    z_rec and (if needed) the errors at each step.
    """

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        error, start = carry
        (rec, direct), reset, more = now
        error = tuple(e if m is None else e + m for e, m in zip(error, more, strict=True))
        dz = _gate_gradient(spec, rec, error, nothing)
        back = [weighted([row[j] for row in direct], error, e) for j, e in enumerate(error)]
        back[spec.h] = back[spec.h] + (dz @ to_h).astype(back[spec.h].dtype)
        if reset is not None:
            zero = tuple(jnp.zeros_like(e) for e in back)
            start = tuple(
                a + b for a, b in zip(start, where(reset, tuple(back), zero), strict=True)
            )
            back = where(reset, zero, tuple(back))
        return (tuple(back), start), (dz, error if needs_error else None)

    # Zero, where a state does not depend on the recurrent product at all.
    nothing = jnp.zeros((error[0].shape[0], to_h.shape[0]), to_h.dtype)
    start = None if resets is None else tuple(jnp.zeros_like(e) for e in error)
    (error, start), (dz, all_errors) = jax.lax.scan(
        step, (error, start), (tuple(derivatives), resets, errors), reverse=not spec.reverse
    )
    return error, start, dz, all_errors


def _gate_gradient(spec: LayerSpec, rec: Any, error: Any, nothing: Any) -> Any:
    """`sum_k rec[k] e[k]`, `[B, G*H]`."""
    # Side by side and not broadcast over a gate axis: so the sum is one vectorised loop. And
    # computed once, not again for each use.
    parts = [
        r * jnp.concatenate([e] * spec.step.gates, -1).astype(r.dtype)
        for r, e in zip(rec, error, strict=True)
        if r is not None
    ]
    return jax.lax.optimization_barrier(sum(parts[1:], parts[0])) if parts else nothing


def _over_time(a: Any) -> Any:
    """Over the first axis, in float32 at least."""
    return jnp.sum(a, axis=0, dtype=wide(a.dtype))
