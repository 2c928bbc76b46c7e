"""Covariant Lyapunov vectors: the directions that grow at each exponent, forward and back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.flow.lyapunov import (
    check_interval,
    check_k,
    check_left_out,
    refuse_resets,
    shortest_row,
)
from recurrax.flow.numbers.factors import nonzero_diagonal, orthonormal, triangular_inverse
from recurrax.flow.numbers.scaled import Scaled, rescale, root
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.growth import counted_steps, first_basis, in_order, left_out
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose, with_inputs
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.flow.steps.problem import Problem


class CovariantVectors(NamedTuple):
    """Directions that the Jacobians carry into each other, one for each exponent."""

    exponents: chex.Array  # [*batch, k], growth of each vector over the measured steps, nats a step
    vectors: chex.Array  # [M, *batch, N, k], unit columns, the fastest-growing first
    angles: chex.Array  # [M, *batch, k, k], between two vectors, radians, 0 to pi / 2
    times: chex.Array  # int32 [M], steps from the start at which they stand; see `mask`

    def __repr__(self) -> str:
        return summary(self, "exponents", (..., 0), "of the first")


@by_layer
def covariant_vectors(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    k: int | None = None,
    burn_in: int | None = None,
    burn_out: int | None = None,
    every: int = 1,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> CovariantVectors:
    """The covariant Lyapunov vectors along a trajectory, and the angles between them.

    `A_t v_i(t-1) = gamma_i(t) v_i(t)`: vector i at one time is carried onto vector i at the next,
    and grows at the i-th exponent both forward and backward in time. Found by orthonormal bases
    going forward, `A_t Q_{t-1} = Q_t R_t`, and triangular coordinates going back,
    `C_{t-1} = R_t^-1 C_t`. At a small angle a gradient cannot tell two directions apart.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`, or None for an autonomous system of `length` steps.
      length: T, if xs is None.
      k: how many vectors, those of the largest exponents; all N by default.
      burn_in: first steps to leave out, in which the bases settle; a fifth of T by default.
      burn_out: last steps to leave out, in which the coordinates settle; a fifth of T by default.
      every: steps between two vectors, so few that k directions stay apart in rounding.
      mask: bool `[T, *batch]`, as in `rx.unroll`: steps where it is False are no time, as if each
        row were measured alone without them. Then `times [M, *batch]` counts the steps of each row,
        which has its own first; beyond them its times are -1, its vectors and angles NaN.
      resets: bool `[T, *batch]`, refused where True: nothing can be followed back through one.

    Returns:
      A `CovariantVectors`, float32 or wider, of M times. Vector i belongs to the i-th exponent of
      `flow.lyapunov`; over a few steps their growths may come in another order. Angles are right to
      some roundings of 1, those to the first vector to some of themselves, as far as the vectors
      are. Memory grows with `T N k / every`. Inside `jax.jit`, where nothing is known yet to be
      refused, exponents are -inf after a singular Jacobian or a reset, and NaN of a row that has
      fewer than two times.

    Raises:
      ValueError, TypeError: as `flow.lyapunov` does; if nothing is left to measure; if a Jacobian
        is singular along the k directions, to rounding, since nothing can be followed back through
        it; if an `every` above 1 loses vectors in rounding.

    Warns:
      UserWarning: if an `every` above 1 costs more than half the digits.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> w = jnp.array([[2.0, 1.0], [0.0, 0.5]])
      >>> found = rx.flow.covariant_vectors(lambda w, s, x: (w @ s, s), w, jnp.ones(2), length=40)
      >>> [round(float(v), 3) for v in abs(found.vectors[0, :, 1])]  # eigenvector of 0.5
      [0.555, 0.832]

    Source: Ginelli et al. (2007), "Characterizing dynamics with covariant Lyapunov vectors".
    """
    xs = with_inputs(cell, params, state, xs, length)
    problem = pose(cell, params, state, xs, mask, resets)
    refuse_resets(problem, "vectors")
    count = check_k(k, problem.size)
    checks.check_positive_int("every", every)
    every = int(every)
    burn_in = check_left_out("burn_in", burn_in, problem.length)
    burn_out = check_left_out("burn_out", burn_out, problem.length)
    steps = shortest_row(problem)
    begin, end = _standing(steps, burn_in, burn_out, every)
    if end - begin < 2:
        raise ValueError(
            f"burn_in={left_out(burn_in, steps, 5)}, burn_out={left_out(burn_out, steps, 5)} and "
            f"every={every} leave {max(end - begin, 0)} of {'T' if mask is None else 'a row'} = "
            f"{steps} steps to measure; expected 2 or more. Give more steps or leave out fewer."
        )
    growth, vectors, angles, condition = _ginelli(problem, count, every)
    gone: Any = () if isinstance(growth, jax.core.Tracer) else np.argwhere(np.isneginf(growth))
    if len(gone):
        raise ValueError(
            f"the Jacobians up to time {int(gone[0][0]) + 1} (in units of every) are singular "
            f"along the {count} directions followed, to rounding, so vectors cannot be "
            "followed back through them. Take a smaller k (flow.lyapunov says how many exponents "
            "are finite), a smaller every, or float64."
        )
    if every > 1:
        check_interval(every, growth, condition, "Take a smaller one.")
    if problem.flags.mask is None:
        rates = jnp.sum(growth[begin + 1 : end], 0) / ((end - begin - 1) * every)
        times = jnp.arange(begin + 1, end + 1, dtype=jnp.int32) * every
        return CovariantVectors(rates, vectors[begin:end], angles[begin:end], times)
    options = burn_in, burn_out, every
    own: CovariantVectors = _of_rows(problem, options, growth, vectors, angles)
    return own


def _standing(steps: Any, burn_in: int | None, burn_out: int | None, every: int) -> tuple[Any, Any]:
    """Where the times begin and end in 1, 2, ... times `every`, of a number or numbers of steps."""
    first, last = left_out(burn_in, steps, 5), left_out(burn_out, steps, 5)
    begin = -(-first // every) - 1
    return begin + (begin < 0), (steps - last) // every


@partial(jax.jit, static_argnums=1)
def _of_rows(
    problem: Problem, options: tuple[Any, ...], growth: Any, vectors: Any, angles: Any
) -> CovariantVectors:
    """What each row measures between its own first and last times, at the front."""
    begin, end = _standing(np.arange(1, problem.length + 1), *options)
    most = int(np.max(end - begin))  # of any row that there could be
    begin, end = _standing(counted_steps(problem), *options)
    place = jnp.arange(most).reshape(-1, *(1,) * end.ndim) + jnp.broadcast_to(begin, end.shape)
    own = place < end
    place = jnp.minimum(place, len(growth) - 1)

    def taken(leaf: chex.Array, fill: float) -> chex.Array:
        wide = (..., *(None,) * (leaf.ndim - place.ndim))
        found = jnp.take_along_axis(leaf, place[wide], 0)
        return jnp.where(own[wide], found, jnp.asarray(fill, leaf.dtype))

    grown = jnp.sum(taken(growth, 0)[1:], 0)
    elapsed = jnp.maximum(end - begin - 1, 0)[..., None] * options[-1]
    times = jnp.where(own, (place + 1) * options[-1], -1)
    return CovariantVectors(
        jnp.where(elapsed > 0, grown / elapsed.astype(grown.dtype), jnp.nan),
        taken(vectors, jnp.nan),
        taken(angles, jnp.nan),
        times.astype(jnp.int32),
    )


@for_each_example(1, 2, in_turn=True)
def _ginelli(own: Problem, path: Trajectory, count: int, every: int) -> tuple[chex.Array, ...]:
    """Of each vector at each time: growth `[M, *batch, k]`, direction, angles, condition."""

    def push(v: Scaled, now: Any) -> tuple[Scaled, None]:
        pushed = linear_map(own.step, own.params, *now).push(v.mantissa)
        return rescale(pushed, v.exponent), None

    def forward(basis: chex.Array, block: Any) -> tuple[chex.Array, Any]:
        (v, exponent), _ = jax.lax.scan(push, Scaled(basis, jnp.int32(0)), block)
        basis, upper = orthonormal(v)
        # What is left of a column across those before it may be nothing but its rounding.
        left, whole = jnp.diagonal(upper), jnp.linalg.norm(v, axis=0)
        gone = jnp.any(left <= (4 + 2 * len(v) ** 0.5) * jnp.finfo(v.dtype).eps * whole)
        condition = jax.lax.stop_gradient(whole / jnp.where(left == 0, 1, left))
        return basis, (basis, upper, exponent, gone, condition)

    def back(coordinates: chex.Array, now: Any) -> tuple[chex.Array, Any]:
        basis, upper, exponent, gone, condition = now
        earlier = triangular_inverse(nonzero_diagonal(upper)) @ coordinates
        shrunk = jnp.linalg.norm(earlier, axis=0)
        log_growth = exponent.astype(shrunk.dtype) * jnp.log(2.0) - jnp.log(shrunk)
        log_growth = jnp.where(gone, -jnp.inf, log_growth)
        return earlier / shrunk, (log_growth, basis @ coordinates, _angles(coordinates), condition)

    blocks, steps, order = own.length // every, (path.befores, own.xs), in_order(own)
    if order is not None:
        steps = jax.tree.map(lambda leaf: leaf[order], steps)

    def fold(leaf: chex.Array) -> chex.Array:
        return leaf[: blocks * every].reshape(blocks, every, *leaf.shape[1:])

    basis = first_basis(own.size, count, own.dtype)
    found = jax.lax.scan(forward, basis, jax.tree.map(fold, steps))[1]
    if order is not None:  # what comes after the steps that count is the identity
        idle = jnp.arange(1, blocks + 1) * every > counted_steps(own)
        nothing = (jnp.eye(count, dtype=own.dtype), jnp.int32(0), jnp.bool_(False), jnp.ones(count))
        found = (found[0], *map(partial(_where_row, idle), nothing, found[1:]))
    if own.flags.resets is not None:
        found = (*found[:3], found[3] | jnp.any(own.flags.resets), found[4])
    # A general direction in each space, not the one that the basis happens to have.
    columns = jnp.arange(1, count + 1, dtype=own.dtype)
    general = jnp.triu(jnp.ones((count, count), own.dtype)) / jnp.sqrt(columns)
    seen: tuple[chex.Array, ...] = jax.lax.scan(back, general, found, reverse=True)[1]
    return seen


def _where_row(flags: chex.Array, yes: chex.Array, no: chex.Array) -> chex.Array:
    return jnp.where(flags.reshape(-1, *(1,) * (no.ndim - 1)), yes.astype(no.dtype), no)


def _angles(coordinates: chex.Array) -> chex.Array:
    """Between the unit columns of an upper triangle, `[k, k]`, in radians, 0 to pi / 2.

    By sine and cosine, since near a tangency the cosine alone is 1: the sine is the length of what
    column j > i has across column i, from which nothing is taken off below row i.
    """
    cosine = jnp.matmul(coordinates.T, coordinates, precision="highest")
    across = coordinates[:, None, :] - coordinates[:, :, None] * cosine
    sine = root(jnp.sum(across * across, 0))
    angle = jnp.triu(jnp.arctan2(sine, jnp.abs(cosine)), 1)
    return angle + angle.T
