"""Products of Jacobians from many sources to many targets at once.

From each of K source times the same k directions set out. One scan over time carries those of all
sources side by side, `[N, k, K]`: one wide product a step moves all of them, and each source has an
exponent of its own. A source that lies ahead waits.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.logscale import frobenius, log_of, power_of_two, rescale, scale_of
from recurrax.flow.spectral import first_guess, gram_size, largest_singular_value

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.starts import Directions

_BLOCKS = 4  # of targets; sources that lie beyond a block are not carried through it
_LONG = 32  # fewer targets than this are one block


class _Carried(NamedTuple):
    """What goes on from one target to the next, for the sources up to the end of the block."""

    v: chex.Array  # [N, k, K'], the largest entry of each source in [1/2, 1)
    exponent: chex.Array  # int32 [K']
    guess: chex.Array  # the last top singular vectors, [n, K']


def log_norms(
    make_map: Callable[[Any], Any], parts: Any, starts: Directions, of: np.ndarray, wrt: np.ndarray
) -> tuple[chex.Array, chex.Array]:
    """Log spectral and log Frobenius norm, `[K, K]`: rows are targets, columns sources.

    `parts` lead with `[K, m]`: the m steps up to each target.
    """
    count = starts.v.shape[-1]
    blocks = _BLOCKS if count >= _LONG else 1
    bounds = [count * block // blocks for block in range(blocks + 1)]
    carried, rows = _setting_out(starts, of, 0, 0), []
    for start, stop in itertools.pairwise(bounds):
        both = zip(carried, _setting_out(starts, of, start, stop), strict=True)
        carried = _Carried(*(jnp.concatenate(pair, -1) for pair in both))
        here = jax.tree.map(lambda leaf, a=start, b=stop: leaf[a:b], parts)

        def body(carried: _Carried, now: Any, live: int = stop) -> tuple[_Carried, Any]:
            target, part = now
            carried = _pushed(make_map, carried, part, jnp.arange(live) > target)
            return _measured(carried, starts, of)

        carried, found = jax.lax.scan(body, carried, (jnp.arange(start, stop), here))
        rows.append([jnp.pad(a, ((0, 0), (0, count - a.shape[1]))) for a in found])
    logs = (jnp.concatenate(kind) for kind in zip(*rows, strict=True))
    same = len(np.intersect1d(of, wrt))  # of the identity, what the chosen leaves see
    identity = (0.0, 0.5 * math.log(same)) if same else (-math.inf, -math.inf)
    log_norm, log_frobenius = (_causal(a, i) for a, i in zip(logs, identity, strict=True))
    return log_norm, log_frobenius


def _setting_out(starts: Directions, of: np.ndarray, first: int, last: int) -> _Carried:
    """The sources from `first` up to, not including, `last`."""
    v, new = starts.v[..., first:last], last - first
    length = v.shape[1] if starts.drawn else gram_size(len(of), v.shape[1])
    guess = jnp.broadcast_to(first_guess(length, v.dtype)[:, None], (length, new))
    return _Carried(v, jnp.zeros(new, jnp.int32), guess)


def _pushed(
    make_map: Callable[[Any], Any], carried: _Carried, parts: Any, waiting: chex.Array
) -> _Carried:
    """All directions through the steps up to the next target, but those of waiting sources."""

    def body(now: Any, part: Any) -> tuple[Any, None]:
        v, exponent = now
        moved = make_map(part).push(v.reshape(len(v), -1)).reshape(v.shape)
        shift = scale_of(moved, (0, 1))
        v = jnp.where(waiting, v, moved * power_of_two(-shift, v.dtype))
        return (v, exponent + jnp.where(waiting, 0, shift)), None

    (v, exponent), _ = jax.lax.scan(body, carried[:2], parts)
    return _Carried(v, exponent, carried.guess)


def _measured(
    carried: _Carried, starts: Directions, of: np.ndarray
) -> tuple[_Carried, tuple[chex.Array, chex.Array]]:
    part, exponent = carried.v, carried.exponent
    if len(of) < len(part):  # what is asked for may be much smaller than the rest
        part, extra = jax.vmap(rescale, 2, (2, 0))(part[of])
        exponent = exponent + extra
    if not starts.drawn:
        norm, guess = jax.vmap(largest_singular_value, (2, 1), (0, 1))(part, carried.guess)
        total = jax.vmap(frobenius, 2)(part)
    else:
        exactly, by_chance = part[:, : starts.leading], part[:, starts.leading :]
        square = jnp.sum(exactly * exactly, (0, 1))
        square = square + starts.weight * jnp.sum(by_chance * by_chance, (0, 1))
        total = _root(square)
        norm, guess = _largest_seen(part, carried.guess)
    logs = log_of(norm, exponent), log_of(total, exponent)
    return carried._replace(guess=guess), logs


def _largest_seen(part: chex.Array, guess: chex.Array) -> tuple[chex.Array, chex.Array]:
    """A lower bound of each source's norm, by one step of power iteration from the last vector.

    The top singular vector barely moves from one target to the next, so the steps add up.
    """
    columns = range(part.shape[1])
    # A little of everything, so that what is left after an event is found.
    fresh = first_guess(len(guess), guess.dtype)[:, None]
    guess = _unit(jax.lax.stop_gradient(guess) + 0.1 * fresh, fresh)
    # Written out: a sum over the axis in the middle would go one entry at a time.
    image = sum(part[:, i] * guess[i] for i in columns)
    image = image * power_of_two(-scale_of(image, (0,)), image.dtype)
    guess = _unit(jnp.stack([jnp.sum(part[:, i] * image, 0) for i in columns]), fresh)
    guess = jax.lax.stop_gradient(guess)
    image = sum(part[:, i] * guess[i] for i in columns)
    return _root(jnp.sum(image * image, 0)), guess


def _unit(vectors: chex.Array, instead: chex.Array) -> chex.Array:
    """Columns of length 1; another in the place of one that is zero."""
    vectors = vectors * power_of_two(-scale_of(vectors, (0,)), vectors.dtype)
    length = _root(jnp.sum(vectors * vectors, 0))
    return jnp.where(length == 0, instead, vectors / jnp.where(length == 0, 1, length))


def _root(square: chex.Array) -> chex.Array:
    """The square root, with a derivative of zero at zero."""
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def _causal(log: chex.Array, identity: float) -> chex.Array:
    """The entries where s = t and s > t, of which nothing was carried."""
    ahead = np.arange(len(log))[None] - np.arange(1, len(log) + 1)[:, None]  # s - t
    return jnp.where(ahead > 0, -jnp.inf, jnp.where(ahead == 0, identity, log))
