"""How fast the volumes spanned by tangent directions grow along a trajectory.

Directions `V [N, k]` are pushed through the Jacobians and, now and then, split as
`V = basis @ upper` with an upper triangular factor. The product of all these factors is upper
triangular too, and its diagonal, in logs, is the growth of each direction across those before it:
divided by time, the Lyapunov exponents (Benettin; Shimada and Nagashima). Which basis is carried
does not change that diagonal, so inside a block of time it comes from pivoted elimination (Bauer's
staircase iteration), and from Householder's QR at the end of the block, where the diagonal is read.

How many steps go between two eliminations is decided anew for each block, from the errors seen in
the last one: the more the exponents differ, the sooner a weak direction drowns in the rounding of a
strong one.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.joint import flatten
from recurrax.flow.linear import linear_maps
from recurrax.flow.logscale import rescale
from recurrax.flow.triangular import eliminated, orthonormal

if TYPE_CHECKING:
    import chex

    from recurrax.cell import StepFn

BLOCKS = 64  # at least so many where T allows, so that their spread gives an error bar
_WIDEST = 64  # steps between eliminations, at most: beyond it there is nothing left to save
_PUSH, _SPLIT, _IDLE = 0, 1, 2


class Growth(NamedTuple):
    """What time did to k directions, block by block."""

    log_growth: chex.Array  # [M, k], of each direction across those before it
    condition: chex.Array  # [M, k], the worst: the error of a growth, in units of rounding
    every: chex.Array  # int32 [M], steps between eliminations
    basis: chex.Array  # [N, k], where the directions are at the end


class _Carried(NamedTuple):
    """What goes on from one block to the next."""

    state: Any
    basis: chex.Array  # [N, k], orthonormal
    every: chex.Array  # int32 []


def tolerance(dtype: jnp.dtype) -> float:
    """The relative error that a growth may have before eliminations are brought closer together."""
    eps = float(jnp.finfo(dtype).eps)
    return math.pow(eps, 0.4)


def first_basis(size: int, count: int, dtype: jnp.dtype) -> chex.Array:
    """Orthonormal directions `[N, k]` that no structure of a network singles out."""
    return orthonormal(jax.random.normal(jax.random.key(0), (size, count)).astype(dtype))[0]


def block_length(length: int, every: int | None) -> int:
    """Steps in one block: a chosen interval is not cut short by the end of one."""
    size = max(1, length // BLOCKS)
    return size if every is None else min(length, -(-size // every) * every)


def grow(
    step: StepFn, params: Any, state: Any, xs: Any, *, count: int, burn_in: int, every: int | None
) -> Growth:
    """Push `count` directions through all of xs; the blocks of the first `burn_in` are left out.

    The first block of each part may be shorter: blocks are whole, and what fills them up is idle.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    size = block_length(length - burn_in, every)
    before = -(-burn_in // size)  # blocks, rounded up
    front = before * size - burn_in
    total = before + -(-(length - burn_in) // size)
    back = total * size - front - length

    def fold(leaf: chex.Array) -> chex.Array:
        padding = [(front, back)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, padding, mode="edge").reshape(total, size, *leaf.shape[1:])

    live = jnp.pad(jnp.ones(length, bool), (front, back)).reshape(total, size)

    def body(carried: _Carried, now: Any) -> tuple[_Carried, Any]:
        return _block(step, params, carried, *now, fixed=every is not None)

    vector = flatten(state)
    basis = first_basis(vector.shape[0], count, vector.dtype)
    carried = _Carried(state, basis, jnp.int32(every or 1))
    carried, found = jax.lax.scan(body, carried, (jax.tree.map(fold, xs), live))
    log_growth, condition, used = (leaf[before:] for leaf in found)
    return Growth(log_growth, condition, used, carried.basis)


def _block(
    step: StepFn, params: Any, carried: _Carried, xs: Any, live: chex.Array, *, fixed: bool
) -> tuple[_Carried, tuple[chex.Array, chex.Array, chex.Array]]:
    """One block: along its trajectory, push or split at each step, and orthonormalise."""
    state, basis, every = carried

    def walk(state: Any, now: Any) -> tuple[Any, Any]:
        x, alive = now
        after = step(params, state, x)[0]
        return jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, state), state

    state, befores = jax.lax.scan(walk, state, (xs, live))
    parts, make_map = linear_maps(step, params, befores, xs, columns=basis.shape[1])
    turn = jnp.arange(1, live.shape[0] + 1) % every == 0
    action = jnp.where(live, jnp.where(turn, _SPLIT, _PUSH), _IDLE)

    def body(basis: chex.Array, now: Any) -> tuple[chex.Array, Any]:
        part, action = now
        derivative = make_map(part)
        branches = [partial(branch, derivative) for branch in (_pushed, _split, _idle)]
        basis, logs, condition = jax.lax.switch(action, branches, basis)
        return basis, (logs, condition)

    basis, (logs, conditions) = jax.lax.scan(body, basis, (parts, action))
    rest = eliminated(basis)  # what was only pushed since the last split
    basis, triangle = orthonormal(rest.basis)
    log_growth = jnp.sum(logs, 0) + _log_diagonal(rest.upper) + _log_diagonal(triangle)
    condition = jax.lax.stop_gradient(jnp.maximum(jnp.max(conditions, 0), rest.condition))
    after = every if fixed else _next_interval(every, condition, log_growth, jnp.sum(live))
    used = jnp.minimum(every, live.shape[0])
    return _Carried(state, basis, after), (log_growth, condition, used)


def _pushed(derivative: Any, basis: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    basis, exponent = rescale(derivative.push(basis))
    ones = jnp.ones(basis.shape[1], basis.dtype)
    return basis, exponent.astype(basis.dtype) * math.log(2) * ones, ones


def _split(derivative: Any, basis: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    found = eliminated(derivative.push(basis))
    return found.basis, _log_diagonal(found.upper), found.condition


def _idle(derivative: Any, basis: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    ones = jnp.ones(basis.shape[1], basis.dtype)
    return basis, 0 * ones, ones


def _next_interval(
    every: chex.Array, condition: chex.Array, log_growth: chex.Array, steps: chex.Array
) -> chex.Array:
    """The widest interval whose error is likely to stay tolerable.

    After m steps a direction is hidden m times as deep (in logs) as after one. Where it is not
    hidden, as between the units of a diagonal Jacobian, it still must not underflow.
    """
    dtype = log_growth.dtype
    finite = jnp.isfinite(log_growth)
    largest = jnp.max(jnp.where(finite, log_growth, -jnp.inf))
    smallest = jnp.min(jnp.where(finite, log_growth, jnp.inf))
    spread = (largest - smallest) / jnp.maximum(steps, 1).astype(dtype)
    spread = jnp.maximum(jnp.nan_to_num(spread, posinf=0, neginf=0), 1e-3)
    limit = math.log(tolerance(dtype)) - math.log(float(jnp.finfo(dtype).eps))
    # A direction that is gone has no finite condition, and no interval would bring it back.
    worst = jnp.max(jnp.where(finite, condition, 1))
    room = (limit - jnp.log(worst)) / spread
    wider = jnp.minimum(every + room, limit / spread)
    wider = jnp.minimum(wider, 2.0 * every.astype(dtype))
    return jax.lax.stop_gradient(jnp.clip(jnp.floor(wider).astype(jnp.int32), 1, _WIDEST))


def _log_diagonal(upper: chex.Array) -> chex.Array:
    """The logs of the absolute diagonal: -inf at zero, with a derivative of zero there."""
    diagonal = jnp.abs(jnp.diagonal(upper))
    zero = diagonal == 0
    return jnp.where(zero, -jnp.inf, jnp.log(jnp.where(zero, 1.0, diagonal)))
