"""An update that is many times longer than the median one is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.cures.clipping import norm
from recurrax.cures.clipping.norm_ring import percentile, remember

if TYPE_CHECKING:
    import chex


class SpikeState(NamedTuple):
    """What leaving out spikes remembers: `optax.tree.get(state, "SpikeState")`."""

    norm: chex.Array  # float32 [], the last global norm
    skipped: chex.Array  # int32 [], how many finite updates were dropped
    clipped: chex.Array  # int32 [], how many were shortened, after a run of drops
    nonfinite: chex.Array  # int32 [], how many updates held a NaN or an infinity
    steps: chex.Array  # int32 [], how many updates there were
    threshold: chex.Array  # float32 [], factor times the median; infinite in the warm-up
    history: chex.Array  # float32 [window], the last norms, a ring
    seen: chex.Array  # int32 [], how many norms were put there
    run: chex.Array  # int32 [], how many updates in a row were dropped


def skip_spikes(
    factor: float = 10.0,
    *,
    window: int = 100,
    warmup: int = 10,
    max_consecutive: int = 5,
    nonfinite: str = "skip",
) -> Any:
    """Drop an update whose norm is above a factor times the median of the norms before it.

    `g <- 0` where `||g|| > factor median(||g_{t-1}||, ..., ||g_{t-window}||)`. For the batch that
    is broken: its direction is no better than its length, so nothing of it is used.

    Drops alone cannot stall training. Every norm enters the history, also that of a dropped
    update, so a lasting rise is the new median after half a window; and after `max_consecutive`
    drops in a row the next spike is let through, shortened to the threshold.

    This bounds no update of the warm-up: a spike there goes through whole, and one whose square
    overflows freezes Adam for good, since its second moment stays infinite. Put
    `rx.cures.clip_by_global_norm` before it in the chain, with a maximum well above the usual norm.

    Args:
      factor: above 1.
      window: how many norms the median is taken of.
      warmup: how many norms are gathered before the first update can be dropped; at most window.
      max_consecutive: how many updates in a row may be dropped.
      nonfinite: what to do with an update that holds NaN or infinity: `"skip"` replaces the whole
        update by zeros, `"zero"` replaces the non-finite entries alone, and judges the rest,
        `"propagate"` lets it through. It neither extends nor ends a run of drops, unless zeroed.

    Returns:
      An `optax.GradientTransformation` with a `SpikeState`, for `optax.chain`. A norm that is not
      finite, or 0, never enters the history. After a drop an optimizer that follows still counts
      a step with a gradient of zero.

    Raises:
      ValueError, TypeError: if factor is not a number above 1, a count not a positive integer,
        warmup above window, or the policy unknown; when called, if a leaf of the updates
        is not floating-point.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> skip = rx.cures.skip_spikes(10.0, warmup=3)
      >>> state = skip.init({"w": jnp.zeros(1)})
      >>> for size in (1.0, 2.0, 3.0, 1e30):
      ...     updates, state = skip.update({"w": jnp.array([size])}, state)
      >>> float(updates["w"][0]), int(optax.tree.get(state, "skipped"))
      (0.0, 1)
    """
    factor = norm.as_number("factor", factor)
    if factor <= 1:
        raise ValueError(f"factor must be above 1, got {factor}")
    counts = {"window": window, "warmup": warmup, "max_consecutive": max_consecutive}
    for name, count in counts.items():
        checks.check_positive_int(name, count)
    if warmup > window:
        raise ValueError(f"warmup must be at most window, got warmup {warmup}, window {window}")

    def judge(measurement: norm.Measurement, state: SpikeState) -> norm.Verdict:
        median = percentile(state.history, state.seen, 50.0)
        threshold = jnp.where(state.seen >= warmup, factor * median, jnp.inf)
        spike = measurement.known & (measurement.norm > threshold)
        dropped = spike & (state.run < max_consecutive)
        history, seen = remember(state.history, state.seen, measurement.norm)
        memory = {
            "skipped": state.skipped + dropped.astype(jnp.int32),
            "threshold": threshold,
            "history": history,
            "seen": seen,
            "run": jnp.where(dropped, state.run + 1, jnp.where(measurement.known, 0, state.run)),
        }
        return norm.Verdict(threshold, spike & ~dropped, memory, dropped)

    zero = np.int32(0)
    memory = {
        "skipped": zero,
        "threshold": np.float32(np.inf),
        "history": np.zeros(window, np.float32),
        "seen": zero,
        "run": zero,
    }
    return norm.clipping(SpikeState, judge, nonfinite, memory)
