"""Products of Jacobians from many sources to many targets at once.

From each of K source times the same k directions set out. Sources are taken in tiles, whose
directions are the rows of one matrix, small enough to stay in the cache and large enough for one
wide product a step to move all of them. Each direction has an exponent of its own. Targets are
taken in blocks as long as a tile: a pair of tile and block above the diagonal is left out, and on
the diagonal a source that lies ahead waits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.numbers.largest import first_guess, gram_size, largest_singular_value
from recurrax.flow.numbers.scaled import Scaled, frobenius, log_of, rescale, root, share
from recurrax.flow.pairs.row_products import push_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.pairs.directions import Directions

_ROWS = 256  # of a tile: a CPU multiplies as many at full speed
_TURNS = 2  # of power iteration, from the last top singular vector


class _Carried(NamedTuple):
    """What goes on from one target to the next, for the W sources of a tile."""

    v: chex.Array  # [W, k, N], the largest entry of each direction in [1/2, 1)
    exponents: chex.Array  # int32 [W, k, 1]
    guess: chex.Array  # the last top singular vectors, [W, n]


def log_norms(
    make_map: Callable[[Any], Any],
    parts: Any,
    starts: Directions,
    every: int,
    of: np.ndarray,
    wrt: np.ndarray,
) -> tuple[chex.Array, chex.Array]:
    """Log spectral and log Frobenius norm, `[K, K]`: rows are targets, columns sources.

    `parts` lead with `[K, m]`: the m = every steps up to each target.
    """
    count, width, _ = starts.v.shape
    size = -(-count // -(-count * width // _ROWS)) if width < _ROWS else 1
    tiles = -(-count // size)
    parts, v = jax.tree.map(lambda leaf: _tiled(leaf, tiles, size), (parts, starts.v))
    pairs = np.array([(i, j) for i in range(tiles) for j in range(i, tiles)])

    def body(carried: _Carried, pair: chex.Array) -> tuple[_Carried, Any]:
        tile, block = pair
        begins, now = tile == block, jnp.arange(size)
        new = _setting_out(v[tile], starts, of)
        carried = jax.tree.map(lambda a, b: jnp.where(begins, a, b), new, carried)

        def step(carried: _Carried, target: Any) -> tuple[_Carried, Any]:
            index, part = target
            carried = _pushed(make_map, carried, part, every, begins & (now > index))
            return _measured(carried, starts, of)

        return jax.lax.scan(step, carried, (now, jax.tree.map(lambda leaf: leaf[block], parts)))

    _, found = jax.lax.scan(body, _setting_out(v[0], starts, of), pairs)
    logs = (_assembled(kind, pairs, tiles)[:count, :count] for kind in found)
    same = len(np.intersect1d(of, wrt))  # of the identity, what the chosen leaves see
    identity = (0.0, 0.5 * math.log(same)) if same else (-math.inf, -math.inf)
    log_norm, log_frobenius = (_causal(a, i) for a, i in zip(logs, identity, strict=True))
    return log_norm, log_frobenius


def _tiled(leaf: chex.Array, tiles: int, size: int) -> chex.Array:
    """`[K, ...]` as `[tiles, size, ...]`, the last entry repeated where some are missing."""
    if len(leaf) < tiles * size:
        leaf = leaf[np.minimum(np.arange(tiles * size), len(leaf) - 1)]
    return leaf.reshape(tiles, size, *leaf.shape[1:])


def _assembled(found: chex.Array, pairs: np.ndarray, tiles: int) -> chex.Array:
    """One square from the squares `[size, size]` of the pairs."""
    size = found.shape[-1]
    whole = jnp.zeros((tiles, size, tiles, size), found.dtype)
    whole = whole.at[pairs[:, 1], :, pairs[:, 0]].set(found)
    return whole.reshape(tiles * size, tiles * size)


def _setting_out(v: chex.Array, starts: Directions, of: np.ndarray) -> _Carried:
    sources, width, _ = v.shape
    length = width if starts.drawn else gram_size(len(of), width)
    guess = jnp.broadcast_to(first_guess(length, v.dtype), (sources, length))
    return _Carried(v, jnp.zeros((sources, width, 1), jnp.int32), guess)


def _pushed(
    make_map: Callable[[Any], Any], carried: _Carried, parts: Any, every: int, waiting: chex.Array
) -> _Carried:
    """All directions through the steps up to the next target, but those of waiting sources."""

    def body(now: Any, part: Any) -> tuple[Any, None]:
        v, exponents = now
        moved = push_rows(make_map(part), v.reshape(-1, v.shape[-1])).reshape(v.shape)
        moved = rescale(moved, exponents)
        stay = waiting[:, None, None]
        return jax.tree.map(lambda a, b: jnp.where(stay, a, b), (v, exponents), tuple(moved)), None

    (v, exponents), _ = jax.lax.scan(body, carried[:2], parts, every)
    return _Carried(v, exponents, carried.guess)


def _measured(
    carried: _Carried, starts: Directions, of: np.ndarray
) -> tuple[_Carried, tuple[chex.Array, chex.Array]]:
    found = Scaled(carried.v, carried.exponents)
    if len(of) < carried.v.shape[-1]:  # what is asked for may be much smaller than the rest
        found = rescale(carried.v[..., of], carried.exponents)
    part, exponent = share(found, 1)
    exponent = exponent[:, 0, 0]
    if not starts.drawn:
        norm, guess = jax.vmap(largest_singular_value)(part.swapaxes(1, 2), carried.guess)
        total = jax.vmap(frobenius)(part)
    else:
        gram = jnp.einsum("skn,sln->skl", part, part, precision="highest")
        squares = jnp.diagonal(gram, axis1=1, axis2=2)
        exactly, by_chance = squares[:, : starts.leading], squares[:, starts.leading :]
        total = root(jnp.sum(exactly, 1) + starts.weight * jnp.sum(by_chance, 1))
        norm, guess = _largest_seen(gram, carried.guess)
    logs = log_of(norm, exponent), log_of(total, exponent)
    return carried._replace(guess=guess), logs


def _largest_seen(gram: chex.Array, guess: chex.Array) -> tuple[chex.Array, chex.Array]:
    """A lower bound of each source's norm, by power iteration from the last vector.

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


def _causal(log: chex.Array, identity: float) -> chex.Array:
    """The entries where s = t and s > t, of which nothing was carried."""
    ahead = np.arange(len(log))[None] - np.arange(1, len(log) + 1)[:, None]  # s - t
    return jnp.where(ahead > 0, -jnp.inf, jnp.where(ahead == 0, identity, log))
