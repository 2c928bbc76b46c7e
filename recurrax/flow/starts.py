"""The directions in which a derivative is looked at: all of them, or a few that tell most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.logscale import power_of_two, scale_of
from recurrax.flow.triangular import orthonormal

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex
    import numpy as np

_APART = 16  # targets between two factorisations that keep the directions apart


class Directions(NamedTuple):
    """Where the products of K sources begin: orthonormal directions for each."""

    v: chex.Array  # [N, k, K]
    leading: int  # how many of them are stretched most by later steps; they come first
    drawn: int  # how many are random; none if they are all there are
    weight: float  # what the square of a random one counts


def everything(size: int, wrt: np.ndarray, count: int, dtype: Any) -> Directions:
    """All directions of the chosen leaves."""
    eye = jnp.eye(size, dtype=dtype)[:, wrt]
    return Directions(jnp.broadcast_to(eye[:, :, None], (*eye.shape, count)), len(wrt), 0, 0.0)


def sampled(
    make_map: Callable[[Any], Any],
    parts: Any,
    size: int,
    wrt: np.ndarray,
    probes: int,
    key: chex.PRNGKey,
    dtype: Any,
) -> Directions:
    """For each source, directions that later steps stretch most, and random ones across them.

    The square of a Frobenius norm is that of the first, taken exactly, and that of all the rest,
    for which the random ones stand. `parts` lead with `[K, m]`, as in `pairs.log_norms`.
    """
    leading = probes // 2
    drawn = probes - leading
    count = jax.tree.leaves(parts)[0].shape[0]
    first, second, third = jax.random.split(key, 3)
    noise = jax.random.normal(second, (len(wrt), drawn, 1)).astype(dtype)
    noise = jnp.broadcast_to(noise, (len(wrt), drawn, count))
    if leading:
        start = jax.random.normal(first, (size, leading)).astype(dtype)
        noise = jnp.concatenate([_stretched(make_map, parts, start)[wrt], noise], 1)
    spare = jax.random.normal(third, (len(wrt), probes)).astype(dtype)
    v = jnp.zeros((size, probes, count), dtype).at[wrt].set(gram_schmidt(noise, spare))
    weight = (len(wrt) - leading) / drawn
    return Directions(jax.lax.stop_gradient(v), leading, drawn, weight)


def _stretched(make_map: Callable[[Any], Any], parts: Any, start: chex.Array) -> chex.Array:
    """Directions `[N, l, K]` that the steps after each source stretch most, by one pass back."""

    def back(u: chex.Array, part: Any) -> tuple[chex.Array, None]:
        u = make_map(part).pull(u)
        return u * power_of_two(-scale_of(u, (0,)), u.dtype), None

    def body(u: chex.Array, now: Any) -> tuple[chex.Array, chex.Array]:
        index, part = now
        u = jax.lax.cond(index % _APART == 0, lambda u: orthonormal(u)[0], lambda u: u, u)
        u, _ = jax.lax.scan(back, u, part, reverse=True)
        return u, u

    count = jax.tree.leaves(parts)[0].shape[0]
    after = jnp.arange(count)[::-1]  # the first to be pulled are factored first
    _, found = jax.lax.scan(body, start, (after, parts), reverse=True)
    return jnp.moveaxis(found, 0, -1)


def gram_schmidt(v: chex.Array, spare: chex.Array) -> chex.Array:
    """Orthonormal columns `[n, k, K]` for each of K, that span what the columns of v span.

    For all K at once, where a factorisation would go one by one. A column of which nothing is left
    across those before it, as where an event has erased it, is replaced by a spare one `[n, k]`.
    """

    def body(i: chex.Array, basis: chex.Array) -> chex.Array:
        before = jnp.where(jnp.arange(basis.shape[1])[:, None] < i, 1, 0).astype(v.dtype)

        def across(column: chex.Array) -> chex.Array:
            for _ in range(2):  # twice is enough (Kahan, Parlett)
                column = column * power_of_two(-scale_of(column, (0,)), v.dtype)
                inside = before * jnp.sum(basis * column[:, None], 0)
                column = column - jnp.sum(basis * inside, 1)
            return column * power_of_two(-scale_of(column, (0,)), v.dtype)

        column, other = across(basis[:, i]), across(jnp.broadcast_to(spare[:, i, None], edge))
        column = jnp.where(jnp.all(column == 0, 0), other, column)
        norm = jnp.sqrt(jnp.sum(column * column, 0))
        return basis.at[:, i].set(column / jnp.where(norm == 0, 1, norm))

    edge = (v.shape[0], v.shape[2])
    return jax.lax.fori_loop(0, v.shape[1], body, v)
