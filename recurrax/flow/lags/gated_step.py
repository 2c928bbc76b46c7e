"""The instants of a gated cell as linear maps of errors, for its gradient by w_rec.

The derivatives of its pointwise function are diagonal, so an error goes back one step by some
multiplications and one product with w_rec; see `recurrax.unrolling.gated`, which runs the cell
forward here and gives those derivatives.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.lags import outer_products as lags_outer
from recurrax.flow.lags.parts import Part, by_instant, by_rows
from recurrax.flow.numbers.scaled import ZERO, Scaled, add, rescale
from recurrax.gated.local import pointwise_at
from recurrax.unrolling.gated.chunk import ChunkDerivatives as Chunk
from recurrax.unrolling.gated.chunk import ChunkInputs as Rows
from recurrax.unrolling.gated.chunk import in_chunks, weighted
from recurrax.unrolling.gated.chunks import Chunks
from recurrax.unrolling.gated.engine import reason_not_gated
from recurrax.unrolling.gated.forward import Residuals, forward
from recurrax.unrolling.gated.operands import LayerSpec, Operands, Switches

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.gated.cell import GatedStep


class Walk(NamedTuple):
    """A gated cell's trajectory, with one batch axis, whatever there was."""

    spec: LayerSpec
    ops: Operands
    memory: Residuals


def walked(step: GatedStep, params: Any, state: Any, xs: Any) -> tuple[Any, Any]:
    """The states after each step and what else the derivatives need; None if the engine cannot."""
    if reason_not_gated(step, params, state, xs) is not None:
        return None, None
    memory = forward(*_posed(step, params, state, xs), remember=True)[2]
    assert memory is not None
    assert memory.states is not None
    pairs = zip(memory.states, state, strict=True)
    return step.state(*(a.reshape(-1, *b.shape) for a, b in pairs)), memory.kept


def _posed(
    step: GatedStep, params: Any, state: Any, xs: Any
) -> tuple[LayerSpec, Switches, Operands]:
    size, hidden = math.prod(state.h.shape[:-1]), state.h.shape[-1]
    fields = tuple(a.reshape(size, hidden) for a in state)
    xs = xs.reshape(len(xs), size, xs.shape[-1])
    ops = Operands(params.w_in, params.w_rec, params.b, params.unit, fields, None, xs)
    return LayerSpec(step, reverse=False, remat=None, all_fields=True), Switches(None, None), ops


def gated_instants(
    step: GatedStep, params: Any, state: Any, xs: Any, states: Any, kept: Any
) -> GatedInstants:
    """The instants of what was walked."""
    spec, _, ops = _posed(step, params, state, xs)
    after = tuple(a.reshape(len(a), *b.shape) for a, b in zip(states, ops.state, strict=True))
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in ops.state))  # of errors
    h = jnp.concatenate([ops.state[spec.h][None], after[spec.h][:-1]]).astype(dtype)
    walk = Walk(spec, ops, Residuals(after, kept, None))
    return GatedInstants(walk, ops.w_rec.T.astype(dtype), h, None)


class Diagonals(NamedTuple):
    """The derivatives of some instants, in the dtype of errors; None stands for zero."""

    rec: tuple[Any, ...]  # of each field by each gate, [T, B, G*H]
    direct: tuple[tuple[Any, ...], ...]  # of each field by each old field, [T, B, H]


class GatedInstants(NamedTuple):
    """Errors are a tuple of `[T, B, H]`, one for each field of the state."""

    walk: Walk
    w_back: chex.Array  # [G*H, H]
    h: chex.Array  # [T, B, H], before the step
    diagonals: Diagonals | None  # of every instant, once they are asked for

    def begin(self, y_bar: list[chex.Array]) -> tuple[chex.Array, ...]:
        seen = y_bar[0].astype(self.h.dtype).reshape(self.h.shape)
        fields = range(len(self.walk.ops.state))
        return tuple(seen if k == self.walk.spec.h else jnp.zeros_like(seen) for k in fields)

    def rows(self) -> tuple[Any, Callable[[Any], GatedInstants]]:
        spec, ops, memory = self.walk
        whole = Chunks(len(self.h), len(self.h), reverse=False)
        part = Rows(ops.xs, None, None, memory.states, memory.kept)
        chunk = Chunk(
            spec, pointwise_at(spec.step, *spec.instant(ops)), whole, ops, part, ops.state
        )
        diagonals = self._wide(chunk)
        put = lambda rows: self._replace(h=rows[0], diagonals=rows[1])  # noqa: E731
        return (self.h, diagonals), put

    def _wide(self, chunk: Chunk) -> Diagonals:
        found: Diagonals = jax.tree.map(
            lambda a: a.astype(self.h.dtype), Diagonals(*chunk.derivatives())
        )
        return found

    def back(self, errors: Any) -> tuple[Any, chex.Array]:
        assert self.diagonals is not None
        return self._back(self.diagonals, errors)

    def _back(self, now: Diagonals, errors: Any) -> tuple[Any, chex.Array]:
        """One step, for any number of instants at once."""
        gates = self.walk.spec.step.gates
        # Gate by gate, so that it is one vectorised loop; and once, not again for each use.
        hidden, like = self.h.shape[-1], jnp.zeros_like(errors[0])
        columns = [slice(g * hidden, (g + 1) * hidden) for g in range(gates)]
        by_gate = [
            weighted([None if r is None else r[..., c] for r in now.rec], errors, like)
            for c in columns
        ]
        signals = jax.lax.optimization_barrier(jnp.concatenate(by_gate, -1))
        earlier = [
            weighted([row[k] for row in now.direct], errors, e) for k, e in enumerate(errors)
        ]
        earlier[self.walk.spec.h] += signals @ self.w_back
        return tuple(earlier), signals

    def weigh(self, signals: chex.Array, scale: chex.Array) -> chex.Array:
        rows = (self.h * scale).reshape(-1, self.h.shape[-1])
        return rows.T @ signals.reshape(len(rows), -1)

    def trace(self, errors: Any) -> Scaled:
        spec, ops, memory = self.walk
        chunks, local, befores = in_chunks(spec, ops, memory)

        def step(later: Any, now: Any) -> tuple[Any, Any]:
            diagonals, own = now
            error = add(later, own)
            earlier, signal = self._back(diagonals, error.mantissa)
            return rescale(earlier, error.exponent), Scaled(signal, error.exponent)

        def chunk(later: Any, first: Any, now: Any, before: Any) -> tuple[Any, Any]:
            part, own = now
            diagonals = self._wide(Chunk(spec, local, chunks, ops, part, before))
            return jax.lax.scan(step, later, (diagonals, own), reverse=True)

        own = by_rows(errors)
        rows = Rows(ops.xs, None, None, memory.states, memory.kept)
        zeros = jax.tree.map(lambda e: jnp.zeros_like(e[0]), errors)
        nothing = Scaled(zeros, jnp.full((1, 1), ZERO))
        signals: Scaled = chunks.backwards().run(chunk, nothing, (rows, own), befores)[1]
        return signals

    def each(self, signals: Scaled, total: Scaled) -> Part | None:
        if self.h.shape[1] > 1:
            return None
        found, reliable = lags_outer.sums(
            self.h[:, 0], Scaled(signals.mantissa[:, 0], signals.exponent[:, 0]), total
        )
        part: Part = jax.lax.cond(reliable, lambda: found, lambda: by_instant(self, signals, total))
        return part
