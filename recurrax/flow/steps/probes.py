"""The norms of d s_t / d s_0 from k random directions instead of all N.

Orthonormal directions V give `E ||P V||_F^2 = (k / N) ||P||_F^2`: one pass for the Frobenius norm.
The directions that P stretches most change with t only while t is small. So the target times 1, 4,
16, ... T each get k of their own, by one turn of subspace iteration, and every t uses those of the
next target. `||P V||` is never above `||P||`: the spectral norm is a lower bound, exact at k = N.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.factors import orthonormal
from recurrax.flow.numbers.largest import first_guess, largest_singular_value
from recurrax.flow.numbers.scaled import frobenius, log_of, rescale
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.problem import Problem, Spans, indices

if TYPE_CHECKING:
    import chex

    from recurrax.flow.steps.trajectory import Trajectory


def target_times(length: int) -> tuple[int, ...]:
    """1, 4, 16, ... and the length itself."""
    powers = range(math.ceil(math.log(length, 4)) if length > 1 else 0)
    return (*(4**power for power in powers if 4**power < length), length)


def probed_norms(
    own: Problem, path: Trajectory, rows: Spans, columns: Spans, probes: int, key: chex.PRNGKey
) -> tuple[chex.Array, chex.Array]:
    """The logs of the spectral and of the Frobenius norm `[T]` of one example, along its path."""
    of, wrt, targets = indices(rows), indices(columns), jnp.asarray(target_times(own.length))
    times = jnp.arange(1, own.length + 1) if own.counted is None else own.counted
    if own.counted is not None:
        targets = jnp.minimum(targets, times[-1])
    steps = own.rows(path.befores), times
    by_target = jax.vmap(_basis, in_axes=1, out_axes=1)
    none = jnp.zeros((1, len(targets), 1), jnp.int32)  # one exponent for the k of each target

    def push(carry: Any, now: Any) -> tuple[Any, chex.Array]:
        """Push the start directions: their norm, and where they are at each target."""
        v, exponent, reached = carry
        row, t = now
        v, exponent = rescale(linear_map(own.step, own.params, *row).push(v), exponent)
        part, top = rescale(v[of], exponent)
        asked = jnp.zeros_like(v).at[of].set(part)  # what is stretched elsewhere does not count
        reached = jnp.where((targets == t)[:, None], asked[:, None], reached)
        return (v, exponent, reached), log_of(frobenius(part), top)

    start = _basis(jax.random.normal(key, (len(wrt), probes)).astype(own.dtype))
    start = jnp.zeros((own.size, probes), own.dtype).at[wrt].set(start)
    empty = jnp.zeros((own.size, len(targets), probes), own.dtype)
    (_, _, reached), log_frobenius = jax.lax.scan(push, (start, jnp.int32(0), empty), steps)
    # The directions are constants to a derivative, as the random ones are.
    reached = by_target(jax.lax.stop_gradient(reached))

    def pull(u: chex.Array, now: Any) -> tuple[chex.Array, None]:
        """Pull the directions of all targets back to time 0, in one pass."""
        row, t = now
        u = jnp.where((targets == t)[:, None], reached, u)
        pulled = linear_map(own.step, own.params, *row).pull(u.reshape(own.size, -1))
        return rescale(pulled.reshape(u.shape), none).mantissa, None

    best = jax.lax.stop_gradient(jax.lax.scan(pull, empty, steps, reverse=True)[0])
    best = jnp.zeros_like(best).at[wrt].set(by_target(best[wrt]))

    def push_best(carry: Any, now: Any) -> tuple[Any, chex.Array]:
        """Push the best directions of all targets; the norm is that of the next target's."""
        v, exponents = carry
        row, t = now
        pushed = linear_map(own.step, own.params, *row).push(v.reshape(own.size, -1))
        v, exponents = rescale(pushed.reshape(v.shape), exponents)
        following = jnp.searchsorted(targets, t)
        part, top = rescale(v[:, following][of], exponents[0, following, 0])
        norm, _ = largest_singular_value(part, first_guess(min(part.shape), part.dtype))
        return (v, exponents), log_of(norm, top)

    log_norm = jax.lax.scan(push_best, (best, none), steps)[1]
    return log_norm, log_frobenius + 0.5 * math.log(len(wrt) / probes)


def _basis(v: chex.Array) -> chex.Array:
    return orthonormal(v)[0]
