"""The share of training that was clipped, from the state of an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.cures.clipping.clip import ClipState
from recurrax.cures.clipping.clip_by_percentile import PercentileState
from recurrax.cures.clipping.clip_by_zscore import ZscoreState
from recurrax.cures.clipping.skip_spikes import SpikeState

if TYPE_CHECKING:
    import chex

_STATES = (ClipState, PercentileState, ZscoreState, SpikeState)


def clip_fraction(opt_state: Any) -> chex.Array:
    """The share of the updates so far that a cure shortened or dropped for its norm.

    Non-finite updates are not among them; they are counted in `nonfinite`. The cures are found
    wherever they stand in the state of an `optax.chain`. One field of one of them is read with
    `optax.tree.get(opt_state, "clipped")`; where several are chained, or a parameter bears the
    field's name, by the name of its state: `optax.tree.get(opt_state, "ZscoreState").clipped`.

    Args:
      opt_state: the state of an optimizer, in or outside of `jax.jit`.

    Returns:
      A float32 scalar; of several cures the largest share, since each counts its own. 0 before
      the first update, and where there is none of the cures: Optax's own clipping keeps no count.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> optimizer = optax.chain(rx.cures.clip_by_global_norm(1.0), optax.adam(1e-3))
      >>> state = optimizer.init(jnp.zeros(2))
      >>> for size in (0.5, 2.0, 4.0, 0.1):
      ...     _, state = optimizer.update(jnp.full(2, size), state)
      >>> float(rx.cures.clip_fraction(state)), int(optax.tree.get(state, "clipped"))
      (0.5, 2)
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, _STATES))
    fraction = jnp.zeros([], jnp.float32)
    for state in (node for node in nodes if isinstance(node, _STATES)):
        count = state.clipped + state.skipped if isinstance(state, SpikeState) else state.clipped
        share = count.astype(jnp.float32) / jnp.maximum(state.steps, 1).astype(jnp.float32)
        fraction = jnp.maximum(fraction, share)
    return fraction
