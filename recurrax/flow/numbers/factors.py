"""Factors of a matrix into a basis and an upper triangle, one matrix at a time on a CPU.

The columns of `v [N, k]` span nested spaces: a line, a plane, and so on. Any `v = basis @ upper`
with `upper` upper triangular keeps them, and the diagonal of `upper` says by how much each new
direction stands out of those before it. Gaussian elimination with row pivoting gives one such basis
at a quarter of the work of an orthonormal one, and keeps the digits of small rows, which a
saturated unit makes; Householder's QR loses those.

`eliminated`, `orthonormal` and `triangular_inverse` have derivatives of any order, and may be
mapped over a batch on a CPU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import chex

_ONE_THREAD = 64  # up to this many rows LAPACK takes one thread
_PANEL = 32  # columns
_ENTRIES = 8192  # of a panel, likewise


def one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function of arrays, which `jax.vmap` turns into a loop on a CPU.

    jaxlib spreads a batched LAPACK call over its thread pool and waits inside that pool, so two
    such calls in one program can wait for each other for ever (seen with jaxlib 0.10.2 on two
    cores). A call for one matrix never waits. Accelerators keep their batched calls.
    """
    wrapped = jax.custom_batching.custom_vmap(function)

    @wrapped.def_vmap
    def over_batch(size: int, batched: Sequence[bool], *args: Any) -> tuple[Any, Any]:
        def loop(*args: Any) -> Any:
            def one(i: Any) -> Any:
                return wrapped(*(a[i] if has else a for a, has in zip(args, batched, strict=True)))

            return jax.lax.map(one, jnp.arange(size))

        axes = [0 if has else None for has in batched]
        together = jax.vmap(function, in_axes=axes, axis_size=size)
        out = jax.lax.platform_dependent(*args, cpu=loop, default=together)
        return out, jax.tree.map(lambda _: True, out)

    result: Callable[..., Any] = wrapped
    return result


class Eliminated(NamedTuple):
    """`v = basis @ upper`."""

    basis: chex.Array  # [N, k], no entry above 1; its rows `pivots` are unit lower triangular
    upper: chex.Array  # [k, k]; a diagonal entry that is only rounding is 0
    condition: chex.Array  # [k], how many times the rounding of 1 is the error of that entry
    hidden: chex.Array  # [k], what a diagonal entry that is only rounding may hide; else 0
    pivots: chex.Array  # int32 [k]


@jax.custom_jvp
def eliminated(v: chex.Array) -> Eliminated:
    """Gaussian elimination with row pivoting, `v [N, k] = basis @ upper`, N >= k."""
    return Eliminated(*_lu(v))


@one_at_a_time
def _lu(v: chex.Array) -> tuple[chex.Array, ...]:
    size, count = v.shape
    factors, swaps, _ = jax.lax.linalg.lu(v)
    order = _order(swaps, size)
    # Made here, not a constant: custom_vmap takes none inside a mapped branch.
    below = jnp.tril(jnp.ones(v.shape, bool), -1)
    lower = jnp.where(below, factors, jnp.eye(size, count, dtype=v.dtype))
    # Where each row of v went. Rows are gathered, since a CPU scatters them one by one.
    index = jnp.arange(size, dtype=order.dtype)
    places = jnp.zeros_like(index).at[order].set(index, unique_indices=True)
    basis = lower.at[places].get(mode="promise_in_bounds", unique_indices=True)
    top, diagonal = factors[:count], jnp.abs(jnp.diagonal(factors))
    # Entry j of the diagonal is v less sum_k lower_jk upper_kj: its error is the rounding of those.
    # Summed by columns, which a CPU does in wide operations.
    terms = jnp.sum(jnp.where(below[:count].T, jnp.abs(top * top.T), 0), 0) + diagonal
    noise = (4 + 2 * math.sqrt(size)) * jnp.finfo(v.dtype).eps * terms
    gone = diagonal <= noise
    # Nothing at all is exact; a sum that cancels to nothing is not.
    nothing = jnp.where(terms == 0, 1.0, jnp.inf).astype(v.dtype)
    condition = jnp.where(diagonal == 0, nothing, terms / jnp.where(diagonal == 0, 1, diagonal))
    upper = jnp.where(below[:count] | jnp.diag(gone), 0, top)
    return basis, upper, condition, jnp.where(gone, noise, 0), order[:count].astype(jnp.int32)


def _order(swaps: chex.Array, size: int) -> chex.Array:
    """Return which row of v each row of the factors was, from LAPACK's swaps of rows i, swaps[i].

    Swap i found row i at `swaps[i] >= i`, put there by the last swap before that took that place,
    or never moved. So each place points to the swap it was last part of, and following the
    pointers, doubled at each turn, is a few wide operations in place of one swap after the other.
    """
    count = len(swaps)
    i = jnp.arange(count, dtype=swaps.dtype)

    def last(places: chex.Array, before: chex.Array) -> chex.Array:
        """Return the last swap before a time that moved a row to a place, or -1."""
        here = (swaps[:, None] == places) & (i[:, None] < before)
        return jnp.max(jnp.where(here, i[:, None], -1), 0)

    pointer = last(i, i)
    pointer = jnp.where(pointer < 0, i, pointer)
    for _ in range(math.ceil(math.log2(max(count, 2)))):
        pointer = pointer[pointer]
    # Rows below the last swap are where they were, or where some swap put them.
    places = jnp.concatenate([swaps, jnp.arange(count, size, dtype=swaps.dtype)])
    moved = last(places, jnp.minimum(jnp.arange(size), count))
    return jnp.where(moved < 0, places, pointer[jnp.maximum(moved, 0)])


