"""How many steps may go between two eliminations, judged by the errors seen in a block of time.

The more the exponents differ, the sooner a weak direction drowns in the rounding of a strong one. A
block whose errors are above `tolerance` is gone through again with shorter intervals; what the next
block begins with is planned from the errors of the last one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    import chex

_WIDEST = 64  # steps between eliminations, at most: beyond it there is nothing left to save
_ACCEPTED = 0.5  # the power of eps that the error of one growth may reach
_PLANNED = 0.55  # and the power planned for, so that few blocks are gone through again


class Seen(NamedTuple):
    """What one block did to the directions."""

    basis: chex.Array  # [N, k], orthonormal
    log_growth: chex.Array  # [k]
    condition: chex.Array  # [k], the worst of its growths
    lost: chex.Array  # int32 [k], growths that are nothing but rounding
    growths: chex.Array  # int32 [], how many there were


def tolerance(dtype: jnp.dtype) -> float:
    """The relative error that one growth may have where shorter intervals would lessen it."""
    return math.pow(float(jnp.finfo(dtype).eps), _ACCEPTED)


def mostly(lost: chex.Array, growths: chex.Array) -> chex.Array:
    """Whether a direction is erased again and again, and not by one nearly singular step."""
    return 2 * lost > growths


def erased(seen: Seen) -> chex.Array:
    """Which directions the Jacobians erase: in exact zeros, or beneath rounding mostly."""
    return jnp.isneginf(seen.log_growth) | mostly(seen.lost, seen.growths)


def intolerable(seen: Seen, gone: chex.Array) -> chex.Array:
    """Whether a growth is worse than tolerated, of a direction that was not `gone` before."""
    dtype = seen.condition.dtype
    wrong = seen.condition * float(jnp.finfo(dtype).eps) > tolerance(dtype)
    return jnp.any((wrong | jnp.isneginf(seen.log_growth)) & ~gone)


def detour(before: chex.Array, after: chex.Array, every: chex.Array) -> chex.Array:
    """How much larger directions were inside an interval than at its ends, as a factor.

    A direction that is stretched and then shrunk again within one interval has rounded away, at its
    longest, more of those beside it than can be seen at the end. It shows as a size above the
    straight line, in logs, from one end of the interval to the other; and it counts twice, since
    what grows is mostly paid for by what it is compared with.

    Args:
      before: `[S]`, the binary log of the size of the directions before each step; an elimination
        takes their size away.
      after: `[S]`, after each step, and before its elimination.
      every: int32 `[]`, steps in one interval.
    """
    steps = jnp.arange(len(after))
    first = steps - steps % every
    last = jnp.minimum(first + every, len(after)) - 1
    line = before[first] + (steps + 1 - first) / (last + 1 - first) * (after[last] - before[first])
    above = jnp.max(after - line) - 1  # sizes are rounded to whole numbers: one says nothing
    return jnp.exp2(2 * jnp.maximum(above, 0))


def next_interval(every: chex.Array, seen: Seen, steps: chex.Array) -> chex.Array:
    """The widest interval whose worst error is likely to stay tolerable.

    After m steps a direction is hidden m times as deep (in logs) as after one. Where it is not
    hidden, as between the units of a diagonal Jacobian, it still must not underflow.
    """
    dtype = seen.log_growth.dtype
    alive = ~erased(seen)  # no interval would bring back the others
    largest = jnp.max(jnp.where(alive, seen.log_growth, -jnp.inf))
    smallest = jnp.min(jnp.where(alive, seen.log_growth, jnp.inf))
    spread = (largest - smallest) / jnp.maximum(steps, 1).astype(dtype)
    spread = jnp.maximum(jnp.nan_to_num(spread, posinf=0, neginf=0), 1e-3)
    limit = (_PLANNED - 1) * math.log(float(jnp.finfo(dtype).eps))
    worst = jnp.max(jnp.where(alive, seen.condition, 1))
    wider = jnp.minimum(every + (limit - jnp.log(worst)) / spread, limit / spread)
    wider = jnp.clip(jnp.minimum(wider, 2.0 * every.astype(dtype)), 1, _WIDEST)
    return jax.lax.stop_gradient(jnp.floor(wider).astype(jnp.int32))
