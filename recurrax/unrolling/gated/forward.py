"""The forward pass, and the derivatives of its steps for the passes that follow.

Input products are computed a chunk at a time, then comes a loop of one product a step:

    z_in = x W_in + b                       for all steps of a chunk at once
    s_t  = p(u, z_in_t, h_{t-1} W_rec, s_{t-1})          step by step

What is kept of each step is written where it stays, in the loop's carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.gated.derivatives import Derivatives, new_fields, traced_pointwise
from recurrax.unrolling.gated.layer import Chunks, LayerSpec, Operands, Switches, varying, where

if TYPE_CHECKING:
    from recurrax.gated.derivatives import TracedPointwise


class Residuals(NamedTuple):
    """What the backward pass is given besides the operands."""

    states: tuple[Any, ...] | None  # the fields after every step, [T, B, H]
    kept: tuple[Any, ...] | None  # what the derivatives are computed from, [T, ...]
    chunk_starts: Any  # with remat: the fields before every chunk, [chunks, B, H]; else None


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
    chunks = spec.chunks(ops, forward=True)
    traced = traced_pointwise(spec.step, *spec.instant(ops))
    in_rows = remember and spec.remat is not None
    in_states = remember and spec.remat is None
    # At a masked step the state that is stored is not the one that the gates gave.
    keep = in_states and flags.mask is None and spec.keeps_gates(ops, traced)
    wanted = [spec.all_fields or in_states or k == spec.h for k in range(len(ops.state))]

    def chunk(carry: Any, first: Any, part: Any, _: Any) -> tuple[Any, Any]:
        carry_after = run_chunk(spec, traced, ops, carry, *part, first=first, keep=keep)
        return carry_after, jax.tree.map(lambda a: a[None], carry[0]) if in_rows else None

    carry = (ops.state, buffers(traced, chunks.length, ops, wanted, keep=keep))
    (final, (fields, kept)), rows = chunks.run(chunk, carry, (ops.xs, *flags))
    out = tuple(a if spec.all_fields or k == spec.h else None for k, a in enumerate(fields))
    if not remember:
        return final, out, None
    states = tuple(fields) if in_states else None
    return final, out, Residuals(states, tuple(kept) if keep else None, rows if in_rows else None)


def run_chunk(
    spec: LayerSpec,
    traced: TracedPointwise,
    ops: Operands,
    carry: Any,
    xs: Any,
    mask: Any,
    resets: Any,
    *,
    first: Any,
    keep: bool,
) -> tuple[Any, Any]:
    """Some steps; the carry is the state and the buffers, which are written from row `first` on."""

    def write(buffer: Any, row: Any, value: Any) -> Any:
        if buffer is None:
            return None
        return jax.lax.dynamic_update_index_in_dim(buffer, value, row, 0)

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        old, (fields, kept) = carry
        offset, z, mask, reset = now
        row = first + offset
        old = where(reset, ops.start, old) if reset is not None else old
        z_in = jnp.stack(z) if traced.unpacks_gates else spec.step.split(z)
        z_rec = spec.step.split(old[spec.h] @ ops.w_rec)
        if keep:
            new, values = traced.forward(ops.unit, z_in, z_rec, old)
        else:
            new, values = new_fields(spec.step, ops.unit, z_in, z_rec, old), ()
        new = where(mask, new, old)
        fields = [write(a, row, v) for a, v in zip(fields, new, strict=True)]
        kept = [write(a, row, v) for a, v in zip(kept, values, strict=True)]
        return (new, (fields, kept)), None

    offsets = np.arange(xs.shape[0], dtype=np.int32)  # constants: one kernel less to compile
    z = spec.step.input_share(ops, xs)
    if traced.unpacks_gates:
        # Each gate an array of its own: a slice of a slice keeps the loop from being vectorised.
        z = jnp.split(z, spec.step.gates, -1)
    over = (offsets, z, mask, resets)
    after: tuple[Any, Any] = jax.lax.scan(step, carry, over, reverse=spec.reverse)[0]
    return after


def buffers(
    traced: TracedPointwise, steps: int, ops: Operands, wanted: list[bool], *, keep: bool
) -> tuple[Any, Any]:
    """Room for the wanted fields after each step, and for what is kept of it."""

    def room(like: Any) -> Any:
        return jnp.zeros((steps, *like.shape), like.dtype)

    fields = [room(a) if w else None for a, w in zip(ops.state, wanted, strict=True)]
    kept = [room(v.aval) for v in traced.kept] if keep else []
    written: tuple[Any, Any] = varying((fields, kept), ops)
    return written


# --- the derivatives at all steps of one chunk ---------------------------------------------------


class ChunkInputs(NamedTuple):
    """One chunk of what the backward pass has."""

    xs: Any  # [C, B, I]
    mask: Any  # bool [C, B] or None
    resets: Any  # bool [C, B] or None
    states: Any  # the fields after every step, [C, B, H], or None with remat
    kept: Any  # what the derivatives are computed from, [C, ...], or None to compute it anew


def in_chunks(
    spec: LayerSpec, ops: Operands, residuals: Residuals
) -> tuple[Chunks, TracedPointwise, Any]:
    """How time is cut, the traced pointwise function, and the state before each chunk."""
    chunks, rows = spec.chunks(ops), residuals.chunk_starts
    if residuals.states is not None:
        rows = chunks.rows_before(ops.state, residuals.states)
    return chunks, traced_pointwise(spec.step, *spec.instant(ops)), rows


class ChunkDerivatives:
    """The steps of one chunk, given how time is cut, what is known of it, and the state before."""

    def __init__(
        self,
        spec: LayerSpec,
        traced: TracedPointwise,
        chunks: Chunks,
        ops: Operands,
        part: ChunkInputs,
        before: Any,
    ) -> None:
        self.spec, self.traced, self.ops, self.mask = spec, traced, ops, part.mask
        states, kept = part.states, part.kept
        if states is None:  # remat: run the chunk again
            keep = part.mask is None
            into = buffers(traced, part.xs.shape[0], ops, [True] * len(before), keep=keep)
            inputs = (part.xs, part.mask, part.resets)
            _, into = run_chunk(spec, traced, ops, (before, into), *inputs, first=0, keep=keep)
            states, kept = tuple(into[0]), tuple(into[1]) if keep else None
        self.old: tuple[Any, ...] = chunks.previous(before, states)
        if part.resets is not None:
            self.old = where(part.resets, ops.start, self.old)
        # What the derivatives are computed from, at every step.
        self._values: tuple[Any, ...] = (self.old, states, kept)
        self._by_gates = kept is None
        if kept is None:
            z_in = spec.step.input_share(ops, part.xs)
            self._values = (z_in, self.old[spec.h] @ ops.w_rec, self.old)

    def _known(self, *values: Any) -> Any:
        """What is known of one step."""
        if not self._by_gates:
            return self.traced.known_by_states(self.ops.unit, *values)
        z_in, z_rec, old = values
        split = self.spec.step.split
        return self.traced.known_by_gates(self.ops.unit, split(z_in), split(z_rec), old)

    def derivatives(self) -> Derivatives:
        """At every step, `rec` as `[C, B, G*H]`; at a masked step that of standing still."""
        found = jax.vmap(lambda *values: self.traced.evaluate(self._known(*values)))(*self._values)
        rec = tuple(self._clear(self._side_by_side(gates)) for gates in found.rec)
        if self.mask is None:
            return Derivatives(rec, found.direct)

        def stand_still(direct: Any, k: int, j: int) -> Any:
            """A masked step hands every field on as it is."""
            if direct is None and j != k:
                return None
            direct = jnp.zeros_like(self.old[k]) if direct is None else direct
            return where(self.mask, direct, jnp.full_like(direct, float(j == k)))

        direct = tuple(
            tuple(stand_still(d, k, j) for j, d in enumerate(row))
            for k, row in enumerate(found.direct)
        )
        return Derivatives(rec, direct)

    def pull(self, errors: tuple[Any, ...], dz: Any) -> tuple[Any, Any]:
        """Gradients of z_in, `[C, B, G*H]`, and of the unit parameters, `[C, H]`.

        Args:
          errors: the gradients of the fields after every step, `[C, B, H]`.
          dz: the gradients of z_rec, `[C, B, G*H]`.
        """
        errors = tuple(self._clear(e) for e in errors)
        d_unit, d_in = jax.vmap(self._pull)(self._values, errors)
        if self.traced.one_gate_gradient:
            return dz, d_unit
        return self._clear(self._side_by_side(d_in)), d_unit

    def push(self, d_unit: Any, dz_in: Any) -> tuple[Any, ...]:
        """Tangents of the fields, `[C, B, H]`, from those of the unit parameters and of z_in."""
        like = jax.eval_shape(lambda state: state, self.ops.state)

        def one(values: Any, dz_in: Any) -> Any:
            transpose = jax.linear_transpose(lambda *error: self._pull(values, error), *like)
            return transpose((d_unit, tuple(self.spec.step.split(dz_in))))

        pushed: tuple[Any, ...] = jax.vmap(one)(self._values, dz_in)
        return tuple(self._clear(p) for p in pushed)

    def _pull(self, values: Any, error: Any) -> Any:
        return self.traced.pull(self._known(*values), error)

    def _side_by_side(self, gates: tuple[Any, ...]) -> Any:
        """`[C, B, H]` for each gate to `[C, B, G*H]`, as the weights have them; None if all are."""
        if all(g is None for g in gates):
            return None
        zero = jnp.zeros_like(self.old[0])
        return jnp.concatenate([zero if g is None else g for g in gates], -1)

    def _clear(self, a: Any) -> Any:
        """Zero where masked, whatever stood there."""
        return None if a is None else where(self.mask, a, jnp.zeros_like(a))
