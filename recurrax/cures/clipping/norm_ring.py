"""The last norms of a training run, in a ring of fixed size, and their percentiles.

A norm that is not finite tells nothing, and one of 0 nothing of the scale: neither is remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    import chex


def remember(
    history: chex.Array, seen: chex.Array, norm: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Put a norm in the place of the oldest one, unless it is 0, infinite or NaN.

    The history `[window]` is zero where there is no norm yet; `seen` counts those put there so far.
    """
    good = jnp.isfinite(norm) & (norm > 0)
    at = seen % history.shape[0]
    return history.at[at].set(jnp.where(good, norm, history[at])), seen + good.astype(jnp.int32)


def percentile(history: chex.Array, seen: chex.Array, percent: float) -> chex.Array:
    """The percentile of the norms in a ring, linear between two of them; infinite if none is."""
    size = history.shape[0]
    count = jnp.minimum(seen, size)
    ordered = jnp.sort(jnp.where(jnp.arange(size) < count, history, jnp.inf))
    rank = percent / 100 * jnp.maximum(count - 1, 0).astype(jnp.float32)
    below = jnp.floor(rank).astype(jnp.int32)
    above = jnp.minimum(below + 1, jnp.maximum(count - 1, 0))
    share = rank - below.astype(jnp.float32)
    # Of equal norms this is that norm to the bit, so that the largest one is never above itself.
    low, high = ordered[below], ordered[above]
    return jnp.where(high > low, low + share * (high - low), low)