@eliminated.defjvp
def _eliminated_jvp(primals: Any, tangents: Any) -> Any:
    (v,), (dv,) = primals, tangents
    found = eliminated(v)
    basis, upper, condition, hidden, pivots = found
    lower = basis[pivots]
    change = dv @ triangular_inverse(nonzero_diagonal(upper))
    # change = d basis + basis @ (d upper upper^-1); in the pivots' rows one part is strictly
    # lower triangular after lower^-1, the other upper.
    inner = triangular_inverse(lower.T).T @ change[pivots]
    in_upper = jnp.triu(inner)
    strict = lower @ jnp.tril(inner, -1)
    d_basis = (change - basis @ in_upper).at[pivots].set(strict, unique_indices=True)
    no_tangent = np.zeros(pivots.shape, jax.dtypes.float0)
    zero = jnp.zeros_like(condition)
    return found, Eliminated(d_basis, in_upper @ upper, zero, jnp.zeros_like(hidden), no_tangent)


@jax.custom_jvp
def orthonormal(v: chex.Array) -> tuple[chex.Array, chex.Array]:
    """`v = q @ r` with orthonormal columns of q and an upper triangular r of diagonal >= 0."""
    q, r = _qr(v)
    return q, r


@one_at_a_time
def _qr(v: chex.Array) -> tuple[chex.Array, chex.Array]:
    q, r = jnp.linalg.qr(v)
    sign = jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0).astype(v.dtype)
    return q * sign, r * sign[:, None]


@orthonormal.defjvp
def _orthonormal_jvp(primals: Any, tangents: Any) -> Any:
    (v,), (dv,) = primals, tangents
    q, r = orthonormal(v)
    change = dv @ triangular_inverse(nonzero_diagonal(r))
    inner = q.T @ change
    # q' dq is antisymmetric, and what is left of `inner` is upper triangular.
    below = jnp.tril(inner, -1)
    turn = below - below.T
    return (q, r), (change - q @ (inner - turn), (inner - turn) @ r)


@one_at_a_time
def square_qr(a: chex.Array) -> tuple[chex.Array, chex.Array]:
    """`a = q @ r` for a square matrix: q orthogonal, r upper triangular. Without derivatives.

    For a matrix of more than a hundred columns LAPACK takes all threads, and they spin while they
    wait for each other: on a busy CPU that costs a hundred times the work. So LAPACK factors
    panels of columns, each narrow enough for one thread, and what a panel does to the columns
    after it is two matrix products. The columns of q are at right angles whatever the rank.
    """
    size = a.shape[0]
    if size <= _ONE_THREAD:
        q, r = jnp.linalg.qr(a)
        return q, r
    width = max(8, min(_PANEL, _ENTRIES // size))
    reflections, r = [], a
    with jax.default_matmul_precision("highest"):
        for start in range(0, size, width):
            stop = min(start + width, size)
            v, t, top = _reflections(r[start:, start:stop])
            rest = r[start:, stop:]
            rest = rest - v @ (t.T @ (v.T @ rest))
            top = jnp.pad(top, ((0, size - stop), (0, 0)))
            r = r.at[start:, start:].set(jnp.concatenate([top, rest], axis=1))
            reflections.append((start, v, t))
        q = jnp.eye(size, dtype=a.dtype)
        for start, v, t in reversed(reflections):
            corner = q[start:, start:]
            q = q.at[start:, start:].set(corner - v @ (t @ (v.T @ corner)))
    return q, r


def _reflections(panel: chex.Array) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Return V, T and R of a tall panel, the product of its reflections being `I - V T V^T`."""
    factors, tau = jnp.linalg.qr(panel, mode="raw")
    factors = factors.T
    width = panel.shape[1]
    v = jnp.tril(factors, -1) + jnp.eye(panel.shape[0], width, dtype=panel.dtype)
    v = jnp.where(tau == 0, 0.0, v)  # where there was nothing to reflect
    # T^-1 + T^-T = V^T V, and the diagonal of T^-1 is half of that: 1 / tau.
    inverse = jnp.triu(v.T @ v, 1) + jnp.diag(1 / jnp.where(tau == 0, 1.0, tau))
    return v, _solve_identity(inverse), jnp.triu(factors[:width])


@jax.custom_jvp
def triangular_inverse(upper: chex.Array) -> chex.Array:
    """Return the inverse of an upper triangular matrix without a zero on its diagonal."""
    return _solve_identity(upper)


@one_at_a_time
def _solve_identity(upper: chex.Array) -> chex.Array:
    eye = jnp.eye(upper.shape[0], dtype=upper.dtype)
    return jax.lax.linalg.triangular_solve(upper, eye, left_side=True, lower=False)


@triangular_inverse.defjvp
def _inverse_jvp(primals: Any, tangents: Any) -> Any:
    inverse = triangular_inverse(*primals)
    return inverse, -inverse @ tangents[0] @ inverse


def nonzero_diagonal(upper: chex.Array) -> chex.Array:
    """With 1 for each zero: a direction that is gone has no derivative, and spoils no other's."""
    diagonal = jnp.diagonal(upper)
    return upper + jnp.diag(jnp.where(diagonal == 0, 1.0, 0.0).astype(upper.dtype))
