"""Parts of the state that never meet in a product of Jacobians.

The units of a diagonal cell, the h and c of each unit of an LSTM without recurrent weights, or two
networks side by side: coordinates fall into blocks, and the product into products of their own.
What is zero outside them is known exactly, while a factorisation of the whole would put its
rounding there, which grows to be all there is where another block shrinks.

A coordinate at t is joined to one at t - 1 by a nonzero entry of A_t, whatever zero it is: of the
weights, or of a gate that is shut. A block is a connected part of that graph, all times up to a
chosen one taken together. It may change its places, as in a network that permutes its units, so
each block is a set of *tracks*, and at each time every track stands at one coordinate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


def follow(
    maps: Callable[..., Any], befores: Any, xs: Any, size: int
) -> tuple[chex.Array, chex.Array]:
    """Where the blocks are along a trajectory.

    Returns:
      Which track stands at each coordinate, int32 `[T + 1, N]`, and the block of each track for
      the product up to each time, `[T + 1, N]`: two tracks of one number have met by then. At time
      0 track i stands at coordinate i.
    """

    def body(now: Any, here: Any) -> tuple[Any, Any]:
        def step() -> tuple[chex.Array, chex.Array]:
            return _after(maps(*here).matrix() != 0, *now)

        # Where all have met, which most networks have after one step, nothing is left to find.
        now = jax.lax.cond(jnp.any(now[1] != 0), step, lambda: now)
        return now, now

    apart = jnp.arange(size, dtype=jnp.int32)
    _, found = jax.lax.scan(body, (apart, apart), (befores, xs))
    tracks, blocks = (jnp.concatenate([apart[None], leaf]) for leaf in found)
    return tracks, blocks


def _after(
    touches: chex.Array, tracks: chex.Array, blocks: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Tracks and blocks after a step in which column j of the Jacobian touches row i.

    The lowest number spreads until nothing changes. A block must keep its number of coordinates:
    where the step breaks that, as a singular one does, those concerned are joined to themselves.
    """
    size = len(tracks)
    known = blocks[tracks]

    def spread(carry: Any) -> Any:
        columns, _, kept, _ = carry
        joined = touches | jnp.diag(kept)
        rows = jnp.min(jnp.where(joined, columns, size), axis=1)
        reached = jnp.minimum(columns, jnp.min(jnp.where(joined, rows[:, None], size), axis=0))
        lowest = jnp.full(size, size, jnp.int32).at[known].min(reached)[known]
        settled = jnp.all(lowest == columns)
        surplus = jnp.zeros(size + 1, jnp.int32).at[rows].add(1).at[columns].add(-1)
        uneven = (surplus[rows] != 0) | (surplus[columns] != 0)
        more = kept | (settled & uneven)
        return lowest, rows, more, ~settled | jnp.any(more != kept)

    start = (known, known, jnp.zeros(size, bool), jnp.asarray(True))
    columns, rows, _, _ = jax.lax.while_loop(lambda carry: carry[3], spread, start)
    order = jnp.argsort(rows), jnp.argsort(columns)
    after = jnp.zeros_like(tracks).at[order[0]].set(tracks[order[1]])
    return after, blocks.at[tracks].set(columns)
