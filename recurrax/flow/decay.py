"""How large d s_t / d s_0 is, for every t: exactly, or from a few random directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks, keys
from recurrax.flow.numbers.largest import first_guess, largest_singular_value
from recurrax.flow.numbers.scaled import Scaled, frobenius, log_of, rescale, share
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.probes import probed_norms
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
    steps: chex.Array | None = None  # int32 [T, *batch], steps so far that count; None: all do

    def __repr__(self) -> str:
        return summary(self, "log_norm", -1, "at T")


@by_layer
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
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> Decay:
    """How large the derivative of the state by the initial state is, for every t.

    `log || d s_t / d s_0 ||` with `d s_t / d s_0 = A_t ... A_2 A_1`, the whole state of one example
    (an LSTM: h and c), in log scale throughout, so that it is right at any T.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      of: names of the leaves of s_t to keep, such as `"c"`, or `"[0].h"` in a stack; None: all.
      wrt: names of the leaves of s_0 to keep; None: all.
      probes: None for exact products `[N, N]`. A number k follows k random directions instead, in
        time k N^2 rather than N^3 a step: `log_frobenius` is then an estimate (unbiased in the
        square), and `log_norm` a lower bound, close after a few steps. Both are exact at k = N.
      key: for the random directions; by default one that no user has, always the same.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is the identity,
        and `rate` and `horizon` of the decay do not count it.
      resets: bool `[T, *batch]`, as in `rx.unroll`; nothing of s_0 is left from a reset on. The
        gradient between later steps is a column of `flow.gradient_map`.

    Returns:
      A `Decay`, each field `[T, *batch]`, whose row 0 belongs to s_1; `-inf` where the derivative
      is exactly zero. The derivative by each entry of s_0 has an exponent of its own, so units
      whose gates shut in turn are right; what lies below e^-87 (float32) of the largest entry of
      its own column, or with `probes` of all of them, is lost, even if it would be the largest
      later.

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
    problem = pose(cell, params, state, xs, mask, resets)
    rows, columns = pick("of", of, problem.example()), pick("wrt", wrt, problem.example())
    key = keys.own(keys.DIRECTIONS) if key is None else key
    checks.check_key(key)
    if probes is None:
        log_norm, log_frobenius = exact_decay(problem, rows, columns)
        return Decay(log_norm, log_frobenius, problem.counted)
    checks.check_positive_int("probes", probes)
    probes = min(int(probes), len(indices(columns)))
    log_norm, log_frobenius = _probed_decay(problem, rows, columns, probes, key)
    return Decay(log_norm, log_frobenius, problem.counted)


@for_each_example(1, 2)
def exact_decay(
    own: Problem, path: Trajectory, rows: Spans, columns: Spans
) -> tuple[chex.Array, chex.Array]:
    """`log_norm` and `log_frobenius` `[T, *batch]` from whole products."""
    of, wrt, size = indices(rows), indices(columns), own.size

    def body(carry: Any, now: Any) -> tuple[Any, tuple[chex.Array, chex.Array]]:
        (product, exponents), guess = carry
        product = rescale(linear_map(own.step, own.params, *now).push(product), exponents)
        part = product if len(of) == size else rescale(product.mantissa[of], product.exponent)
        whole, top = share(part)
        norm, guess = largest_singular_value(whole, guess)
        return (product, guess), (log_of(norm, top), log_of(frobenius(whole), top))

    one = Scaled(jnp.eye(size, dtype=own.dtype)[:, wrt], jnp.zeros(len(wrt), jnp.int32))
    guess = first_guess(min(len(of), len(wrt)), own.dtype)
    log_norm, log_frobenius = jax.lax.scan(body, (one, guess), own.rows(path.befores))[1]
    return log_norm, log_frobenius


_probed_decay = for_each_example(1, 2, 3)(probed_norms)
