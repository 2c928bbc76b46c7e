"""The instants of a gated cell as linear maps of errors, for its gradient by w_rec.

The derivatives of its pointwise function are diagonal, so an error goes back one step by some
multiplications and one product with w_rec; see `recurrax.unrolling.gated_walk`, which runs the
cell forward and gives those derivatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.lags import outer_products
from recurrax.flow.lags.parts import Part, by_instant, by_rows
from recurrax.flow.numbers.scaled import ZERO, Scaled, add, rescale
from recurrax.gated.derivatives import Derivatives, weighted
from recurrax.unrolling.gated_walk import GatedWalk, walk_again

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.gated.step import GatedStep


def gated_instants(
    step: GatedStep, params: Any, state: Any, xs: Any, states: Any, kept: Any
) -> GatedInstants:
    """The instants of what was walked."""
    walk = walk_again(step, params, state, xs, states, kept)
    start, after, h = walk.ops.state, walk.residuals.states, walk.spec.h
    assert after is not None
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in start))  # of errors
    before = jnp.concatenate([start[h][None], after[h][:-1]]).astype(dtype)
    return GatedInstants(walk, walk.ops.w_rec.T.astype(dtype), before, None)


class GatedInstants(NamedTuple):
    """Errors are a tuple of `[T, B, H]`, one for each field of the state."""

    walk: GatedWalk
    w_back: chex.Array  # [G*H, H]
    h: chex.Array  # [T, B, H], before the step
    diagonals: Derivatives | None  # of every instant, once they are asked for

    def begin(self, y_bar: list[chex.Array]) -> tuple[chex.Array, ...]:
        seen = y_bar[0].astype(self.h.dtype).reshape(self.h.shape)
        fields = range(len(self.walk.ops.state))
        return tuple(seen if k == self.walk.spec.h else jnp.zeros_like(seen) for k in fields)

    def rows(self) -> tuple[Any, Callable[[Any], GatedInstants]]:
        diagonals = self._in_my_dtype(self.walk.derivatives())
        put = lambda rows: self._replace(h=rows[0], diagonals=rows[1])  # noqa: E731
        return (self.h, diagonals), put

    def _in_my_dtype(self, found: Derivatives) -> Derivatives:
        cast: Derivatives = jax.tree.map(lambda a: a.astype(self.h.dtype), found)
        return cast

    def back(self, errors: Any) -> tuple[Any, chex.Array]:
        assert self.diagonals is not None
        return self._back(self.diagonals, errors)

    def _back(self, now: Derivatives, errors: Any) -> tuple[Any, chex.Array]:
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
        def step(later: Any, now: Any) -> tuple[Any, Any]:
            diagonals, own = now
            error = add(later, own)
            earlier, signal = self._back(diagonals, error.mantissa)
            return rescale(earlier, error.exponent), Scaled(signal, error.exponent)

        def chunk(later: Any, found: Derivatives, own: Any) -> tuple[Any, Any]:
            return jax.lax.scan(step, later, (self._in_my_dtype(found), own), reverse=True)

        zeros = jax.tree.map(lambda e: jnp.zeros_like(e[0]), errors)
        nothing = Scaled(zeros, jnp.full((1, 1), ZERO))
        signals: Scaled = self.walk.backward(chunk, nothing, by_rows(errors))[1]
        return signals

    def each(self, signals: Scaled, total: Scaled) -> Part | None:
        if self.h.shape[1] > 1:
            return None
        found, reliable = outer_products.sums(
            self.h[:, 0], Scaled(signals.mantissa[:, 0], signals.exponent[:, 0]), total
        )
        part: Part = jax.lax.cond(reliable, lambda: found, lambda: by_instant(self, signals, total))
        return part
