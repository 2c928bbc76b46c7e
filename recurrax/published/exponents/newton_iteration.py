"""A recurrence solved for all of its steps at once, by Newton's method."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


class Solved(NamedTuple):
    """How the iteration ended."""

    steps: chex.Array  # int32 [], Newton steps until it stopped
    states: chex.Array  # [T, N]


@partial(jax.jit, static_argnums=0)
def solve(
    step: Callable[[Any, chex.Array, Any], chex.Array],
    params: Any,
    start: chex.Array,
    xs: Any,
    guess: chex.Array,
    tolerance: float,
    most: int,
) -> Solved:
    """Find `s_t = step(params, s_{t-1}, x_t)` for all t, from a guess of all states.

    A Newton step is `s_t <- f_t(s_{t-1}) + J_t (new s_{t-1} - s_{t-1})`, with f and J at the states
    before it. It stops after the first step that began within the tolerance, or after so many.

    Args:
      step: `(params, state, x) -> state`.
      params: of the step.
      start: the state before the first step, `[N]`.
      xs: the inputs, time first.
      guess: `[T, N]`.
      tolerance: of `1/2 sum_t |s_t - f_t(s_{t-1})|^2 / T`.
      most: Newton steps.
    """

    def before(states: chex.Array) -> chex.Array:
        return jnp.concatenate([start[None], states[:-1]])

    def merit(states: chex.Array, images: chex.Array) -> chex.Array:
        found = 0.5 * jnp.sum((states - images) ** 2) / len(states)
        return jnp.where(jnp.isnan(found), jnp.inf, found)

    def newton_step(carried: tuple[Any, ...]) -> tuple[Any, ...]:
        count, states, _ = carried
        olds = before(states)
        images = jax.vmap(partial(step, params))(olds, xs)

        def follow(new: chex.Array, now: tuple[Any, ...]) -> tuple[chex.Array, chex.Array]:
            old, image, x = now
            moved = jax.jvp(lambda s: step(params, s, x), (old,), (new - old,))[1]
            return image + moved, image + moved

        news = jax.lax.scan(follow, start, (olds, images, xs))[1]
        return count + 1, news, merit(states, images)

    def goes_on(carried: tuple[Any, ...]) -> chex.Array:
        count, _, left = carried
        return (count < most) & (left > tolerance)

    first = merit(guess, jax.vmap(partial(step, params))(before(guess), xs))
    count, states, _ = jax.lax.while_loop(goes_on, newton_step, (jnp.int32(0), guess, first))
    return Solved(count, states)
