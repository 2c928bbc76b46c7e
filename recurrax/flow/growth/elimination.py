"""How fast the volumes spanned by tangent directions grow along a trajectory.

Directions `V [N, k]` are pushed through the Jacobians and, now and then, split as
`V = basis @ upper` with an upper triangular factor. The product of all these factors is upper
triangular too, and its diagonal, in logs, is the growth of each direction across those before it:
divided by time, the Lyapunov exponents (Benettin; Shimada and Nagashima). Which basis is carried
does not change that diagonal, so inside a block of time it comes from pivoted elimination (Bauer's
staircase iteration), and from Householder's QR at the end of the block, where the diagonal is read.

How many steps go between two eliminations is decided anew for each block (`interval.py`). A block
that turns out to be less accurate than is tolerated is gone through again with half as many, and
then with an elimination at every step.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import keys
from recurrax.flow.growth.interval import Seen, detour, erased, intolerable, mostly, next_interval
from recurrax.flow.numbers.scaled import power_of_two, scale_of
from recurrax.flow.numbers.triangular import Eliminated, eliminated, orthonormal
from recurrax.flow.steps.jacobian import linear_maps
from recurrax.flow.steps.problem import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import StepFn

BLOCKS = 64  # at least so many where T allows, so that their spread gives an error bar
_PUSH, _SPLIT, _IDLE = 0, 1, 2


class Growth(NamedTuple):
    """What time did to k directions, block by block."""

    log_growth: chex.Array  # [M, k], of each direction across those before it
    condition: chex.Array  # [M, k], the worst: the error of a growth, in units of rounding
    every: chex.Array  # int32 [M], steps between eliminations
    basis: chex.Array  # [N, k], where the directions are at the end
    finite: chex.Array  # bool [], whether the state was, all along


class _Carried(NamedTuple):
    """What goes on from one block to the next."""

    state: Any
    basis: chex.Array  # [N, k], orthonormal
    every: chex.Array  # int32 []
    gone: chex.Array  # bool [k], directions that the Jacobians of the last block erased


def first_basis(size: int, count: int, dtype: jnp.dtype) -> chex.Array:
    """Orthonormal directions `[N, k]` that no structure of a network singles out.

    Drawn one after the other, so that the first ones are the same whatever k is.
    """
    return orthonormal(jax.random.normal(keys.own(keys.BASIS), (count, size)).astype(dtype).T)[0]


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
    carried = _Carried(state, basis, jnp.int32(every or 1), jnp.zeros(count, bool))
    carried, found = jax.lax.scan(body, carried, (jax.tree.map(fold, xs), live))
    seen, used = jax.tree.map(lambda leaf: leaf[before:], found[:2])
    gone = mostly(jnp.sum(seen.lost, 0), jnp.sum(seen.growths))
    log_growth = jnp.where(gone, -jnp.inf, seen.log_growth)
    return Growth(log_growth, seen.condition, used, carried.basis, jnp.all(found[2]))


def _block(
    step: StepFn, params: Any, carried: _Carried, xs: Any, live: chex.Array, *, fixed: bool
) -> tuple[_Carried, tuple[Seen, chex.Array, chex.Array]]:
    """One block: along its trajectory, push or split at each step, and orthonormalise."""
    state, basis, every, gone = carried

    def walk(state: Any, now: Any) -> tuple[Any, Any]:
        x, alive = now
        after = step(params, state, x)[0]
        return jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, state), state

    state, befores = jax.lax.scan(walk, state, (xs, live))
    parts, make_map = linear_maps(step, params, befores, xs)

    def attempt(every: chex.Array) -> Seen:
        return _followed(make_map, parts, basis, live, every)

    if fixed:
        seen, used = attempt(every), every
    else:
        seen, used = _attempted(attempt, every, gone)
        every = next_interval(used, seen, jnp.sum(live))
    finite = [jnp.all(jnp.isfinite(flatten(s))) for s in (befores, state)]
    result = seen, jnp.minimum(used, len(live)), finite[0] & finite[1]
    return _Carried(state, seen.basis, every, erased(seen)), result


def _attempted(
    attempt: Callable[[chex.Array], Seen], every: chex.Array, gone: chex.Array
) -> tuple[Seen, chex.Array]:
    """The block at this interval, or at a shorter one if that is less accurate than tolerated."""
    # Derivatives go through the block again, so that they keep no more than one block's steps.
    attempt = jax.checkpoint(attempt, prevent_cse=False)

    def body(before: tuple[Seen, chex.Array], every: chex.Array) -> tuple[Any, None]:
        seen, used = before

        def again() -> tuple[Seen, chex.Array]:
            return attempt(every), every

        wanted = (used == 0) | ((used > every) & intolerable(seen, gone))
        return jax.lax.cond(wanted, again, lambda: before), None

    # A loop over them, rather than one after the other, so that the block is compiled once.
    shapes = jax.eval_shape(attempt, every)
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    tries = jnp.stack([every, jnp.maximum(every // 2, 1), jnp.ones_like(every)])
    found: tuple[Seen, chex.Array] = jax.lax.scan(body, (nothing, jnp.int32(0)), tries)[0]
    return found


def _followed(
    make_map: Callable[[Any], Any],
    parts: Any,
    basis: chex.Array,
    live: chex.Array,
    every: chex.Array,
) -> Seen:
    """All steps of a block, with an elimination at the end of each interval."""
    turn = jnp.arange(1, live.shape[0] + 1) % every == 0
    action = jnp.where(live, jnp.where(turn, _SPLIT, _PUSH), _IDLE)

    def body(carried: tuple[chex.Array, chex.Array], now: Any) -> tuple[Any, Any]:
        part, action = now
        derivative = make_map(part)
        branches = [partial(branch, derivative) for branch in (_pushed, _split, _idle)]
        after, seen = jax.lax.switch(action, branches, *carried)
        return after, (*seen, jnp.where(action == _IDLE, 0, carried[1]))

    (basis, last), found = jax.lax.scan(body, (basis, jnp.int32(0)), (parts, action))
    diagonals, conditions, lost, exponents = found
    rest = eliminated(basis)  # what was only pushed since the last split
    basis, triangle = orthonormal(rest.basis)
    log_growth = jnp.sum(_log(diagonals), 0) + _log(_grown(rest))
    log_growth = log_growth + _log(jnp.diagonal(triangle))
    log_growth = log_growth + jnp.sum(exponents).astype(basis.dtype) * math.log(2)
    sizes = jnp.cumsum(jnp.append(exponents, last)).astype(basis.dtype)
    condition = jnp.maximum(jnp.max(conditions, 0), rest.condition)
    condition *= detour(sizes[:-1], sizes[1:] + _size(diagonals), every)
    return Seen(
        basis,
        log_growth,
        jax.lax.stop_gradient(condition),
        jnp.sum(lost, 0, dtype=jnp.int32) + (rest.hidden > 0),
        -(-jnp.sum(live, dtype=jnp.int32) // every),
    )


def _size(diagonals: chex.Array) -> chex.Array:
    """The binary log of the largest pivot of each step; 0 where there was none."""
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(diagonals)), 1)
    return jnp.log2(jnp.where(largest == 0, 1, largest))


def _pushed(derivative: Any, basis: chex.Array, exponent: chex.Array) -> tuple[Any, Any]:
    # What is scaled is the columns before the product, where it costs no pass of its own.
    basis = derivative.push(basis * power_of_two(-exponent, basis.dtype))
    ones = jnp.ones(basis.shape[1], basis.dtype)
    return (basis, _scale(basis)), (ones, 0 * ones, ones < 0)


def _split(derivative: Any, basis: chex.Array, exponent: chex.Array) -> tuple[Any, Any]:
    found = eliminated(derivative.push(basis * power_of_two(-exponent, basis.dtype)))
    return (found.basis, jnp.int32(0)), (_grown(found), found.condition, found.hidden > 0)


def _grown(found: Eliminated) -> chex.Array:
    """How each direction grew. What is only rounding counts as the most that it may hide."""
    return jnp.diagonal(found.upper) + found.hidden


def _idle(derivative: Any, basis: chex.Array, exponent: chex.Array) -> tuple[Any, Any]:
    ones = jnp.ones(basis.shape[1], basis.dtype)
    return (basis, exponent), (ones, 0 * ones, ones < 0)


def _scale(basis: chex.Array) -> chex.Array:
    """The exponent of the largest entry: by columns first, which a CPU does in wide operations."""
    return scale_of(jnp.max(jnp.abs(jax.lax.stop_gradient(basis)), 0), (0,))


def _log(diagonal: chex.Array) -> chex.Array:
    """The logs of absolute values: -inf at zero, with a derivative of zero there."""
    diagonal = jnp.abs(diagonal)
    zero = diagonal == 0
    return jnp.where(zero, -jnp.inf, jnp.log(jnp.where(zero, 1.0, diagonal)))
