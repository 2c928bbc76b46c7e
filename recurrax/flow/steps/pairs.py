"""Products of Jacobians from many sources to many targets at once.

From each of K source times the same number k of directions sets out. Sources are taken in tiles,
whose directions are the rows of one matrix, small enough to stay in the cache and large enough for
one wide product a step to move all of them. Each direction has an exponent of its own. Targets are
taken in blocks as long as a tile: a pair of tile and block above the diagonal is left out, and on
the diagonal a source that lies ahead waits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.numbers.factors import orthonormal
from recurrax.flow.numbers.largest import first_guess, largest_singular_value
from recurrax.flow.numbers.scaled import (
    Scaled,
    frobenius,
    log_of,
    power_of_two,
    rescale,
    root,
    scale_of,
    share,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

_ROWS = 256  # of a tile: a CPU multiplies as many at full speed
_TURNS = 2  # of power iteration, from the last top singular vector
_APART = 16  # targets between two factorisations that keep the directions apart


class Directions(NamedTuple):
    """Where the products of K sources begin: orthonormal directions for each, or a few of them."""

    v: chex.Array  # [K, k, N]
    leading: int  # how many are stretched most by later steps; they come first
    weight: float | None  # what the square of each random one after them counts; None without


class _Carried(NamedTuple):
    """What goes on from one target to the next, for the W sources of a tile."""

    v: chex.Array  # [W, k, N], the largest entry of each direction in [1/2, 1)
    exponents: chex.Array  # int32 [W, k, 1]
    guess: chex.Array  # the last top singular vectors, [W, n]


def sampled(
    make_map: Callable[[Any], Any],
    parts: Any,
    size: int,
    wrt: np.ndarray,
    probes: int,
    key: chex.PRNGKey,
    shape: tuple[int, int],
    dtype: Any,
) -> Directions:
    """Return directions that later steps stretch most, and random ones across them.

    The square of a Frobenius norm is that of the first, taken exactly, and that of all the rest,
    for which the random ones stand. `parts` lead with the shape `[K, m]`, as in
    `log_norms`.
    """
    count, every = shape
    leading = probes // 2
    drawn = probes - leading
    first, second, third = jax.random.split(key, 3)
    v = jax.random.normal(second, (drawn, len(wrt))).astype(dtype)
    v = jnp.broadcast_to(v, (count, *v.shape))
    if leading:

        def back(u: chex.Array, part: Any) -> tuple[chex.Array, None]:
            u = make_map(part).pull(u)
            return u * power_of_two(-scale_of(u, (0,)), u.dtype), None

        def to_source(u: chex.Array, now: Any) -> tuple[chex.Array, chex.Array]:
            index, part = now
            u = jax.lax.cond(index % _APART == 0, lambda u: orthonormal(u)[0], lambda u: u, u)
            u, _ = jax.lax.scan(back, u, part, every, reverse=True)
            return u, u

        start = jax.random.normal(first, (size, leading)).astype(dtype)
        after = jnp.arange(count)[::-1]  # the first to be pulled are factored first
        _, found = jax.lax.scan(to_source, start, (after, parts), reverse=True)
        v = jnp.concatenate([found.swapaxes(1, 2)[..., wrt], v], 1)
    spare = jax.random.normal(third, (probes, len(wrt))).astype(dtype)
    v = gram_schmidt(v, spare)
    if len(wrt) < size:
        v = jnp.zeros((*v.shape[:2], size), dtype).at[..., wrt].set(v)
    return Directions(jax.lax.stop_gradient(v), leading, (len(wrt) - leading) / drawn)


def gram_schmidt(v: chex.Array, spare: chex.Array) -> chex.Array:
    """Return orthonormal rows `[K, k, n]` for each of K, that span what the rows of v span.

    For all K at once, where a factorisation would go one by one. A row of which nothing is left
    across those before it, as where an event has erased it, is replaced by a spare one `[k, n]`.
    """

    def scaled(row: chex.Array) -> chex.Array:
        return row * power_of_two(-scale_of(row, (1,)), v.dtype)[:, None]

    def body(i: chex.Array, basis: chex.Array) -> chex.Array:
        before = (jnp.arange(basis.shape[1]) < i).astype(v.dtype)

        def across(row: chex.Array) -> chex.Array:
            for _ in range(2):  # twice is enough (Kahan, Parlett)
                row = scaled(row)
                inside = before * jnp.einsum("skn,sn->sk", basis, row, precision="highest")
                row = row - jnp.einsum("skn,sk->sn", basis, inside, precision="highest")
            return scaled(row)

        row = across(basis[:, i])
        gone = jnp.all(row == 0, 1, keepdims=True)
        other = jnp.broadcast_to(spare[i], row.shape)
        row = jax.lax.cond(jnp.any(gone), lambda: jnp.where(gone, across(other), row), lambda: row)
        norm = jnp.sqrt(jnp.sum(row * row, 1, keepdims=True))
        return basis.at[:, i].set(row / jnp.where(norm == 0, 1, norm))

    return jax.lax.fori_loop(0, v.shape[1], body, v)


def log_norms(
    make_map: Callable[[Any], Any],
    parts: Any,
    starts: Directions,
    every: int,
    of: np.ndarray,
    wrt: np.ndarray,
) -> tuple[chex.Array, chex.Array]:
    """Return log spectral and log Frobenius norms, `[K, K]`: rows are targets, columns sources.

    `parts` lead with `[K, m]`: the m = every steps up to each target.
    """
    count, width, _ = starts.v.shape
    size = -(-count // -(-count * width // _ROWS)) if width < _ROWS else 1
    tiles = -(-count // size)
    places = np.minimum(np.arange(tiles * size), count - 1).reshape(tiles, size)
    parts, v = jax.tree.map(lambda leaf: leaf[places], (parts, starts.v))
    pairs = np.array([(i, j) for i in range(tiles) for j in range(i, tiles)])
    length = min(len(of), width) if starts.weight is None else width
    guess = jnp.broadcast_to(first_guess(length, v.dtype), (size, length))

    def setting_out(v: chex.Array) -> _Carried:
        return _Carried(v, jnp.zeros((size, width, 1), jnp.int32), guess)

    def body(carried: _Carried, pair: chex.Array) -> tuple[_Carried, Any]:
        tile, block = pair
        begins, now = tile == block, jnp.arange(size)
        carried = jax.tree.map(lambda a, b: jnp.where(begins, a, b), setting_out(v[tile]), carried)

        def step(carried: _Carried, target: Any) -> tuple[_Carried, Any]:
            index, part = target
            waits = begins & (now > index)[:, None, None]

            def push(old: Any, part: Any) -> tuple[Any, None]:
                v, exponents = old
                moved = make_map(part).push_rows(v.reshape(-1, v.shape[-1])).reshape(v.shape)
                moved = tuple(rescale(moved, exponents))
                return jax.tree.map(lambda a, b: jnp.where(waits, a, b), old, moved), None

            (v, exponents), _ = jax.lax.scan(push, carried[:2], part, every)
            return _measured(_Carried(v, exponents, carried.guess), starts, of)

        return jax.lax.scan(step, carried, (now, jax.tree.map(lambda leaf: leaf[block], parts)))

    _, found = jax.lax.scan(body, setting_out(v[0]), pairs)
    ahead = np.arange(count)[None] - np.arange(1, count + 1)[:, None]  # s - t
    same = len(np.intersect1d(of, wrt))  # of the identity, what the chosen leaves see

    def whole(squares: chex.Array, identity: float) -> chex.Array:
        """Put the squares `[size, size]` of the pairs together, and in what was not carried."""
        log = jnp.zeros((tiles, size, tiles, size), squares.dtype)
        log = log.at[pairs[:, 1], :, pairs[:, 0]].set(squares)
        log = log.reshape(tiles * size, -1)[:count, :count]
        identity = identity if same else -math.inf
        return jnp.where(ahead > 0, -jnp.inf, jnp.where(ahead == 0, identity, log))

    return whole(found[0], 0.0), whole(found[1], 0.5 * math.log(max(same, 1)))


def _measured(
    carried: _Carried, starts: Directions, of: np.ndarray
) -> tuple[_Carried, tuple[chex.Array, chex.Array]]:
    found = Scaled(carried.v, carried.exponents)
    if len(of) < carried.v.shape[-1]:  # what is asked for may be much smaller than the rest
        found = rescale(carried.v[..., of], carried.exponents)
    part, exponent = share(found, 1)
    if starts.weight is None:
        norm, guess = jax.vmap(largest_singular_value)(part.swapaxes(1, 2), carried.guess)
        total = jax.vmap(frobenius)(part)
    else:
        gram = jnp.einsum("skn,sln->skl", part, part, precision="highest")
        squares = jnp.diagonal(gram, axis1=1, axis2=2)
        exactly, by_chance = squares[:, : starts.leading], squares[:, starts.leading :]
        total = root(jnp.sum(exactly, 1) + starts.weight * jnp.sum(by_chance, 1))
        norm, guess = largest_seen(gram, carried.guess)
    logs = log_of(norm, exponent[:, 0, 0]), log_of(total, exponent[:, 0, 0])
    return carried._replace(guess=guess), logs


def largest_seen(gram: chex.Array, guess: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Return a lower bound of each source's norm, by power iteration from the last vector.

    The top singular vector barely moves from one target to the next, so the turns add up.
    """
    fresh, seen = first_guess(guess.shape[1], guess.dtype), jax.lax.stop_gradient(gram)
    # A little of everything, so that what is left after an event is found.
    guess = guess + 0.1 * fresh
    for _ in range(_TURNS):
        guess = jnp.sum(seen * guess[:, None], 2)
        length = jnp.sqrt(jnp.sum(guess * guess, 1, keepdims=True))
        guess = jnp.where(length == 0, fresh, guess / jnp.where(length == 0, 1, length))
    image = jnp.sum(gram * guess[:, None], 2)
    return root(jnp.maximum(jnp.sum(guess * image, 1), 0)), guess
