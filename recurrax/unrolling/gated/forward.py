"""The forward pass: input products a chunk at a time, then a loop of one product a step.

    z_in = x W_in + b                       for all steps of a chunk at once
    s_t  = p(u, z_in_t, h_{t-1} W_rec, s_{t-1})          step by step

What is kept of each step is written where it stays, in the loop's carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.gated.local import pointwise_at
from recurrax.unrolling.gated.chunks import Chunks, chunk_size, keeps_gates
from recurrax.unrolling.gated.operands import LayerSpec, Operands, Switches, where
from recurrax.unrolling.gated.shard_map import varying

if TYPE_CHECKING:
    from recurrax.gated.local import PointwiseDerivatives


class Residuals(NamedTuple):
    """What the backward pass is given besides the operands."""

    states: tuple[Any, ...] | None  # the fields after every step, [T, B, H]
    kept: tuple[Any, ...] | None  # what the derivatives are computed from, [T, ...]
    chunk_starts: (
        tuple[Any, ...] | None
    )  # with remat: the fields before every chunk, [chunks, B, H]


def forward(
    spec: LayerSpec, flags: Switches, ops: Operands, *, remember: bool
) -> tuple[Any, Any, Residuals | None]:
    """Unroll.

    Args:
      spec: what is static.
      flags: mask and resets.
      ops: the arrays.
      remember: whether a backward pass will follow.

    Returns:
      The last state's fields; the fields after every step (h alone where `spec` says so, the
      others None); and, to remember, a `Residuals`.
    """
    chunks = Chunks(ops.xs.shape[0], chunk_size(spec, ops, forward=True), spec.reverse)
    local = pointwise_at(spec.step, *spec.instant(ops))
    in_rows = remember and spec.remat is not None
    in_states = remember and spec.remat is None
    # At a masked step the state that is stored is not the one that the gates gave.
    keep = in_states and flags.mask is None
    keep = keep and (keeps_gates(ops, local) if spec.plan is None else spec.plan.keep)
    wanted = [spec.all_fields or in_states or k == spec.h for k in range(local.fields)]

    def chunk(carry: Any, first: Any, part: Any, _: Any) -> tuple[Any, Any]:
        state, written = carry
        final, written = run_chunk(
            spec, local, ops, state, *part, into=written, first=first, keep=keep
        )
        return (final, written), jax.tree.map(lambda a: a[None], state) if in_rows else None

    carry = (ops.state, buffers(local, chunks.length, ops, wanted, keep=keep))
    (final, (fields, kept)), rows = chunks.run(chunk, carry, (ops.xs, *flags))
    out = tuple(a if spec.all_fields or k == spec.h else None for k, a in enumerate(fields))
    if not remember:
        return final, out, None
    residuals = Residuals(
        states=tuple(fields) if in_states else None,
        kept=tuple(kept) if keep else None,
        chunk_starts=rows if in_rows else None,
    )
    return final, out, residuals


def run_chunk(
    spec: LayerSpec,
    local: PointwiseDerivatives,
    ops: Operands,
    state: Any,
    xs: Any,
    mask: Any,
    resets: Any,
    *,
    into: Any,
    first: Any,
    keep: bool,
) -> tuple[Any, Any]:
    """Some steps from a state; what is kept is written into buffers from row `first` on."""

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        old, (fields, kept) = carry
        offset, z, mask, reset = now
        row = first + offset
        old = where(reset, ops.start, old) if reset is not None else old
        z_in = jnp.stack(z) if local.unpacks_gates else spec.gates(z)
        z_rec = spec.gates(old[spec.h] @ ops.w_rec)
        if keep:
            new, values = local.forward(ops.unit, z_in, z_rec, old)
        else:
            new, values = (
                tuple(spec.step.pointwise(ops.unit, z_in, z_rec, spec.step.state(*old))),
                (),
            )
        new = where(mask, new, old)
        fields = [a if a is None else _write(a, row, v) for a, v in zip(fields, new, strict=True)]
        kept = [_write(a, row, v) for a, v in zip(kept, values, strict=True)]
        return (new, (fields, kept)), None

    offsets = np.arange(xs.shape[0], dtype=np.int32)  # constants: one kernel less to compile
    z = spec.z_in(ops, xs)
    if local.unpacks_gates:
        # Each gate an array of its own: a slice of a slice keeps the loop from being vectorised.
        z = jnp.split(z, spec.step.gates, -1)
    now = (offsets, z, mask, resets)
    return jax.lax.scan(step, (state, into), now, reverse=spec.reverse)[0]


def buffers(
    local: PointwiseDerivatives, steps: int, ops: Operands, wanted: list[bool], *, keep: bool
) -> tuple[Any, Any]:
    """Room for the wanted fields after each step, and for what is kept of it."""
    fields = [_buffer(steps, a) if w else None for a, w in zip(ops.state, wanted, strict=True)]
    kept = [_buffer(steps, v.aval) for v in local.kept] if keep else []
    written: tuple[Any, Any] = varying((fields, kept), ops)
    return written


def _buffer(steps: int, like: Any) -> Any:
    return jnp.zeros((steps, *like.shape), like.dtype)


def _write(buffer: Any, row: Any, value: Any) -> Any:
    return jax.lax.dynamic_update_index_in_dim(buffer, value, row, 0)
