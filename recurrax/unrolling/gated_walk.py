"""The trajectory of a gated cell, and the derivatives along it: what others ask of its engine.

The engine runs the cell forward and keeps what its own backward pass would need; here that can be
asked for without a loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from recurrax.gated.derivatives import traced_pointwise
from recurrax.unrolling.gated.engine import reason_not_gated
from recurrax.unrolling.gated.forward import (
    ChunkDerivatives,
    ChunkInputs,
    Residuals,
    forward,
    in_chunks,
)
from recurrax.unrolling.gated.layer import Chunks, LayerSpec, Operands, Switches

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.gated.derivatives import Derivatives
    from recurrax.gated.step import GatedStep


class GatedWalk(NamedTuple):
    """A gated cell's trajectory, with one batch axis, whatever there was."""

    spec: LayerSpec
    ops: Operands
    residuals: Residuals

    def derivatives(self) -> Derivatives:
        """Return those of every instant at once, `[T, B, ...]`."""
        length = len(self.ops.xs)
        whole = Chunks(length, length, reverse=False)
        local = traced_pointwise(self.spec.step, *self.spec.instant(self.ops))
        start = self.ops.state
        of = ChunkDerivatives(self.spec, local, whole, self.ops, self._inputs(), start)
        return of.derivatives()

    def backward(
        self, body: Callable[[Any, Derivatives, Any], tuple[Any, Any]], carry: Any, rows: Any
    ) -> tuple[Any, Any]:
        """Run over chunks of time, the last one first, with the derivatives of one at a time.

        Args:
          body: `body(carry, derivatives, rows) -> (carry, out)` of one chunk.
          carry: what it begins with.
          rows: a tree of `[T, ...]`, of which each chunk gets its own.

        Returns:
          The last carry, and the outputs `[T, ...]`.
        """
        chunks, local, befores = in_chunks(self.spec, self.ops, self.residuals)

        def chunk(carry: Any, first: Any, now: Any, before: Any) -> tuple[Any, Any]:
            inputs, own = now
            of = ChunkDerivatives(self.spec, local, chunks, self.ops, inputs, before)
            return body(carry, of.derivatives(), own)

        found: tuple[Any, Any] = chunks.backwards().run(
            chunk, carry, (self._inputs(), rows), befores
        )
        return found

    def _inputs(self) -> ChunkInputs:
        return ChunkInputs(self.ops.xs, None, None, self.residuals.states, self.residuals.kept)


def walked(step: GatedStep, params: Any, state: Any, xs: Any) -> tuple[Any, Any]:
    """The states after each step and what else the derivatives need; None if the engine cannot."""
    if reason_not_gated(step, params, state, xs) is not None:
        return None, None
    residuals = forward(*_posed(step, params, state, xs), remember=True)[2]
    assert residuals is not None
    assert residuals.states is not None
    pairs = zip(residuals.states, state, strict=True)
    return step.state(*(a.reshape(-1, *b.shape) for a, b in pairs)), residuals.kept


def walk_again(
    step: GatedStep, params: Any, state: Any, xs: Any, states: Any, kept: Any
) -> GatedWalk:
    """The walk of which `walked` returned the states and what was kept."""
    spec, _, ops = _posed(step, params, state, xs)
    after = tuple(a.reshape(len(a), *b.shape) for a, b in zip(states, ops.state, strict=True))
    return GatedWalk(spec, ops, Residuals(after, kept, None))


def _posed(
    step: GatedStep, params: Any, state: Any, xs: Any
) -> tuple[LayerSpec, Switches, Operands]:
    size, hidden = math.prod(state.h.shape[:-1]), state.h.shape[-1]
    fields = tuple(a.reshape(size, hidden) for a in state)
    xs = xs.reshape(len(xs), size, xs.shape[-1])
    ops = Operands(params.w_in, params.w_rec, params.b, params.unit, fields, None, xs)
    return LayerSpec(step, reverse=False, remat=None, all_fields=True), Switches(None, None), ops
