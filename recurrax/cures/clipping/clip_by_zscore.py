"""A norm that lies many deviations above the mean of the norms is clipped: ZClip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.cures.clipping import norm

if TYPE_CHECKING:
    import chex

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

    where the second line has the new mu. These are the paper's equations with its adaptive
    threshold. Two things differ: sigma is at least 1e-6 mu, where the paper's code adds 1e-6
    whatever the scale of the gradient, and sigma is carried in the place of its square, which
    would overflow. The first `warmup` norms are not clipped; mu and sigma are then their mean and
    (population) deviation. A lasting rise of the norm by many sigma is taken for a spike again
    and again: updates keep the length mu then, and do not stop.

    This bounds no update of the warm-up: a spike there goes through whole, and one whose square
    overflows freezes Adam for good, since its second moment stays infinite. Put
    `rx.cures.clip_by_global_norm` before it in the chain, with a maximum well above the usual norm.

    Args:
      max_z: above 0.
      decay: from 0 up to, and below, 1; the mean reaches back some 1 / (1 - decay) updates.
      warmup: how many norms are gathered before the first update can be shortened.
      nonfinite: what to do with an update that holds NaN or infinity: `"skip"` replaces the whole
        update by zeros, `"zero"` replaces the non-finite entries alone, and clips, `"propagate"`
        lets it through unclipped.

    Returns:
      An `optax.GradientTransformation` with a `ZscoreState`, for `optax.chain`. A norm that is not
      finite, or 0, never enters mean and deviation.

    Raises:
      ValueError, TypeError: if max_z, decay or warmup is out of range, or the policy unknown;
        when called, if a leaf of the updates is not floating-point.

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
    max_z, decay = norm.above_zero("max_z", max_z), norm.as_number("decay", decay)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
    checks.check_positive_int("warmup", warmup)

    def judge(measurement: norm.Measurement, state: ZscoreState) -> norm.Verdict:
        threshold = _threshold(state, measurement.norm, max_z)
        long = measurement.known & (state.seen >= warmup) & (measurement.norm > threshold)
        kept = jnp.where(long, threshold, measurement.norm)
        informative = measurement.known & (measurement.norm > 0)
        memory = _update_moments(state, kept, informative, decay, warmup)
        return norm.Verdict(threshold, long, memory)

    zero = np.float32(0)
    memory = {"center": zero, "deviation": zero, "seen": np.int32(0)}
    return norm.clipping(ZscoreState, judge, nonfinite, memory)


def _threshold(state: ZscoreState, size: chex.Array, max_z: float) -> chex.Array:
    """`mu + sigma max_z^2 / z` where z is above max_z, infinite elsewhere."""
    reach = max_z * jnp.maximum(state.deviation, _ROUNDING * state.center)
    excess = size - state.center
    spike = excess > reach
    share = jnp.where(spike, reach, 0.0) / jnp.where(spike, excess, 1.0)  # max_z / z
    return jnp.where(spike, state.center + share * reach, jnp.inf)


def _update_moments(
    state: ZscoreState, size: chex.Array, informative: chex.Array, decay: float, warmup: int
) -> dict[str, chex.Array]:
    """Mean, deviation and count with one more norm: plain ones in the warm-up, then decaying."""
    seen = state.seen + informative.astype(jnp.int32)
    first = jnp.maximum(jnp.minimum(seen, warmup), 1).astype(jnp.float32)
    # The share of the new norm: 1 / k for the k-th of the warm-up.
    new = jnp.where(seen <= warmup, 1 / first, 1 - decay)
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
