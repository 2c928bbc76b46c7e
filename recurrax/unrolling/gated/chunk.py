"""What is known of the steps of one chunk, and the derivatives there, for all steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.gated.local import Derivatives, pointwise_at
from recurrax.unrolling.gated.chunks import Chunks, chunk_size
from recurrax.unrolling.gated.forward import buffers, run_chunk
from recurrax.unrolling.gated.operands import where

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.gated.local import PointwiseDerivatives
    from recurrax.unrolling.gated.forward import Residuals
    from recurrax.unrolling.gated.operands import LayerSpec, Operands


class ChunkInputs(NamedTuple):
    """One chunk of what the backward pass has."""

    xs: Any  # [C, B, I]
    mask: Any  # bool [C, B] or None
    resets: Any  # bool [C, B] or None
    states: Any  # the fields after every step, [C, B, H], or None with remat
    kept: Any  # what the derivatives are computed from, [C, ...], or None to compute it anew


def in_chunks(
    spec: LayerSpec, ops: Operands, residuals: Residuals
) -> tuple[Chunks, PointwiseDerivatives, Any]:
    """How time is cut, the traced pointwise function, and the state before each chunk."""
    chunks = Chunks(ops.xs.shape[0], chunk_size(spec, ops), spec.reverse)
    rows = residuals.chunk_starts
    if residuals.states is not None:
        rows = chunks.rows_before(ops.state, residuals.states)
    return chunks, pointwise_at(spec.step, *spec.instant(ops)), rows


class ChunkDerivatives:
    """The steps of one chunk.

    Args:
      spec: what is static.
      local: the traced pointwise function.
      chunks: how time is cut.
      ops: the arrays.
      part: the chunk.
      before: the state before it.
    """

    def __init__(
        self,
        spec: LayerSpec,
        local: PointwiseDerivatives,
        chunks: Chunks,
        ops: Operands,
        part: ChunkInputs,
        before: Any,
    ) -> None:
        self.spec, self.local, self.ops, self.part = spec, local, ops, part
        states, kept = part.states, part.kept
        if states is None:  # remat: run the chunk again
            keep = part.mask is None
            into = buffers(local, part.xs.shape[0], ops, [True] * local.fields, keep=keep)
            inputs = (part.xs, part.mask, part.resets)
            _, into = run_chunk(spec, local, ops, before, *inputs, into=into, first=0, keep=keep)
            states, kept = tuple(into[0]), tuple(into[1]) if keep else None
        old = chunks.previous(before, states)
        if part.resets is not None:
            assert ops.start is not None
            old = where(part.resets, ops.start, old)
        self.old: tuple[Any, ...] = old
        self._values: tuple[Any, ...]
        self._known: Callable[..., Any]
        if kept is not None:
            self._values = old, states, kept
            self._known = self._known_kept
        else:
            h = old[spec.h]
            self._values = spec.z_in(ops, part.xs), h @ ops.w_rec, old
            self._known = self._known_again

    def derivatives(self) -> Derivatives:
        """At every step, `rec` as `[C, B, G*H]`; at a masked step that of standing still."""
        found = jax.vmap(lambda *values: self.local.evaluate(self._known(*values)))(*self._values)
        mask = self.part.mask
        rec = tuple(_clear(mask, _side_by_side(gates, self.old[0])) for gates in found.rec)
        direct = found.direct
        if mask is not None:
            direct = tuple(
                tuple(_stand_still(mask, d, self.old[k], same=j == k) for j, d in enumerate(row))
                for k, row in enumerate(found.direct)
            )
        return Derivatives(rec, direct)

    def pull(self, errors: tuple[Any, ...], dz: Any) -> tuple[Any, Any]:
        """Gradients of z_in, `[C, B, G*H]`, and of the unit parameters, `[C, H]`.

        Args:
          errors: the gradients of the fields after every step, `[C, B, H]`.
          dz: the gradients of z_rec, `[C, B, G*H]`.
        """
        errors = tuple(_clear(self.part.mask, e) for e in errors)
        d_unit, d_in = jax.vmap(self._pull)(self._values, errors)
        if self.local.one_gate_gradient:
            return dz, d_unit
        return _clear(self.part.mask, _side_by_side(d_in, self.old[0])), d_unit

    def push(self, d_unit: Any, dz_in: Any) -> tuple[Any, ...]:
        """Tangents of the fields, `[C, B, H]`, from those of the unit parameters and of z_in."""

        like = jax.eval_shape(lambda state: state, self.ops.state)

        def one(values: Any, dz_in: Any) -> Any:
            transpose = jax.linear_transpose(lambda *error: self._pull(values, error), *like)
            return transpose((d_unit, tuple(self.spec.gates(dz_in))))

        pushed: tuple[Any, ...] = jax.vmap(one)(self._values, dz_in)
        return tuple(_clear(self.part.mask, p) for p in pushed)

    def _pull(self, values: Any, error: Any) -> Any:
        return self.local.pull(self._known(*values), error)

    def _known_kept(self, old: Any, new: Any, kept: Any) -> Any:
        return self.local.known(self.ops.unit, old, new, kept)

    def _known_again(self, z_in: Any, z_rec: Any, old: Any) -> Any:
        gates = self.spec.gates
        return self.local.known_again(self.ops.unit, gates(z_in), gates(z_rec), old)


def _side_by_side(gates: tuple[Any, ...], like: Any) -> Any:
    """`[C, B, H]` for each gate to `[C, B, G*H]`, as the weights have them; None if all are."""
    if all(g is None for g in gates):
        return None
    return jnp.concatenate([jnp.zeros_like(like) if g is None else g for g in gates], -1)


def _clear(mask: Any, a: Any) -> Any:
    """Zero where masked, whatever stood there."""
    return None if a is None else where(mask, a, jnp.zeros_like(a))


def _stand_still(mask: Any, direct: Any, like: Any, *, same: bool) -> Any:
    """A masked step hands every field on as it is."""
    if direct is None and not same:
        return None
    direct = jnp.zeros_like(like) if direct is None else direct
    return where(mask, direct, jnp.full_like(direct, float(same)))
