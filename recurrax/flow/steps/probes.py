"""The decay of a large state from k random directions instead of all N.

Orthonormal directions V give `E ||P V||_F^2 = (k / N) ||P||_F^2`, so the Frobenius norm needs one
pass. The spectral norm needs directions that P stretches most, and those change with t only while
t is small. So a few target times 1, 4, 16, ... T each get their own k directions, by one turn of
subspace iteration (forward to the target, back from it), and every t uses those of the next
target. `||P V||` is never above `||P||`: what comes out is a lower bound, exact at k = N.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.largest import first_guess, gram_size, largest_singular_value
from recurrax.flow.numbers.one_at_a_time import one_at_a_time
from recurrax.flow.numbers.scaled import frobenius, log_of, rescale
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.problem import Spans, indices
from recurrax.flow.steps.trajectory import Trajectory, for_each_example

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.steps.problem import Problem


class _Path(NamedTuple):
    """The trajectory that is linearised, one instant a row."""

    befores: Any  # the state before each step, leaves [T, ...]
    xs: Any
    times: chex.Array  # [T], 1 ... T


@for_each_example(1, 2, 3)
def probed_decay(
    own: Problem,
    path: Trajectory,
    rows: Spans,
    columns: Spans,
    probes: int,
    key: chex.PRNGKey,
) -> tuple[chex.Array, chex.Array]:
    """`log_norm` and `log_frobenius` `[T, *batch]` from `probes` directions."""
    of, wrt, targets = indices(rows), indices(columns), target_times(own.length)
    instants = _Path(path.befores, own.xs, jnp.arange(1, own.length + 1))
    maps = partial(linear_map, own.step, own.params)
    start = _orthonormal(jax.random.normal(key, (len(wrt), probes)).astype(own.dtype))
    start = jnp.zeros((own.size, probes), own.dtype).at[wrt].set(start)
    log_frobenius, reached = _measure_frobenius(maps, instants, start, targets, of)
    log_frobenius += 0.5 * math.log(len(wrt) / probes)
    # The directions are constants to a derivative, as the random ones are.
    reached = jax.lax.stop_gradient(reached)
    best = _pull_back(maps, instants, jax.vmap(_orthonormal)(reached), targets)
    best = jax.lax.stop_gradient(best)
    best = jnp.zeros_like(best).at[:, wrt].set(jax.vmap(_orthonormal)(best[:, wrt]))
    return _measure_norm(maps, instants, best, targets, of), log_frobenius


def target_times(length: int) -> tuple[int, ...]:
    """1, 4, 16, ... and the length itself."""
    powers = range(math.ceil(math.log(length, 4)) if length > 1 else 0)
    return (*(4**power for power in powers if 4**power < length), length)


@one_at_a_time
def _orthonormal(columns: chex.Array) -> chex.Array:
    return jnp.linalg.qr(columns)[0]


def _measure_frobenius(
    maps: Callable[..., Any], path: _Path, start: chex.Array, targets: Any, of: Any
) -> tuple[chex.Array, chex.Array]:
    """Push the start directions: their norm at every t, and where they are at each target."""

    def body(carry: Any, now: _Path) -> tuple[Any, chex.Array]:
        v, exponent, reached = carry
        v, exponent = rescale(maps(now.befores, now.xs).push(v), exponent)
        here = (jnp.asarray(targets) == now.times)[:, None, None]
        part, top = rescale(v[of], exponent)
        log = log_of(frobenius(part), top)
        asked = jnp.zeros_like(v).at[of].set(part)  # what is stretched elsewhere does not count
        return (v, exponent, jnp.where(here, asked, reached)), log

    reached = jnp.zeros((len(targets), *start.shape), start.dtype)
    (_, _, reached), logs = jax.lax.scan(body, (start, jnp.int32(0), reached), path)
    return logs, reached


def _pull_back(
    maps: Callable[..., Any], path: _Path, reached: chex.Array, targets: Any
) -> chex.Array:
    """Pull each target's directions `[J, N, k]` back to time 0, all in one pass."""
    count, size, probes = reached.shape

    def body(u: chex.Array, now: _Path) -> tuple[chex.Array, None]:
        here = (jnp.asarray(targets) == now.times)[:, None, None]
        u = jnp.where(here, reached, u)
        return _rescaled_blocks(maps(now.befores, now.xs).pull(_side_by_side(u)), count), None

    empty = jnp.zeros((count, size, probes), reached.dtype)
    return jax.lax.scan(body, empty, path, reverse=True)[0]


def _measure_norm(
    maps: Callable[..., Any], path: _Path, best: chex.Array, targets: Any, of: Any
) -> chex.Array:
    """The log norm at every t, from the directions of the next target."""
    count = len(targets)

    def body(carry: Any, now: _Path) -> tuple[Any, chex.Array]:
        v, exponents = carry
        blocks = _split(maps(now.befores, now.xs).push(_side_by_side(v)), count)
        v, exponents = jax.vmap(rescale)(blocks, exponents)
        block = jnp.searchsorted(jnp.asarray(targets), now.times)
        part, top = rescale(v[block][of], exponents[block])
        norm, _ = largest_singular_value(part, first_guess(gram_size(*part.shape), part.dtype))
        return (v, exponents), log_of(norm, top)

    return jax.lax.scan(body, (best, jnp.zeros(count, jnp.int32)), path)[1]


def _side_by_side(blocks: chex.Array) -> chex.Array:
    """`[J, N, k]` to `[N, J*k]`."""
    return jnp.moveaxis(blocks, 0, 1).reshape(blocks.shape[1], -1)


def _split(wide: chex.Array, count: int) -> chex.Array:
    """`[N, J*k]` to `[J, N, k]`."""
    return jnp.moveaxis(wide.reshape(wide.shape[0], count, -1), 1, 0)


def _rescaled_blocks(wide: chex.Array, count: int) -> chex.Array:
    return jax.vmap(rescale)(_split(wide, count))[0]
