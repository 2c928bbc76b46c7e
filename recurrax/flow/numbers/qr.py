"""The QR factorisation in panels of columns, each narrow enough for one thread of LAPACK.

For a matrix of more than a hundred columns LAPACK takes all threads, and they spin while they wait
for each other: on a busy CPU that costs a hundred times the work. So LAPACK factors panels, and
what a panel does to the columns after it is two matrix products. Householder's reflections give
columns at right angles whatever the rank of the matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.one_at_a_time import one_at_a_time

if TYPE_CHECKING:
    import chex

_WHOLE = 64  # up to this many rows LAPACK takes one thread
_PANEL = 32  # columns
_ENTRIES = 8192  # of a panel, likewise


@one_at_a_time
def qr(a: chex.Array) -> tuple[chex.Array, chex.Array]:
    """`a = q @ r` for a square matrix: q orthogonal, r upper triangular. Without derivatives."""
    if a.shape[0] <= _WHOLE:
        q, r = jnp.linalg.qr(a)
        return q, r
    with jax.default_matmul_precision("highest"):
        return _in_panels(a)


def _in_panels(a: chex.Array) -> tuple[chex.Array, chex.Array]:
    size = a.shape[0]
    width = max(8, min(_PANEL, _ENTRIES // size))
    starts = range(0, size, width)
    reflections, r = [], a
    for start in starts:
        stop = min(start + width, size)
        v, t, top = _factor(r[start:, start:stop])
        rest = r[start:, stop:]
        rest = rest - v @ (t.T @ (v.T @ rest))
        below = jnp.zeros((size - stop, stop - start), a.dtype)
        done = jnp.concatenate([jnp.concatenate([top, below]), rest], axis=1)
        r = r.at[start:, start:].set(done)
        reflections.append((v, t))
    q = jnp.eye(size, dtype=a.dtype)
    for start, (v, t) in zip(reversed(starts), reversed(reflections), strict=True):
        corner = q[start:, start:]
        q = q.at[start:, start:].set(corner - v @ (t @ (v.T @ corner)))
    return q, r


def _factor(panel: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    """V, T and R of a tall panel, the product of its reflections being `I - V T V^T`."""
    factors, tau = jnp.linalg.qr(panel, mode="raw")
    factors = factors.T
    width = panel.shape[1]
    v = jnp.tril(factors, -1) + jnp.eye(panel.shape[0], width, dtype=panel.dtype)
    v = jnp.where(tau == 0, 0.0, v)  # where there was nothing to reflect
    # T^-1 + T^-T = V^T V, and the diagonal of T^-1 is half of that: 1 / tau.
    inverse = jnp.triu(v.T @ v, 1) + jnp.diag(1 / jnp.where(tau == 0, 1.0, tau))
    eye = jnp.eye(width, dtype=panel.dtype)
    t = jax.lax.linalg.triangular_solve(inverse, eye, left_side=True, lower=False)
    return v, t, jnp.triu(factors[:width])
