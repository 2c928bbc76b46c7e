"""How large d s_t / d s_0 is, for every t: exactly, or from a few random directions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks, keys
from recurrax.flow.numbers.largest import first_guess, gram_size, largest_singular_value
from recurrax.flow.numbers.one_at_a_time import one_at_a_time
from recurrax.flow.numbers.scaled import Scaled, frobenius, log_of, rescale, share
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.problem import Problem, Spans, indices, pick
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn


class Decay(NamedTuple):
    """Natural logs of two norms of d s_t / d s_0, for t = 1 ... T."""

    log_norm: chex.Array  # [T, *batch], the spectral norm (largest singular value)
    log_frobenius: chex.Array  # [T, *batch], the Frobenius norm

    def __repr__(self) -> str:
        return summary(self, "log_norm", -1, "at T")


def decay(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    of: str | tuple[str, ...] | None = None,
    wrt: str | tuple[str, ...] | None = None,
    probes: int | None = None,
    key: chex.PRNGKey | None = None,
) -> Decay:
    """How large the derivative of the state by the initial state is, for every t.

    `log || d s_t / d s_0 ||` with `d s_t / d s_0 = A_t ... A_2 A_1`, the whole state of one example
    (an LSTM: h and c), in log scale throughout, so that it is right at any T.

    Args:
      cell: a `Cell` or a step function.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      of: names of the leaves of s_t to keep, such as `"c"`, or `"[0].h"` in a stack; None: all.
      wrt: names of the leaves of s_0 to keep; None: all.
      probes: None for exact products `[N, N]`. A number k follows k random directions instead, in
        time k N^2 rather than N^3 a step: `log_frobenius` is then an estimate (unbiased in the
        square), and `log_norm` a lower bound, close after a few steps. Both are exact at k = N.
      key: for the random directions; by default one that no user has, always the same.

    Returns:
      A `Decay`, whose row 0 belongs to s_1; `-inf` where the derivative is exactly zero. The
      derivative by each entry of s_0 has an exponent of its own, so units whose gates shut in turn
      are right; what lies below e^-87 (float32) of the largest entry of its own column, or with
      `probes` of all of them, is lost, even if it would be the largest later.

    Differentiable once, in forward and reverse mode.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite, or the state
        overflows; if a name is unknown; if probes is not a positive integer.
      NotImplementedError: if a second derivative is asked for.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> w = 0.5 * jnp.eye(2)
      >>> def linear(w, h, x):
      ...     h = h @ w + x
      ...     return h, h
      >>> d = rx.flow.decay(linear, w, jnp.zeros(2), jnp.zeros((1000, 2)))
      >>> d  # 1000 log 0.5, far below the smallest float32
      Decay(log_norm=float32[1000], log_frobenius=float32[1000], at T -693.1)

    Source: the product is equation (5) of Pascanu, Mikolov and Bengio (2013).
    """
    problem = pose(cell, params, state, xs)
    rows, columns = (
        pick(name, wanted, problem.example()) for name, wanted in (("of", of), ("wrt", wrt))
    )
    key = keys.own(keys.DIRECTIONS) if key is None else key
    checks.check_key(key)
    if probes is None:
        return Decay(*exact_decay(problem, rows, columns))
    checks.check_positive_int("probes", probes)
    probes = min(int(probes), len(indices(columns)))
    return Decay(*probed_decay(problem, rows, columns, probes, key))


@for_each_example(1, 2)
def exact_decay(
    own: Problem, path: Trajectory, rows: Spans, columns: Spans
) -> tuple[chex.Array, chex.Array]:
    """`log_norm` and `log_frobenius` `[T, *batch]` from whole products."""
    of, wrt, size = indices(rows), indices(columns), own.size

    def body(carry: Any, now: Any) -> tuple[Any, tuple[chex.Array, ...]]:
        product, exponents, guess = carry
        pushed = linear_map(own.step, own.params, *now).push(product)
        product, exponents = rescale(pushed, exponents)
        part = Scaled(product, exponents)
        if len(of) < size:
            part = rescale(product[of], exponents)
        whole, top = share(part)
        norm, guess = largest_singular_value(whole, guess)
        logs = tuple(log_of(value, top) for value in (norm, frobenius(whole)))
        return (product, exponents, guess), logs

    product = jnp.eye(size, dtype=own.dtype)[:, wrt]
    guess = first_guess(gram_size(len(of), len(wrt)), own.dtype)
    start = (product, jnp.zeros(len(wrt), jnp.int32), guess)
    log_norm, log_frobenius = jax.lax.scan(body, start, (path.befores, own.xs))[1]
    return log_norm, log_frobenius


@for_each_example(1, 2, 3)
def probed_decay(
    own: Problem,
    path: Trajectory,
    rows: Spans,
    columns: Spans,
    probes: int,
    key: chex.PRNGKey,
) -> tuple[chex.Array, chex.Array]:
    """`log_norm` and `log_frobenius` `[T, *batch]` from k = `probes` directions.

    Orthonormal directions V give `E ||P V||_F^2 = (k / N) ||P||_F^2`, so the Frobenius norm needs
    one pass. The spectral norm needs directions that P stretches most, which change with t only
    while t is small. So the times 1, 4, 16, ... T each get their own k directions, by one turn of
    subspace iteration (forward to the target, back from it), and every t uses those of the next
    target. `||P V||` is never above `||P||`: what comes out is a lower bound, exact at k = N.
    """
    of, wrt, targets = indices(rows), indices(columns), jnp.asarray(target_times(own.length))
    steps = path.befores, own.xs, jnp.arange(1, own.length + 1)
    by_target = jax.vmap(_orthonormal, in_axes=1, out_axes=1)
    none = jnp.zeros((1, len(targets), 1), jnp.int32)  # one exponent for the k of each target

    def measure_frobenius(carry: Any, now: Any) -> tuple[Any, chex.Array]:
        """Push the start directions, and keep where they are at each target."""
        v, exponent, reached = carry
        before, x, t = now
        v, exponent = rescale(linear_map(own.step, own.params, before, x).push(v), exponent)
        part, top = rescale(v[of], exponent)
        asked = jnp.zeros_like(v).at[of].set(part)  # what is stretched elsewhere does not count
        reached = jnp.where((targets == t)[:, None], asked[:, None], reached)
        return (v, exponent, reached), log_of(frobenius(part), top)

    def pull_back(u: chex.Array, now: Any) -> tuple[chex.Array, None]:
        """Pull the directions of all targets back to time 0, in one pass."""
        before, x, t = now
        u = jnp.where((targets == t)[:, None], reached, u)
        pulled = linear_map(own.step, own.params, before, x).pull(u.reshape(own.size, -1))
        return rescale(pulled.reshape(u.shape), none).mantissa, None

    def measure_norm(carry: Any, now: Any) -> tuple[Any, chex.Array]:
        """Push the best directions of all targets; the norm is that of the next target's."""
        v, exponents = carry
        before, x, t = now
        pushed = linear_map(own.step, own.params, before, x).push(v.reshape(own.size, -1))
        v, exponents = rescale(pushed.reshape(v.shape), exponents)
        following = jnp.searchsorted(targets, t)
        part, top = rescale(v[:, following][of], exponents[0, following, 0])
        norm, _ = largest_singular_value(part, first_guess(gram_size(*part.shape), part.dtype))
        return (v, exponents), log_of(norm, top)

    start = _orthonormal(jax.random.normal(key, (len(wrt), probes)).astype(own.dtype))
    start = jnp.zeros((own.size, probes), own.dtype).at[wrt].set(start)
    empty = jnp.zeros((own.size, len(targets), probes), own.dtype)
    carry, log_frobenius = jax.lax.scan(measure_frobenius, (start, jnp.int32(0), empty), steps)
    # The directions are constants to a derivative, as the random ones are.
    reached = by_target(jax.lax.stop_gradient(carry[2]))
    best = jax.lax.stop_gradient(jax.lax.scan(pull_back, empty, steps, reverse=True)[0])
    best = jnp.zeros_like(best).at[wrt].set(by_target(best[wrt]))
    log_norm = jax.lax.scan(measure_norm, (best, none), steps)[1]
    return log_norm, log_frobenius + 0.5 * math.log(len(wrt) / probes)


def target_times(length: int) -> tuple[int, ...]:
    """1, 4, 16, ... and the length itself."""
    powers = range(math.ceil(math.log(length, 4)) if length > 1 else 0)
    return (*(4**power for power in powers if 4**power < length), length)


@one_at_a_time
def _orthonormal(columns: chex.Array) -> chex.Array:
    return jnp.linalg.qr(columns)[0]
