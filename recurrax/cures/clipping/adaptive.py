"""Clippings that learn from the norms of the updates before which ones are too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.cures.clipping.global_norm import (
    Measurement,
    Verdict,
    above_zero,
    as_number,
    clipping,
)

if TYPE_CHECKING:
    import chex


# --- AutoClip -------------------------------------------------------------------------------------


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
    updates, this one among them: no scale has to be known before training. With the paper's 10
    nine updates in ten are shortened, the first one never: a spike there goes through whole, and
    one whose square overflows freezes Adam for good, since its second moment stays infinite. Put
    `rx.cures.clip_by_global_norm` before it in the chain, with a maximum well above the usual norm.

    Args:
      percent: from 0, the smallest norm, over 50, the median, to 100, which never clips.
      window: how many norms are kept; the paper keeps all.
      nonfinite: `"skip"`, `"zero"` or `"propagate"`, as in `rx.cures.clip_by_global_norm`.

    Returns:
      An `optax.GradientTransformation` with a `PercentileState`, for `optax.chain`. A norm enters
      the history as it was before clipping; one that is not finite, or 0, never does.

    Raises:
      ValueError, TypeError: if percent, window or the policy is not as described; when called, if
        a leaf of the updates is not floating-point.

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
    percent = as_number("percent", percent)
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be from 0 to 100, got {percent}")
    checks.check_positive_int("window", window)

    def judge(measurement: Measurement, state: PercentileState) -> Verdict:
        ring = _remember(state, measurement.norm)
        threshold = _percentile(**ring, percent=percent)
        # In float32, as the history is: a float64 norm must not be longer than itself rounded.
        long = measurement.known & (measurement.norm > threshold)
        return Verdict(threshold, long, {"threshold": threshold} | ring)

    memory = {"threshold": np.float32(np.inf)} | _empty_ring(window)
    return clipping(PercentileState, judge, nonfinite, memory)


# --- ZClip ----------------------------------------------------------------------------------------

# A deviation below this share of the mean is rounding, and no scale to judge a spike by.
_ROUNDING = 1e-6


class ZscoreState(NamedTuple):
    """What clipping by the z-score remembers: `optax.tree.get(state, "ZscoreState")`."""

    norm: chex.Array  # float32 [], the last global norm before clipping
    clipped: chex.Array  # int32 [], how many updates were shortened
    nonfinite: chex.Array  # int32 [], how many updates held a NaN or an infinity
    steps: chex.Array  # int32 [], how many updates there were
    center: chex.Array  # float32 [], the mean of the norms, mu
    deviation: chex.Array  # float32 [], their standard deviation, sigma
    seen: chex.Array  # int32 [], how many norms went into them


def clip_by_zscore(
    max_z: float = 2.5, *, decay: float = 0.97, warmup: int = 25, nonfinite: str = "skip"
) -> Any:
    """Shorten an update whose norm is an outlier among the norms before it (ZClip).

    With the running mean mu and deviation sigma of the norms, and `z = (||g|| - mu) / sigma`: an
    update with z above `max_z` is shortened to the norm `mu + sigma max_z^2 / z`, the smaller the
    larger the spike; any other is left alone. Then, with n the norm after clipping,

        mu <- decay mu + (1 - decay) n
        sigma^2 <- decay sigma^2 + (1 - decay) (n - mu)^2

    where the second line has the new mu. Two things differ from the paper's adaptive threshold:
    sigma is at least 1e-6 mu, where its code adds 1e-6 whatever the scale of the gradient, and is
    carried in the place of its square, which would overflow. The first `warmup` norms are not
    clipped; mu and sigma are then their mean and (population) deviation. A lasting rise by many
    sigma is taken for a spike again and again: updates keep the length mu then, and do not stop.
    No update of the warm-up is bounded: see `rx.cures.clip_by_percentile`.

    Args:
      max_z: above 0.
      decay: from 0 up to, and below, 1; the mean reaches back some 1 / (1 - decay) updates.
      warmup: how many norms are gathered before the first update can be shortened.
      nonfinite: `"skip"`, `"zero"` or `"propagate"`, as in `rx.cures.clip_by_global_norm`.

    Returns:
      An `optax.GradientTransformation` with a `ZscoreState`, for `optax.chain`. A norm that is not
      finite, or 0, never enters mean and deviation.

    Raises:
      ValueError, TypeError: if an argument is not as described; when called, if a leaf of the
        updates is not floating-point.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> clip = rx.cures.clip_by_zscore(2.0, warmup=2)
      >>> state = clip.init({"w": jnp.zeros(1)})
      >>> for size in (1.0, 3.0, 10.0):  # mean 2, deviation 1: z = 8, shortened to 2 + 4 / 8
      ...     updates, state = clip.update({"w": jnp.array([size])}, state)
      >>> float(updates["w"][0]), int(optax.tree.get(state, "clipped"))
      (2.5, 1)

    Source: Kumar, Owen, Roy Chowdhury and Guera (2025), "ZClip: Adaptive Spike Mitigation for LLM
    Pre-Training".
    """
    max_z, decay = above_zero("max_z", max_z), as_number("decay", decay)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
    checks.check_positive_int("warmup", warmup)

    def judge(measurement: Measurement, state: ZscoreState) -> Verdict:
        reach = max_z * jnp.maximum(state.deviation, _ROUNDING * state.center)
        excess = measurement.norm - state.center
        spike = excess > reach
        share = jnp.where(spike, reach, 0.0) / jnp.where(spike, excess, 1.0)  # max_z / z
        threshold = jnp.where(spike, state.center + share * reach, jnp.inf)
        long = measurement.known & (state.seen >= warmup) & (measurement.norm > threshold)
        kept = jnp.where(long, threshold, measurement.norm)
        informative = measurement.known & (measurement.norm > 0)
        memory = _update_moments(state, kept, informative, decay, warmup)
        return Verdict(threshold, long, memory)

    zero = np.float32(0)
    memory = {"center": zero, "deviation": zero, "seen": np.int32(0)}
    return clipping(ZscoreState, judge, nonfinite, memory)


def _update_moments(
    state: ZscoreState, size: chex.Array, informative: chex.Array, decay: float, warmup: int
) -> dict[str, chex.Array]:
    """Return the moments with one more norm: plain ones in the warm-up, then decaying."""
    seen = state.seen + informative.astype(jnp.int32)
    first = jnp.maximum(jnp.minimum(seen, warmup), 1).astype(jnp.float32)
    new = jnp.where(seen <= warmup, 1 / first, 1 - decay)  # the share of the new norm
    gap = size - state.center
    center = state.center + new * gap
    # var <- (1 - new) var + new (1 - new)^p gap^2; p is 2 with the new mean, as in the paper, and
    # 1 in the warm-up, where this is the variance of the norms so far.
    rest = 1 - new
    power = jnp.where(seen <= warmup, jnp.sqrt(rest), rest)
    deviation = jnp.hypot(jnp.sqrt(rest) * state.deviation, jnp.sqrt(new) * power * gap)
    return {
        "center": jnp.where(informative, center, state.center),
        "deviation": jnp.where(informative, deviation, state.deviation),
        "seen": seen,
    }


# --- spikes ---------------------------------------------------------------------------------------


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
    drops in a row the next spike is let through, shortened to the threshold. No update of the
    warm-up is bounded: see `rx.cures.clip_by_percentile`.

    Args:
      factor: above 1.
      window: how many norms the median is taken of.
      warmup: how many norms are gathered before the first update can be dropped; at most window.
      max_consecutive: how many updates in a row may be dropped.
      nonfinite: `"skip"`, `"zero"` or `"propagate"`, as in `rx.cures.clip_by_global_norm`. Such an
        update neither extends nor ends a run of drops, unless it is zeroed.

    Returns:
      An `optax.GradientTransformation` with a `SpikeState`, for `optax.chain`. A norm that is not
      finite, or 0, never enters the history. After a drop an optimizer that follows still counts a
      step with a gradient of zero.

    Raises:
      ValueError, TypeError: if an argument is not as described; when called, if a leaf of the
        updates is not floating-point.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> skip = rx.cures.skip_spikes(10.0, warmup=3)
      >>> state = skip.init({"w": jnp.zeros(1)})
      >>> for size in (1.0, 2.0, 3.0, 1e30):
      ...     updates, state = skip.update({"w": jnp.array([size])}, state)
      >>> float(updates["w"][0]), int(optax.tree.get(state, "skipped"))
      (0.0, 1)
    """
    factor = as_number("factor", factor)
    if factor <= 1:
        raise ValueError(f"factor must be above 1, got {factor}")
    counts = {"window": window, "warmup": warmup, "max_consecutive": max_consecutive}
    for name, count in counts.items():
        checks.check_positive_int(name, count)
    if warmup > window:
        raise ValueError(f"warmup must be at most window, got warmup {warmup}, window {window}")

    def judge(measurement: Measurement, state: SpikeState) -> Verdict:
        median = _percentile(state.history, state.seen, 50.0)
        threshold = jnp.where(state.seen >= warmup, factor * median, jnp.inf)
        spike = measurement.known & (measurement.norm > threshold)
        dropped = spike & (state.run < max_consecutive)
        memory = {
            "skipped": state.skipped + dropped.astype(jnp.int32),
            "threshold": threshold,
            "run": jnp.where(dropped, state.run + 1, jnp.where(measurement.known, 0, state.run)),
        } | _remember(state, measurement.norm)
        return Verdict(threshold, spike & ~dropped, memory, dropped)

    memory = {"skipped": np.int32(0), "threshold": np.float32(np.inf), "run": np.int32(0)}
    memory |= _empty_ring(window)
    return clipping(SpikeState, judge, nonfinite, memory)


# --- a ring of norms ------------------------------------------------------------------------------


def _empty_ring(window: int) -> dict[str, Any]:
    """Return the fields of a ring of norms: `history` is zero where there is none yet."""
    return {"history": np.zeros(window, np.float32), "seen": np.int32(0)}


def _remember(state: Any, norm: chex.Array) -> dict[str, chex.Array]:
    """Return the ring of a state with a norm in the place of the oldest one.

    A norm that is not finite tells nothing, and one of 0 nothing of the scale: they are left out.
    """
    good = jnp.isfinite(norm) & (norm > 0)
    at = state.seen % state.history.shape[0]
    history = state.history.at[at].set(jnp.where(good, norm, state.history[at]))
    return {"history": history, "seen": state.seen + good.astype(jnp.int32)}


def _percentile(history: chex.Array, seen: chex.Array, percent: float) -> chex.Array:
    """Return the percentile of a ring, linear between two of its norms; infinite if it has none."""
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
