"""Clipping to a percentile of the norms of the last updates: AutoClip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax import checks
from recurrax.cures.clipping import norm
from recurrax.cures.clipping.norm_ring import percentile, remember

if TYPE_CHECKING:
    import chex


class PercentileState(NamedTuple):
    """What clipping to a percentile remembers: `optax.tree.get(state, "PercentileState")`."""

    norm: chex.Array  # float32 [], the last global norm before clipping
    clipped: chex.Array  # int32 [], how many updates were shortened
    nonfinite: chex.Array  # int32 [], how many updates held a NaN or an infinity
    steps: chex.Array  # int32 [], how many updates there were
    threshold: chex.Array  # float32 [], the percentile; infinite before there is a norm
    history: chex.Array  # float32 [window], the last norms, a ring
    seen: chex.Array  # int32 [], how many norms were put there


def clip_by_percentile(
    percent: float = 10.0, *, window: int = 1000, nonfinite: str = "skip"
) -> Any:
    """Shorten an update to a percentile of the norms of the last updates (AutoClip).

    `g <- g min(1, eta / ||g||)`, eta being the percentile of the norms of the last `window`
    updates, this one among them. No scale has to be known before training. So the first update
    is never shortened, and the second one at once if it is the longer one; with the paper's 10
    nine updates in ten are.

    So a spike in the first update goes through whole, and one whose square overflows freezes Adam
    for good, since its second moment stays infinite. Put `rx.cures.clip_by_global_norm` before it
    in the chain, with a maximum well above the usual norm.

    Args:
      percent: from 0, the smallest norm, over 50, the median, to 100, which never clips.
      window: how many norms are kept. The paper keeps all; a ring of fixed size forgets the
        beginning of training, and can be compiled.
      nonfinite: what to do with an update that holds NaN or infinity: `"skip"` replaces the whole
        update by zeros, `"zero"` replaces the non-finite entries alone, and clips, `"propagate"`
        lets it through unclipped.

    Returns:
      An `optax.GradientTransformation` with a `PercentileState`, for `optax.chain`. A norm enters
      the history as it was before clipping; one that is not finite, or 0, never does.

    Raises:
      ValueError, TypeError: if percent is not a number from 0 to 100, window not a positive
        integer, or the policy unknown; when called, if a leaf of the updates
        is not floating-point.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> clip = rx.cures.clip_by_percentile(50.0)
      >>> state = clip.init({"w": jnp.zeros(1)})
      >>> for size in (1.0, 3.0, 2.0, 1e30):
      ...     updates, state = clip.update({"w": jnp.array([size])}, state)
      >>> float(updates["w"][0]), int(optax.tree.get(state, "clipped"))
      (2.5, 2)

    Source: Seetharaman, Wichern, Pardo and Le Roux (2020), "AutoClip: Adaptive Gradient Clipping
    for Source Separation Networks".
    """
    percent = norm.as_number("percent", percent)
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be from 0 to 100, got {percent}")
    checks.check_positive_int("window", window)

    def judge(measurement: norm.Measurement, state: PercentileState) -> norm.Verdict:
        history, seen = remember(state.history, state.seen, measurement.norm)
        threshold = percentile(history, seen, percent)
        # In float32, as the history is: a float64 norm must not be longer than itself rounded.
        long = measurement.known & (measurement.norm > threshold)
        memory = {"threshold": threshold, "history": history, "seen": seen}
        return norm.Verdict(threshold, long, memory)

    memory = {
        "threshold": np.float32(np.inf),
        "history": np.zeros(window, np.float32),
        "seen": np.int32(0),
    }
    return norm.clipping(PercentileState, judge, nonfinite, memory)
