"""All singular values of d s_t / d s_0, over any range."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks, keys
from recurrax.flow.growth.blocks import follow
from recurrax.flow.numbers.jacobi import log_singular_values
from recurrax.flow.numbers.largest import no_derivative
from recurrax.flow.numbers.qr import qr
from recurrax.flow.numbers.scaled import Scaled, multiply, power_of_two, scale_of
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.flow.steps.problem import Problem

_NO_DERIVATIVE = (
    "flow.spectrum has no derivatives. Differentiate flow.decay for the largest singular value, or "
    "flow.lyapunov for the exponents."
)


class Spectrum(NamedTuple):
    """The singular values of d s_t / d s_0 at K chosen times."""

    t: np.ndarray  # [K], ascending
    log_singular_values: chex.Array  # [K, *batch, N], natural logs, descending; -inf: singular
    log_condition: chex.Array  # [K, *batch], the first less the last; inf where singular
    surviving: chex.Array  # int32 [K, *batch], how many are at least `below`

    def __repr__(self) -> str:
        return summary(self, "surviving", -1, "directions left at the last t")


def spectrum(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    at: int | Sequence[int] | np.ndarray | None = None,
    below: float = 0.05,
) -> Spectrum:
    """All singular values of the derivative of the state by the initial state, at chosen times.

    `d s_t / d s_0 = A_t ... A_2 A_1 = U diag(exp(log_singular_values)) V^T`, the whole state of one
    example (an LSTM: h and c). How many directions still carry a gradient after t steps, and by
    how many orders of magnitude the strongest and the weakest differ.

    Args:
      cell: a `Cell` or a step function.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      at: the times t to look at, one integer from 1 to T or several; None for T alone.
      below: the fraction of a gradient that no longer counts, between 0 and 1.

    Returns:
      A `Spectrum`. The small values are as accurate as the large ones, however far apart: the
      product is kept as an orthogonal matrix times a triangle with an exponent for each row, and
      the singular values of that come from Jacobi rotations. `-inf` is a direction that is lost
      entirely, in exact zeros or in the rounding of one single step.

      Parts of the state that no Jacobian joins up to t, as the units of a diagonal cell, are told
      by the zeros of the Jacobians and each treated alone. Within such a part the values are those
      of Jacobians known to some roundings of their largest entry. So they are not to be relied upon
      where gates shut in turn and what joins the units is weaker than that, or goes one way only:
      a rounding in the place of a zero then outlasts what the gates let through.

    Costs 2 QR factorisations `[N, N]` a step up to the last t, and one more for each of the chosen
    times some six times as long; the first 2 again for each of the times by which parts have met
    that were apart at the one before. It has no derivatives.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite, or the state
        overflows on the way; if a time is not an integer from 1 to T; if `below` is not between 0
        and 1.
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

    Source: Jacobi rotations of a graded matrix as in Demmel and Veselic (1992), "Jacobi's method
    is more accurate than QR".
    """
    problem = pose(cell, params, state, xs)
    times = _times(at, problem.length)
    checks.check_number("below", below)
    if not 0 < below < 1:
        raise ValueError(f"below must be between 0 and 1, got {below}")
    return spectrum_of(problem, times, below)


def spectrum_of(problem: Problem, times: tuple[int, ...], below: float) -> Spectrum:
    """Return the spectrum of a problem at some times."""
    logs = _spectrum(no_derivative(problem, _NO_DERIVATIVE), times)
    largest, smallest = logs[..., 0], logs[..., -1]
    singular = jnp.isneginf(smallest)
    condition = jnp.where(singular, jnp.inf, largest - jnp.where(singular, 0.0, smallest))
    surviving = jnp.sum(logs >= math.log(below), axis=-1, dtype=jnp.int32)
    return Spectrum(np.asarray(times), logs, condition, surviving)


def _times(at: Any, length: int) -> tuple[int, ...]:
    """The chosen times, ascending and each once."""
    if isinstance(at, jax.core.Tracer):
        raise TypeError(
            "at must be known when compiling, got a traced value. Under jax.jit make it static: "
            "jax.jit(..., static_argnames='at')."
        )
    asked = length if at is None else at.tolist() if hasattr(at, "tolist") else at
    wanted = tuple(asked) if isinstance(asked, (tuple, list, range)) else (asked,)
    good = all(isinstance(t, (int, np.integer)) and not isinstance(t, bool) for t in wanted)
    if not good or not wanted:
        raise TypeError(f"at must be an integer or a tuple of integers, got {at!r}")
    for t in wanted:
        if not 1 <= t <= length:
            raise ValueError(f"at must lie between 1 and T = {length}, got {t}")
    return tuple(sorted({int(t) for t in wanted}))


@for_each_example(1, in_turn=True)
def _spectrum(own: Problem, path: Trajectory, times: tuple[int, ...]) -> chex.Array:
    length, size, dtype = times[-1], own.size, own.dtype
    slots = np.full(length, len(times), np.int32)  # the last one: not kept
    slots[np.asarray(times) - 1] = np.arange(len(times))
    befores, xs = jax.tree.map(lambda leaf: leaf[:length], (path.befores, own.xs))
    maps = partial(linear_map, own.step, own.params)
    tracks, blocks = follow(maps, befores, xs, size)
    blocks = blocks[np.asarray(times)]

    def some(carry: tuple[chex.Array, chex.Array]) -> tuple[chex.Array, chex.Array]:
        """All times whose blocks are those of the last one that is left."""
        logs, left = carry
        last = jnp.max(jnp.where(left, np.arange(len(times)), 0))
        now = _Blocks(blocks[last][tracks], jnp.sort(blocks[last]))
        basis = _aligned_basis(maps, befores, xs, now, jnp.asarray(times)[last], dtype)
        kept = _products(maps, befores, xs, now, basis, jnp.asarray(slots), len(times))
        found = jax.vmap(log_singular_values, (0, None))(kept, now.columns)
        same = left & jnp.all(blocks == blocks[last], axis=1)
        return jnp.where(same[:, None], found, logs), left & ~same

    nothing = jnp.zeros((len(times), size), dtype), jnp.ones(len(times), bool)
    logs: chex.Array = jax.lax.while_loop(lambda carry: jnp.any(carry[1]), some, nothing)[0]
    return logs


class _Blocks(NamedTuple):
    """The numbers of the blocks that coordinates and directions are in."""

    rows: chex.Array  # int32 [T + 1, N], of each coordinate at each time
    columns: chex.Array  # [N], of each direction, ascending


def _aligned_basis(
    maps: Any, befores: Any, xs: Any, blocks: _Blocks, last: chex.Array, dtype: Any
) -> chex.Array:
    """An orthogonal matrix whose first columns are about those that the product stretches most.

    By orthogonal iteration with the transposed product, from directions that no structure of a
    block singles out. In this basis the triangle of the product is nearly diagonal, its largest row
    first, and its small singular values are not differences of large numbers.
    """
    rows, columns = blocks
    shape = (len(columns),) * 2
    start = jax.random.normal(keys.own(keys.ALIGNED), shape).astype(dtype)
    start = _orthogonal_first(start, rows[last], columns)[0]

    def body(basis: chex.Array, now: Any) -> tuple[chex.Array, None]:
        before, x, rows, live = now
        new = _orthogonal_first(maps(before, x).pull(basis), rows, columns)[0]
        return jnp.where(live, new, basis), None

    live = jnp.arange(len(rows) - 1) < last
    return jax.lax.scan(body, start, (befores, xs, rows[:-1], live), reverse=True)[0]


def _products(
    maps: Any,
    befores: Any,
    xs: Any,
    blocks: _Blocks,
    basis: chex.Array,
    slots: chex.Array,
    count: int,
) -> Scaled:
    """The triangle U of `A_t ... A_1 basis = Q_t U` at the times that have a slot."""
    size, dtype = basis.shape[0], basis.dtype
    start = Scaled(jnp.eye(size, dtype=dtype), jnp.zeros((size, 1), jnp.int32))

    def body(carry: Any, now: Any) -> tuple[Any, None]:
        basis, product, kept = carry
        before, x, rows, slot = now
        pushed = maps(before, x).push(basis)
        basis, upper, exponent = _orthogonal_first(pushed, rows, blocks.columns)
        product = multiply(Scaled(upper, exponent[:, None]), product)
        kept = jax.tree.map(lambda all, new: all.at[slot].set(new, mode="drop"), kept, product)
        return (basis, product, kept), None

    empty = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), start)
    steps = (befores, xs, blocks.rows[1:], slots)
    kept: Scaled = jax.lax.scan(body, (basis, start, empty), steps)[0][2]
    return kept


def _orthogonal_first(
    a: chex.Array, rows: chex.Array, columns: chex.Array
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """`a = q @ r * 2**exponent` with q orthogonal, r upper triangular, and its rounding set to 0.

    Each block by itself, with an exponent of its own: the rows are sorted by block, as the columns
    are, so that Householder's reflections never leave one. Within a block they are sorted by
    length, as those of a network with saturated units differ by orders of magnitude: each row is
    then rounded beside its own length. An entry of r that is no larger than that rounding is zero,
    so that a singular Jacobian gives a singular product.
    """
    a = jnp.where(rows[:, None] == columns, a, 0.0)  # a step's derivative may have rounded there
    a, exponent = _rescaled(a, columns)
    largest = jnp.max(jnp.abs(a), axis=1)
    scaled = a / jnp.where(largest == 0, 1.0, largest)[:, None]
    length = largest * jnp.sqrt(jnp.sum(scaled * scaled, axis=1))
    order = jnp.lexsort((-length, rows))
    q, r = qr(a[order])
    rounding = jnp.finfo(a.dtype).eps * math.sqrt(a.shape[0]) * length[order]
    r = jnp.where(jnp.abs(r) <= rounding[:, None], 0.0, r)
    return jnp.zeros_like(q).at[order].set(q), r, exponent


def _rescaled(a: chex.Array, columns: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Each block with its largest entry in [1/2, 1), and what was taken out of each column."""
    largest = jnp.max(jnp.abs(a), axis=0)
    of_block = jnp.max(jnp.where(columns[:, None] == columns, largest, 0.0), axis=1)
    exponent = scale_of(of_block[:, None], (1,))
    return a * power_of_two(-exponent, a.dtype), exponent
