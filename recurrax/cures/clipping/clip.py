"""Clipping by the global norm, right at zero, at huge values and at non-finite ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from recurrax.cures.clipping import norm

if TYPE_CHECKING:
    import chex


class ClipState(NamedTuple):
    """What clipping remembers, to be looked at with `optax.tree.get(state, "norm")`."""

    norm: chex.Array  # float32 [], the last global norm before clipping
    clipped: chex.Array  # int32 [], how many updates were shortened
    nonfinite: chex.Array  # int32 [], how many updates held a NaN or an infinity
    steps: chex.Array  # int32 [], how many updates there were


def clip_by_global_norm(max_norm: float, *, nonfinite: str = "skip") -> Any:
    """Shorten an update whose 2-norm over all leaves is above a maximum.

    `g <- g min(1, max_norm / ||g||)`. The direction is kept, so an exploding gradient becomes a
    bounded step; a vanishing one is left as it is, and the shares of near and far past within a
    gradient never change. Unlike `optax.clip_by_global_norm` the norm is summed in float32 at
    least and after scaling by the largest entry, so that a finite gradient never overflows it.

    Args:
      max_norm: above 0, known when compiling.
      nonfinite: what to do with an update that holds NaN or infinity: `"skip"` replaces the whole
        update by zeros, `"zero"` replaces the non-finite entries alone, and clips, `"propagate"`
        lets it through unclipped.

    Returns:
      An `optax.GradientTransformation` with a `ClipState`, for `optax.chain`. After `"skip"` an
      optimizer that follows still counts a step with a gradient of zero.

    Raises:
      ValueError, TypeError: if max_norm is not a positive number or the policy is unknown;
        when called, if a leaf of the updates is not floating-point.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> clip = rx.cures.clip_by_global_norm(1.0)
      >>> g = {"w": jnp.array([3e30, 4e30])}  # its square overflows float32
      >>> updates, state = clip.update(g, clip.init(g))
      >>> [round(float(v), 3) for v in updates["w"]], int(optax.tree.get(state, "clipped"))
      ([0.6, 0.8], 1)

    Source: algorithm 1 of Pascanu, Mikolov and Bengio (2013).
    """
    max_norm = norm.above_zero("max_norm", max_norm)

    def judge(measurement: norm.Measurement, state: ClipState) -> norm.Verdict:
        del state
        return norm.Verdict(max_norm, norm.is_longer(measurement, max_norm), {})

    return norm.clipping(ClipState, judge, nonfinite, {})
