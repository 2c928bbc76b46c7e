"""Clipping by the global norm, right at zero, at huge values and at non-finite ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from recurrax import checks
from recurrax.flow.logscale import power_of_two, rescale

if TYPE_CHECKING:
    import chex

_POLICIES = ("skip", "zero", "propagate")


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
      max_norm: above 0.
      nonfinite: what to do with an update that holds NaN or infinity: `"skip"` replaces the whole
        update by zeros, `"zero"` replaces the non-finite entries alone, and clips, `"propagate"`
        lets it through unclipped.

    Returns:
      An `optax.GradientTransformation` with a `ClipState`, for `optax.chain`. After `"skip"` an
      optimizer that follows still counts a step with a gradient of zero.

    Raises:
      ValueError, TypeError: if max_norm is not a positive number or the policy is unknown.

    Example:
      >>> import jax.numpy as jnp, optax, recurrax as rx
      >>> clip = rx.cures.clip_by_global_norm(1.0)
      >>> g = {"w": jnp.array([3e30, 4e30])}  # its square overflows float32
      >>> updates, state = clip.update(g, clip.init(g))
      >>> [round(float(v), 3) for v in updates["w"]], int(optax.tree.get(state, "clipped"))
      ([0.6, 0.8], 1)

    Source: algorithm 1 of Pascanu, Mikolov and Bengio (2013).
    """
    checks.check_number("max_norm", max_norm)
    if max_norm <= 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}")
    checks.check_choice("nonfinite", nonfinite, _POLICIES)

    def init(params: Any) -> ClipState:
        del params
        zeros = [jnp.zeros([], jnp.int32) for _ in range(3)]
        return ClipState(jnp.zeros([], jnp.float32), *zeros)

    def update(updates: Any, state: ClipState, params: Any = None) -> tuple[Any, ClipState]:
        del params
        bad = _any_nonfinite(updates)
        if nonfinite == "zero":
            updates = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), updates)
        length, exponent = _scaled_norm(updates)
        unit = power_of_two(-exponent, length.dtype)
        long = length > max_norm * unit
        if nonfinite != "zero":
            long &= ~bad

        def shorten(g: Any) -> Any:
            wide = g.astype(jnp.promote_types(g.dtype, jnp.float32))
            short = wide * unit.astype(wide.dtype) * (max_norm / length).astype(wide.dtype)
            return jnp.where(long, short, wide).astype(g.dtype)

        clipped = jax.tree.map(shorten, updates)
        if nonfinite == "skip":
            clipped = jax.tree.map(lambda g: jnp.where(bad, jnp.zeros_like(g), g), clipped)
        counts = (long, bad, True)
        totals = [
            old + jnp.asarray(new, jnp.int32) for old, new in zip(state[1:], counts, strict=True)
        ]
        return clipped, ClipState((length / unit).astype(jnp.float32), *totals)

    return optax.GradientTransformation(init, update)


def _any_nonfinite(updates: Any) -> chex.Array:
    flags = [~jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(updates)]
    return jnp.any(jnp.stack(flags)) if flags else jnp.asarray(False)


def _scaled_norm(updates: Any) -> tuple[chex.Array, chex.Array]:
    """The global norm as `length * 2**exponent`, entries scaled to a largest of 1/2 to 4."""
    leaves = [
        g.astype(jnp.promote_types(g.dtype, jnp.float32))
        for g in jax.tree.leaves(updates)
        if g.size
    ]
    if not leaves:
        return jnp.zeros([]), jnp.zeros([], jnp.int32)
    _, exponent = rescale(jnp.stack([jnp.max(jnp.abs(g)) for g in leaves]))
    squares = [jnp.sum((g * power_of_two(-exponent, g.dtype)) ** 2) for g in leaves]
    return jnp.sqrt(jnp.sum(jnp.stack(squares))), exponent
