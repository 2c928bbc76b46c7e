"""How large d s_t / d s_s is, for every pair of times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks, keys
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.jacobian import linear_maps
from recurrax.flow.steps.pairs import Directions, log_norms, sampled
from recurrax.flow.steps.problem import Problem, Spans, indices, pick
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn


class GradientMap(NamedTuple):
    """Natural logs of two norms of d s_t / d s_s: `[i, j]` is t = targets[i], s = sources[j]."""

    log_norm: chex.Array  # [K, K, *batch], the spectral norm; -inf where s > t: no influence
    log_frobenius: chex.Array  # [K, K, *batch], the Frobenius norm
    targets: np.ndarray  # int [K], the times t: m, 2 m, ... with m = every
    sources: np.ndarray  # int [K], the times s: 0, m, 2 m, ...

    def __repr__(self) -> str:
        return summary(self, "log_norm", (-1, 0), "from 0 to T")


@by_layer
def gradient_map(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    of: str | tuple[str, ...] | None = None,
    wrt: str | tuple[str, ...] | None = None,
    probes: int | None = None,
    key: chex.PRNGKey | None = None,
    every: int = 1,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> GradientMap:
    """How large the derivative of the state at t by the state at s is, for every pair `s <= t`.

    `log || d s_t / d s_s ||` with `d s_t / d s_s = A_t ... A_{s+2} A_{s+1}`, the whole state of one
    example (an LSTM: h and c; `of="h", wrt="h"` for h_t by h_s). Column s = 0 is `flow.decay`. A
    row says from which times the gradient at t gets its error, a column how far an event at s is
    felt; a forget gate that closes shows as an edge.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      of: names of the leaves of s_t to keep, such as `"c"`; None keeps all.
      wrt: names of the leaves of s_s to keep; None keeps all.
      probes: None for exact products `[N, N]`, for small N. A number k follows k directions from
        each s instead, in time `T^2 N^2 k`: half of them those that the later Jacobians stretch
        most, found by one pass back in time, half random ones across those. `log_frobenius` is
        then an estimate (unbiased in the square), and `log_norm` a lower bound, close but for the
        shortest lags. Both are exact at k = N.
      key: for the random directions; by default one that no user has, always the same.
      every: m, the spacing of the times s and t that are looked at, in steps: a map of
        `(T / m)^2` pairs for a long sequence. The last `T mod m` steps are left out.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is the identity,
        and counted in the times all the same.
      resets: bool `[T, *batch]`, as in `rx.unroll`; nothing is felt across a reset, and what lies
        on one side of it is unharmed.

    Returns:
      A `GradientMap` of K = T // every times each way. Where s = t the derivative is the identity,
      where s > t it is zero. What is lost is as in `flow.decay`. Memory grows with K^2 for the
      result, and with K N k (K N^2 if exact) for the work.

    Differentiable as `flow.decay` is, the directions of `probes` taken as constants.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite, or the state
        overflows on the way; if a name is unknown; if probes or every is not a positive integer,
        or every is above T.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, recurrax as rx
      >>> def leak(w, h, x):  # forgets all at once where x is 1
      ...     h = w * h * (1 - x)
      ...     return h, h
      >>> xs = jnp.zeros((4, 1)).at[2].set(1.0)
      >>> found = rx.flow.gradient_map(leak, 0.5, jnp.ones(1), xs)
      >>> sizes = np.exp(np.asarray(found.log_norm, float))
      >>> sizes.round(3).tolist()  # row: t = 1 ... 4, column: s = 0 ... 3
      [[0.5, 1.0, 0.0, 0.0], [0.25, 0.5, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.5]]

    Source: the factors of equation (5) of Pascanu, Mikolov and Bengio (2013). The estimate of a
    norm by directions of two kinds is that of Meyer, Musco, Musco and Woodruff (2021), "Hutch++".
    """
    problem = pose(cell, params, state, xs, mask, resets)
    length = problem.length
    checks.check_positive_int("every", every)
    if every > length:
        raise ValueError(f"every must be at most T = {length}, got {every}")
    example = problem.example()
    rows, columns = pick("of", of, example), pick("wrt", wrt, example)
    if probes is not None:
        checks.check_positive_int("probes", probes)
        probes = None if probes >= len(indices(columns)) else int(probes)
    key = keys.own(keys.DIRECTIONS) if key is None else key
    checks.check_key(key)
    log_norm, log_frobenius = _map(problem, rows, columns, probes, int(every), key)
    sources = np.arange(length // every) * every
    return GradientMap(log_norm, log_frobenius, sources + every, sources)


@for_each_example(1, 2, 3, 4, out_axes=2)
def _map(
    own: Problem,
    path: Trajectory,
    rows: Spans,
    columns: Spans,
    probes: int | None,
    every: int,
    key: chex.PRNGKey,
) -> tuple[chex.Array, chex.Array]:
    of, wrt = indices(rows), indices(columns)
    count = own.length // every
    parts, make_map = linear_maps(own.step, own.params, *own.rows(path.befores))
    parts = jax.tree.map(
        lambda leaf: leaf[: count * every].reshape(count, every, *leaf.shape[1:]), parts
    )
    if probes is None:
        eye = jnp.eye(own.size, dtype=own.dtype)[wrt]
        starts = Directions(jnp.broadcast_to(eye, (count, *eye.shape)), len(wrt), None)
    else:
        starts = sampled(make_map, parts, own.size, wrt, probes, key, (count, every), own.dtype)
    return log_norms(make_map, parts, starts, every, of, wrt)
