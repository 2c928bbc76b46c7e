"""All singular values of d s_t / d s_0, over any range."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks, keys
from recurrax.flow.numbers.factors import square_qr
from recurrax.flow.numbers.jacobi import log_singular_values
from recurrax.flow.numbers.largest import no_derivative
from recurrax.flow.numbers.scaled import Scaled, multiply, power_of_two, scale_of
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.flow.steps.problem import Problem


class Spectrum(NamedTuple):
    """The singular values of d s_t / d s_0 at K chosen times."""

    t: np.ndarray  # [K], ascending
    log_singular_values: chex.Array  # [K, *batch, N], natural logs, descending; -inf: singular
    log_condition: chex.Array  # [K, *batch], the first less the last; inf where singular
    surviving: chex.Array  # int32 [K, *batch], how many are at least `below`

    def __repr__(self) -> str:
        return summary(self, "surviving", -1, "directions left at the last t")


@by_layer
def spectrum(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    at: int | Sequence[int] | np.ndarray | None = None,
    below: float = 0.05,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> Spectrum:
    """All singular values of the derivative of the state by the initial state, at chosen times.

    `d s_t / d s_0 = A_t ... A_2 A_1 = U diag(exp(log_singular_values)) V^T`, the whole state of one
    example (an LSTM: h and c): how many directions still carry a gradient after t steps.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      at: the times t to look at, one integer from 1 to T or several; None for T alone.
      below: the fraction of a gradient that no longer counts, between 0 and 1.
      mask: bool `[T, *batch]`, as in `rx.unroll`: a step where it is False is the identity. The
        times count all steps of xs.
      resets: bool `[T, *batch]`: from a step where it is True every value is -inf.

    Returns:
      A `Spectrum`. The small values are as accurate as the large ones, however far apart: of an
      orthogonal matrix times a triangle with an exponent for each row, by Jacobi rotations. `-inf`
      is a direction that is lost entirely, in exact zeros or in the rounding of one single step.

      Parts of the state that no Jacobian joins up to t, as the units of a diagonal cell, are each
      treated alone. Within such a part the values are those of Jacobians known to some roundings of
      their largest entry. They are not to be relied upon where gates shut in turn and what joins
      the units is weaker than that, or goes one way only: roundings outlast what gates let through.

    Costs 2 QR factorisations `[N, N]` a step up to the last t, and for each time one more, some six
    times as long; the first 2 again for each time by which parts have met. It has no derivatives.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite, or the state
        overflows; if a time is not an integer from 1 to T; if `below` is not between 0 and 1.
      NotImplementedError: if a derivative is asked for.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> w = jnp.diag(jnp.asarray([1.0, 0.5, 0.01]))
      >>> def linear(w, h, x):
      ...     h = h @ w + x
      ...     return h, h
      >>> s = rx.flow.spectrum(linear, w, jnp.zeros(3), jnp.zeros((1000, 3)), at=(2, 1000))
      >>> [round(float(v)) for v in s.log_singular_values[1]]  # 1000 log 0.01: it is 10^-2000
      [0, -693, -4605]
      >>> s.surviving.tolist()
      [2, 1]

    Source: Demmel and Veselic (1992), "Jacobi's method is more accurate than QR".
    """
    problem = pose(cell, params, state, xs, mask, resets)
    if isinstance(at, jax.core.Tracer):
        raise TypeError(
            "at must be known when compiling, got a traced value. Under jax.jit make it static: "
            "jax.jit(..., static_argnames='at')."
        )
    asked = problem.length if at is None else at.tolist() if hasattr(at, "tolist") else at
    wanted = tuple(asked) if isinstance(asked, (tuple, list, range)) else (asked,)
    good = all(isinstance(t, (int, np.integer)) and not isinstance(t, bool) for t in wanted)
    if not good or not wanted:
        raise TypeError(f"at must be an integer or a tuple of integers, got {at!r}")
    for t in wanted:
        if not 1 <= t <= problem.length:
            raise ValueError(f"at must lie between 1 and T = {problem.length}, got {t}")
    checks.check_fraction("below", below)
    return spectrum_of(problem, tuple(sorted({int(t) for t in wanted})), below)


def spectrum_of(problem: Problem, times: tuple[int, ...], below: float) -> Spectrum:
    """Return the spectrum of a problem at some times."""
    refusal = (
        "flow.spectrum has no derivatives. Differentiate flow.decay for the largest singular "
        "value, or flow.lyapunov for the exponents."
    )
    logs = _spectrum(no_derivative(problem, refusal), times)
    largest, smallest = logs[..., 0], logs[..., -1]
    singular = jnp.isneginf(smallest)
    condition = jnp.where(singular, jnp.inf, largest - jnp.where(singular, 0.0, smallest))
    surviving = jnp.sum(logs >= math.log(below), axis=-1, dtype=jnp.int32)
    return Spectrum(np.asarray(times), logs, condition, surviving)


@for_each_example(1, in_turn=True)
def _spectrum(own: Problem, path: Trajectory, times: tuple[int, ...]) -> chex.Array:
    resets = own.flags.resets
    if resets is not None:  # there the product is zero, so what is factored need not be
        own = dataclasses.replace(own, flags=own.flags._replace(resets=None))
    steps = jax.tree.map(lambda leaf: leaf[: times[-1]], own.rows(path.befores))
    tracks, blocks = follow(partial(linear_map, own.step, own.params), steps, own.size)
    blocks = blocks[np.asarray(times)]

    def some(carry: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        """All times whose blocks are those of the last one that is left."""
        logs, left = carry
        last = jnp.max(jnp.where(left, np.arange(len(times)), 0))
        rows, columns = blocks[last][tracks], jnp.sort(blocks[last])
        triangles = _triangles(own, steps, rows, columns, times, last)
        found = jax.vmap(log_singular_values, (0, None))(triangles, columns)
        same = left & jnp.all(blocks == blocks[last], axis=1)
        return jnp.where(same[:, None], found, logs), left & ~same

    nothing = jnp.zeros((len(times), own.size), own.dtype), jnp.ones(len(times), bool)
    logs: chex.Array = jax.lax.while_loop(lambda carry: jnp.any(carry[1]), some, nothing)[0]
    if resets is None:
        return logs
    cut = jnp.cumsum(resets)[np.asarray(times) - 1] > 0
    return jnp.where(cut[:, None], -jnp.inf, logs)


def _triangles(
    own: Problem,
    steps: Any,
    rows: chex.Array,
    columns: chex.Array,
    times: tuple[int, ...],
    last: chex.Array,
) -> Scaled:
    """The triangle U of `A_t ... A_1 V = Q_t U` at each of the times, `[K, N, N]`.

    The orthogonal V, by orthogonal iteration with the transposed product up to `times[last]`, has
    what is stretched most first. So the triangle is nearly diagonal, and its small singular values
    are not differences of large numbers. `rows [T + 1, N]` and `columns [N]`, ascending, are the
    blocks of coordinates at each time, and of directions.
    """
    size, dtype = own.size, own.dtype
    derivative = partial(linear_map, own.step, own.params)
    slots = np.full(times[-1], len(times), np.int32)  # the last one: not kept
    slots[np.asarray(times) - 1] = np.arange(len(times))

    def pull(basis: chex.Array, now: Any) -> tuple[chex.Array, None]:
        step, rows, live = now
        new = _orthogonal_first(derivative(*step).pull(basis), rows, columns)[0]
        return jnp.where(live, new, basis), None

    def push(carry: Any, now: Any) -> tuple[Any, None]:
        basis, product, kept = carry
        step, rows, slot = now
        pushed = derivative(*step).push(basis)
        basis, upper, exponent = _orthogonal_first(pushed, rows, columns)
        product = multiply(Scaled(upper, exponent[:, None]), product)
        kept = jax.tree.map(lambda all, new: all.at[slot].set(new, mode="drop"), kept, product)
        return (basis, product, kept), None

    basis = jax.random.normal(keys.own(keys.ALIGNED), (size, size)).astype(dtype)
    end = jnp.asarray(times)[last]
    basis = _orthogonal_first(basis, rows[end], columns)[0]
    live = jnp.arange(times[-1]) < end
    basis, _ = jax.lax.scan(pull, basis, (steps, rows[:-1], live), reverse=True)
    one = Scaled(jnp.eye(size, dtype=dtype), jnp.zeros((size, 1), jnp.int32))
    empty = jax.tree.map(lambda leaf: jnp.zeros((len(times), *leaf.shape), leaf.dtype), one)
    carry, _ = jax.lax.scan(push, (basis, one, empty), (steps, rows[1:], slots))
    kept: Scaled = carry[2]
    return kept


def _orthogonal_first(
    a: chex.Array, rows: chex.Array, columns: chex.Array
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """`a = q @ r * 2**exponent` with q orthogonal, r upper triangular, and its rounding set to 0.

    Each block by itself, with an exponent of its own: the rows are sorted by block, as the columns
    are, so that Householder's reflections never leave one; and within a block by length, so that
    each is rounded beside its own, as saturated units make them differ by orders of magnitude. An
    entry of r below that rounding is zero, so that a singular Jacobian gives a singular product.
    """
    a = jnp.where(rows[:, None] == columns, a, 0.0)  # a step's derivative may have rounded there
    of_column = jnp.max(jnp.abs(a), axis=0)
    of_block = jnp.where(columns[:, None] == columns, of_column, 0.0)
    exponent = scale_of(of_block, (1,))
    a = a * power_of_two(-exponent, a.dtype)
    largest = jnp.max(jnp.abs(a), axis=1)
    scaled = a / jnp.where(largest == 0, 1.0, largest)[:, None]
    length = largest * jnp.sqrt(jnp.sum(scaled * scaled, axis=1))
    order = jnp.lexsort((-length, rows))
    q, r = square_qr(a[order])
    rounding = jnp.finfo(a.dtype).eps * math.sqrt(a.shape[0]) * length[order]
    r = jnp.where(jnp.abs(r) <= rounding[:, None], 0.0, r)
    return jnp.zeros_like(q).at[order].set(q), r, exponent


def follow(derivative: Callable[..., Any], steps: Any, size: int) -> tuple[chex.Array, chex.Array]:
    """Where the parts of the state are that never meet in a product of Jacobians.

    Outside such blocks there are exact zeros. A factorisation of the whole would put rounding
    there, which grows to be all there is where another block shrinks. A block is a connected part,
    up to some time, of the graph in which a nonzero entry of A_t joins a coordinate at t to one at
    t - 1. A network may permute its units, so a block is a set of tracks, of which one stands at
    each coordinate at each time; at time 0 track i stands at coordinate i.

    Returns:
      The track at each coordinate, int32 `[T + 1, N]`, and the block of each track for the product
      up to each time, `[T + 1, N]`: two tracks of one number have met by then.
    """

    def body(now: Any, here: Any) -> tuple[Any, Any]:
        def step() -> tuple[chex.Array, chex.Array]:
            return _after(derivative(*here).matrix() != 0, *now)

        # Where all have met, which most networks have after one step, nothing is left to find.
        now = jax.lax.cond(jnp.any(now[1] != 0), step, lambda: now)
        return now, now

    apart = jnp.arange(size, dtype=jnp.int32)
    _, found = jax.lax.scan(body, (apart, apart), steps)
    tracks, blocks = (jnp.concatenate([apart[None], leaf]) for leaf in found)
    return tracks, blocks


def _after(
    touches: chex.Array, tracks: chex.Array, blocks: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Tracks and blocks after a step in which column j of the Jacobian touches row i.

    The lowest number spreads until nothing changes. A block must keep its number of coordinates:
    where the step breaks that, as a singular one does, those concerned are joined to themselves.
    """
    size = len(tracks)
    known = blocks[tracks]

    def spread(carry: Any) -> Any:
        columns, _, kept, _ = carry
        joined = touches | jnp.diag(kept)
        rows = jnp.min(jnp.where(joined, columns, size), axis=1)
        reached = jnp.minimum(columns, jnp.min(jnp.where(joined, rows[:, None], size), axis=0))
        lowest = jnp.full(size, size, jnp.int32).at[known].min(reached)[known]
        settled = jnp.all(lowest == columns)
        surplus = jnp.zeros(size + 1, jnp.int32).at[rows].add(1).at[columns].add(-1)
        uneven = (surplus[rows] != 0) | (surplus[columns] != 0)
        more = kept | (settled & uneven)
        return lowest, rows, more, ~settled | jnp.any(more != kept)

    start = (known, known, jnp.zeros(size, bool), jnp.asarray(True))
    columns, rows, _, _ = jax.lax.while_loop(lambda carry: carry[3], spread, start)
    after = jnp.zeros_like(tracks).at[jnp.argsort(rows)].set(tracks[jnp.argsort(columns)])
    return after, blocks.at[tracks].set(columns)
