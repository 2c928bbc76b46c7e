"""How fast the volumes spanned by tangent directions grow along a trajectory.

Directions `V [N, k]` are pushed through the Jacobians and, now and then, split as
`V = basis @ upper`. The diagonal of the product of these triangles, in logs, is the growth of each
direction across those before it: divided by time, the Lyapunov exponents. Which basis is carried
does not change it, so it comes from pivoted elimination (Bauer's staircase iteration), and from
Householder's QR at the end of a block of time.

The more the exponents differ, the sooner a weak direction drowns in the rounding of a strong one.
So the steps between two eliminations are planned for each block from the errors of the last one;
where these are above the root of eps it is gone through again with half as many, then with one.

The steps that are left out come first, and a block begins after them: so slots before the first
step stay idle, as those after the last one do. Under a mask each row has as many steps as count in
it, in blocks of its own length, as if it were measured alone; other slots are idle, and all rows
have room for as many blocks as any row could need.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import keys
from recurrax.flow.numbers.factors import Eliminated, eliminated, orthonormal
from recurrax.flow.numbers.scaled import log_of, power_of_two, scale_of
from recurrax.flow.steps.jacobian import linear_maps
from recurrax.flow.steps.problem import Problem, flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

_BLOCKS = 64  # at least so many where T allows, so that their spread gives an error bar
_WIDEST = 64  # steps between eliminations, at most: beyond it there is nothing left to save
_PUSH, _SPLIT, _IDLE = 0, 1, 2


class _Seen(NamedTuple):
    """What one block did to the directions."""

    basis: Any  # [N, k], orthonormal; None where it is carried on
    log_growth: chex.Array  # [k]
    condition: chex.Array  # [k], the worst: the error of a growth, in units of rounding
    lost: chex.Array  # int32 [k], growths that are nothing but rounding
    growths: chex.Array  # int32 [], how many there were


class Slots(NamedTuple):
    """The slots of all blocks, of one example."""

    places: Any  # int [blocks, S], the place in xs of each slot's step; any other place if idle
    live: Any  # bool [blocks, S]; False: idle
    before: int  # blocks of steps that are left out
    size: Any  # of one block: S, or fewer under a mask


def block_length(length: Any, every: int | None) -> Any:
    """Steps in one block, of a number or of numbers: no end of one cuts a chosen interval short."""
    of: Any = np if isinstance(length, np.ndarray) else jnp
    size = of.maximum(1, length // _BLOCKS)
    return size if every is None else of.minimum(length, -(-size // every) * every)


def left_out(given: int | None, steps: Any, part: int) -> Any:
    """How many steps to leave out of a number or of numbers: one of so many parts by default."""
    return steps // part if given is None else given


def counted_steps(problem: Problem) -> Any:
    """How many steps count in each row, int32 `[*batch]`; T where there is no mask."""
    mask = problem.flags.mask
    return problem.length if mask is None else jnp.sum(mask, 0, dtype=jnp.int32)


def in_order(problem: Problem) -> chex.Array | None:
    """The places of the steps that count, in their order, and then of the others, `[T, *batch]`."""
    mask = problem.flags.mask
    return None if mask is None else jnp.argsort(~mask, axis=0, stable=True)


def slots(problem: Problem, burn_in: int | None, every: int | None) -> Slots:
    """Where the steps of one example stand, of which some are left out before the first block."""
    length, order = problem.length, in_order(problem)
    possible = np.asarray([length]) if order is None else np.arange(1, length + 1)
    burns = np.broadcast_to(left_out(burn_in, possible, 10), possible.shape)
    measured = np.maximum(possible - burns, 1)
    sizes = block_length(measured, every)
    before = int(np.max(-(-burns // sizes)))
    after, widest = int(np.max(-(-measured // sizes))), int(np.max(sizes))
    block = np.arange(-before, after)[:, None]
    slot = np.arange(widest)
    if order is None:
        places = int(burns[0]) + block * widest + slot
        live = (places >= 0) & (places < length)
        return Slots(np.clip(places, 0, length - 1), live, before, widest)
    count = counted_steps(problem)
    burn = left_out(burn_in, count, 10)
    size = block_length(jnp.maximum(count - burn, 1), every)
    places = burn + block * size + slot
    live = (slot < size) & (places >= 0) & (places < count)
    return Slots(order[jnp.clip(places, 0, jnp.maximum(count - 1, 0))], live, before, size)


def first_basis(size: int, count: int, dtype: jnp.dtype) -> chex.Array:
    """Orthonormal directions `[N, k]` that no structure of a network singles out.

    Drawn one after the other, so that the first ones are the same whatever k is.
    """
    return orthonormal(jax.random.normal(keys.own(keys.BASIS), (count, size)).astype(dtype).T)[0]


def grow(
    problem: Problem, count: int, burn_in: int | None, every: int | None
) -> tuple[chex.Array, chex.Array, chex.Array, chex.Array]:
    """Push `count` directions through the steps that count, in blocks, which idle slots fill up.

    Returns:
      Of each block after the burn-in the log growth of each direction and the worst error of it, in
      units of rounding, `[M, k]`, and the steps between eliminations, int32 `[M]`: all 0 where no
      step of the block counts. Of all blocks, whether the state was finite.
    """
    places, filled, before, size = slots(problem, burn_in, every)

    def block(carried: Any, now: Any) -> tuple[Any, Any]:
        """Along the trajectory of one block, push or split at each step, and orthonormalise."""
        state, basis, interval, gone = carried
        xs, live = now

        def walk(state: Any, now: Any) -> tuple[Any, Any]:
            x, alive = now
            after = problem.step(problem.params, state, x)[0]
            return jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, state), state

        state, befores = jax.lax.scan(walk, state, (xs, live))
        parts, make_map = linear_maps(problem.step, problem.params, befores, xs)

        attempt = partial(_follow, make_map, parts, basis, live)
        if every is None:
            seen, used = _attempt_until_tolerable(attempt, interval, gone)
            interval = next_interval(used, seen, jnp.sum(live))
        else:
            seen, used = attempt(interval), interval
        finite = jnp.isfinite(flatten(befores)).all() & jnp.isfinite(flatten(state)).all()
        after = state, seen.basis, interval, _erased(seen)
        seen, used = seen._replace(basis=None), jnp.minimum(used, size)
        if problem.flags.mask is not None:  # a block may be idle as a whole: it leaves no rounding
            some = jnp.any(live)
            seen, used = jax.tree.map(lambda leaf: jnp.where(some, leaf, 0), (seen, used))
            after = jax.tree.map(lambda new, old: jnp.where(some, new, old), after, carried)
        return after, (seen, used, finite)

    basis = first_basis(problem.size, count, problem.dtype)
    carried = (problem.state, basis, jnp.int32(every or 1), jnp.zeros(count, bool))
    rows = jax.tree.map(lambda leaf: leaf[places], problem.xs), jnp.asarray(filled)
    _, found = jax.lax.scan(block, carried, rows)
    (seen, used), finite = jax.tree.map(lambda leaf: leaf[before:], found[:2]), found[2]
    # Erased again and again, and not by one nearly singular step.
    gone = 2 * jnp.sum(seen.lost, 0) > jnp.sum(seen.growths)
    if problem.flags.resets is not None:  # nothing of the first state is left
        gone = gone | jnp.any(problem.flags.resets)
    return jnp.where(gone, -jnp.inf, seen.log_growth), seen.condition, used, finite


def _attempt_until_tolerable(
    attempt: Callable[[chex.Array], _Seen], every: chex.Array, gone: chex.Array
) -> tuple[_Seen, chex.Array]:
    """The block at this interval, or at a shorter one where directions not yet gone ask for it."""
    # Derivatives go through the block again, so that they keep no more than one block's steps.
    attempt = jax.checkpoint(attempt, prevent_cse=False)
    shapes = jax.eval_shape(attempt, every)
    eps = float(jnp.finfo(shapes.condition.dtype).eps)

    def body(before: tuple[_Seen, chex.Array], every: chex.Array) -> tuple[Any, None]:
        seen, used = before
        # The relative error that a growth may have where shorter intervals would lessen it.
        wrong = seen.condition * eps > math.sqrt(eps)
        intolerable = jnp.any((wrong | jnp.isneginf(seen.log_growth)) & ~gone)
        wanted = (used == 0) | ((used > every) & intolerable)
        return jax.lax.cond(wanted, lambda: (attempt(every), every), lambda: before), None

    # A loop over them, rather than one after the other, so that the block is compiled once.
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    tries = jnp.stack([every, jnp.maximum(every // 2, 1), jnp.ones_like(every)])
    found: tuple[_Seen, chex.Array] = jax.lax.scan(body, (nothing, jnp.int32(0)), tries)[0]
    return found


def _follow(make_map: Any, parts: Any, basis: chex.Array, live: Any, every: chex.Array) -> _Seen:
    """All steps of a block, with an elimination at the end of each interval."""
    ones = jnp.ones(basis.shape[1], basis.dtype)
    nothing = (ones, 0 * ones, ones < 0)  # the growth of each direction, its condition, and if lost

    def body(carried: tuple[chex.Array, chex.Array], now: Any) -> tuple[Any, Any]:
        part, action = now
        basis, exponent = carried

        def pushed() -> chex.Array:
            # What is scaled is the columns before the product, where it costs no pass of its own.
            after: chex.Array = make_map(part).push(basis * power_of_two(-exponent, basis.dtype))
            return after

        def push() -> tuple[Any, Any]:
            after = pushed()
            # By columns first, which a CPU does in wide operations.
            largest = jnp.max(jnp.abs(jax.lax.stop_gradient(after)), 0)
            return (after, scale_of(largest, (0,))), nothing

        def split() -> tuple[Any, Any]:
            found = eliminated(pushed())
            return (found.basis, jnp.int32(0)), (_grown(found), found.condition, found.hidden > 0)

        def idle() -> tuple[Any, Any]:
            return (basis * power_of_two(-exponent, basis.dtype), jnp.int32(0)), nothing

        after, seen = jax.lax.switch(action, (push, split, idle))
        return after, (*seen, exponent)

    turn = jnp.arange(1, live.shape[0] + 1) % every == 0
    action = jnp.where(live, jnp.where(turn, _SPLIT, _PUSH), _IDLE)
    (basis, last), found = jax.lax.scan(body, (basis, jnp.int32(0)), (parts, action))
    diagonals, conditions, lost, exponents = found
    rest = eliminated(basis)  # what was only pushed since the last split
    basis, triangle = orthonormal(rest.basis)
    log_growth = jnp.sum(_log(diagonals), 0) + _log(_grown(rest)) + _log(jnp.diagonal(triangle))
    log_growth += jnp.sum(exponents).astype(basis.dtype) * math.log(2)
    pivots = jnp.max(jnp.abs(jax.lax.stop_gradient(diagonals)), 1)
    sizes = jnp.cumsum(jnp.append(exponents, last)).astype(basis.dtype)
    after = sizes[1:] + jnp.log2(jnp.where(pivots == 0, 1, pivots))
    condition = jnp.maximum(jnp.max(conditions, 0), rest.condition)
    condition *= detour(sizes[:-1], after, every, live)
    return _Seen(
        basis,
        log_growth,
        jax.lax.stop_gradient(condition),
        jnp.sum(lost, 0, dtype=jnp.int32) + (rest.hidden > 0),
        -(-jnp.sum(live, dtype=jnp.int32) // every),
    )


def _grown(found: Eliminated) -> chex.Array:
    """How each direction grew. What is only rounding counts as the most that it may hide."""
    return jnp.diagonal(found.upper) + found.hidden


def _log(diagonal: chex.Array) -> chex.Array:
    return log_of(jnp.abs(diagonal), jnp.int32(0))


def _erased(seen: _Seen) -> chex.Array:
    """Which directions the Jacobians erase: in exact zeros, or beneath rounding mostly."""
    return jnp.isneginf(seen.log_growth) | (2 * seen.lost > seen.growths)


def detour(
    before: chex.Array, after: chex.Array, every: chex.Array, live: chex.Array
) -> chex.Array:
    """How much larger directions were inside an interval than at its ends, as a factor.

    A direction that is stretched and then shrunk again has rounded away, at its longest, more of
    those beside it than can be seen at the end. It shows as a size above the straight line, in
    logs, from one end to the other; it counts twice, since what grows is mostly paid for by what it
    is compared with. `before` and `after [S]` are binary logs of the size around each step; those
    that are live stand side by side.
    """
    steps = jnp.arange(len(after))
    begin, turn = jnp.argmax(live), steps - steps % every
    first = jnp.maximum(turn, begin)
    last = jnp.minimum(turn + every, begin + jnp.sum(live)) - 1
    line = before[first] + (steps + 1 - first) / (last + 1 - first) * (after[last] - before[first])
    # Sizes are rounded to whole numbers: one says nothing.
    above = jnp.max(jnp.where(live, after - line, 0)) - 1
    return jnp.exp2(2 * jnp.maximum(above, 0))


def next_interval(every: chex.Array, seen: _Seen, steps: chex.Array) -> chex.Array:
    """The widest interval whose worst error is likely to stay tolerable.

    After m steps a direction is hidden m times as deep (in logs) as after one. Where it is not
    hidden, as between the units of a diagonal Jacobian, it still must not underflow.
    """
    dtype = seen.log_growth.dtype
    alive = ~_erased(seen)  # no interval would bring back the others
    largest = jnp.max(jnp.where(alive, seen.log_growth, -jnp.inf))
    smallest = jnp.min(jnp.where(alive, seen.log_growth, jnp.inf))
    spread = (largest - smallest) / jnp.maximum(steps, 1).astype(dtype)
    spread = jnp.maximum(jnp.nan_to_num(spread, posinf=0, neginf=0), 1e-3)
    # An error of eps^0.55 where eps^0.5 is tolerated, so that few blocks are gone through again.
    limit = (0.55 - 1) * math.log(float(jnp.finfo(dtype).eps))
    worst = jnp.max(jnp.where(alive, seen.condition, 1))
    wider = jnp.minimum(every + (limit - jnp.log(worst)) / spread, limit / spread)
    wider = jnp.clip(jnp.minimum(wider, 2.0 * every.astype(dtype)), 1, _WIDEST)
    return jax.lax.stop_gradient(jnp.floor(wider).astype(jnp.int32))
