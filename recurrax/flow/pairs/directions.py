"""The directions in which a derivative is looked at: all of them, or a few that tell most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.scaled import power_of_two, scale_of
from recurrax.flow.numbers.triangular import orthonormal

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex
    import numpy as np

_APART = 16  # targets between two factorisations that keep the directions apart


class Directions(NamedTuple):
    """Where the products of K sources begin: orthonormal directions for each."""

    v: chex.Array  # [K, k, N]
    leading: int  # how many of them are stretched most by later steps; they come first
    drawn: int  # how many are random; none if they are all there are
    weight: float  # what the square of a random one counts


def everything(size: int, wrt: np.ndarray, count: int, dtype: Any) -> Directions:
    """All directions of the chosen leaves."""
    eye = jnp.eye(size, dtype=dtype)[wrt]
    return Directions(jnp.broadcast_to(eye, (count, *eye.shape)), len(wrt), 0, 0.0)


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
    """For each source, directions that later steps stretch most, and random ones across them.

    The square of a Frobenius norm is that of the first, taken exactly, and that of all the rest,
    for which the random ones stand. `parts` lead with the shape `[K, m]`, as in `pairs.log_norms`.
    """
    leading = probes // 2
    drawn = probes - leading
    first, second, third = jax.random.split(key, 3)
    noise = jax.random.normal(second, (drawn, len(wrt))).astype(dtype)
    noise = jnp.broadcast_to(noise, (shape[0], *noise.shape))
    if leading:
        start = jax.random.normal(first, (size, leading)).astype(dtype)
        found = _stretched(make_map, parts, start, shape)
        noise = jnp.concatenate([found.swapaxes(1, 2)[..., wrt], noise], 1)
    spare = jax.random.normal(third, (probes, len(wrt))).astype(dtype)
    v = gram_schmidt(noise, spare)
    if len(wrt) < size:
        v = jnp.zeros((*v.shape[:2], size), dtype).at[..., wrt].set(v)
    weight = (len(wrt) - leading) / drawn
    return Directions(jax.lax.stop_gradient(v), leading, drawn, weight)


def _stretched(
    make_map: Callable[[Any], Any], parts: Any, start: chex.Array, shape: tuple[int, int]
) -> chex.Array:
    """Directions `[K, N, l]` that the steps after each source stretch most, by one pass back."""

    def back(u: chex.Array, part: Any) -> tuple[chex.Array, None]:
        u = make_map(part).pull(u)
        return u * power_of_two(-scale_of(u, (0,)), u.dtype), None

    def body(u: chex.Array, now: Any) -> tuple[chex.Array, chex.Array]:
        index, part = now
        u = jax.lax.cond(index % _APART == 0, lambda u: orthonormal(u)[0], lambda u: u, u)
        u, _ = jax.lax.scan(back, u, part, shape[1], reverse=True)
        return u, u

    after = jnp.arange(shape[0])[::-1]  # the first to be pulled are factored first
    _, found = jax.lax.scan(body, start, (after, parts), reverse=True)
    return found


def gram_schmidt(v: chex.Array, spare: chex.Array) -> chex.Array:
    """Orthonormal rows `[K, k, n]` for each of K, that span what the rows of v span.

    For all K at once, where a factorisation would go one by one. A row of which nothing is left
    across those before it, as where an event has erased it, is replaced by a spare one `[k, n]`.
    """

    def body(i: chex.Array, basis: chex.Array) -> chex.Array:
        before = (jnp.arange(basis.shape[1]) < i).astype(v.dtype)

        def across(row: chex.Array) -> chex.Array:
            for _ in range(2):  # twice is enough (Kahan, Parlett)
                row = row * power_of_two(-scale_of(row, (1,)), v.dtype)[:, None]
                inside = before * _product("skn,sn->sk", basis, row)
                row = row - _product("skn,sk->sn", basis, inside)
            return row * power_of_two(-scale_of(row, (1,)), v.dtype)[:, None]

        row = across(basis[:, i])
        gone = jnp.all(row == 0, 1, keepdims=True)
        other = jnp.broadcast_to(spare[i], row.shape)
        row = jax.lax.cond(jnp.any(gone), lambda: jnp.where(gone, across(other), row), lambda: row)
        norm = jnp.sqrt(jnp.sum(row * row, 1, keepdims=True))
        return basis.at[:, i].set(row / jnp.where(norm == 0, 1, norm))

    return jax.lax.fori_loop(0, v.shape[1], body, v)


def _product(how: str, a: chex.Array, b: chex.Array) -> chex.Array:
    return jnp.einsum(how, a, b, precision="highest")
