"""Singular values of a matrix with rows of very different sizes, by one-sided Jacobi rotations.

Rows are rotated two by two until all are at right angles: their lengths are then the singular
values. A rotation acts on two rows each in its own exponent, so a tiny row is as accurate as a
large one, over any range, where an SVD loses what is below its rounding of the largest.

What a row has left after most of it cancelled is rounding. Each row carries an estimate of its own
rounding, and a row that is no longer than that counts as zero.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.factors import one_at_a_time
from recurrax.flow.numbers.scaled import ZERO, Scaled, by_row, log_of, power_of_two

if TYPE_CHECKING:
    import chex

_SWEEPS = 40  # six or so are enough; the limit is for what is not finite
_triangle = one_at_a_time(functools.partial(jnp.linalg.qr, mode="r"))


class _Rows(NamedTuple):
    """The rows in two halves: those at the same place of both are rotated together."""

    rows: chex.Array  # [2, M, C]
    exponents: chex.Array  # int32 [2, M]
    noise: chex.Array  # [2, M], the expected squared rounding of a row, in its own exponent


def log_singular_values(a: Scaled, blocks: chex.Array) -> chex.Array:
    """Return the natural logs of the N singular values of a matrix `[N, N]`, descending.

    The matrix has an exponent for each row. `blocks [N]`, ascending, numbers the diagonal
    blocks outside which the matrix is exactly zero; each is treated by itself.

    Right to about `eps * kappa` in the singular value, kappa being the condition of the matrix
    with its rows scaled to one length; -inf for a singular value that is zero but for rounding.
    """
    count, dtype = len(a.mantissa), a.mantissa.dtype
    a, noise = _concentrated(a, jnp.zeros(count, dtype), blocks)
    a, noise = _concentrated(a, noise, blocks)
    # Row 2 i goes beside row 2 i + 1, with a zero row where their number is odd.
    odd = count % 2
    halves = _Rows(
        jnp.pad(a.mantissa, ((0, odd), (0, 0))).reshape(-1, 2, count).swapaxes(0, 1),
        jnp.pad(a.exponent[:, 0], (0, odd), constant_values=ZERO).reshape(-1, 2).T,
        jnp.pad(noise, (0, odd)).reshape(-1, 2).T,
    )
    halves = _orthogonal(halves)
    logs = log_of(jnp.sqrt(_squares(halves)), halves.exponents).reshape(-1)
    return -jnp.sort(-logs)[:count]


def _concentrated(a: Scaled, noise: chex.Array, blocks: chex.Array) -> tuple[Scaled, chex.Array]:
    """Return the triangular factor R of `a^T = Q R`, a block's rows sorted by size.

    It has the same singular values, and its rows are nearer to right angles, so that far fewer
    rotations are needed. The rows of a are columns here, so that their exponents are kept out of
    the factorisation altogether.
    """
    rows, exponents = a.mantissa, a.exponent[:, 0]
    length = jnp.sqrt(jnp.sum(rows * rows, axis=1))
    order = jnp.lexsort((-length, -exponents, blocks))  # the block first, then the exponent
    rows, exponents, length = rows[order], exponents[order], length[order]
    upper = by_row(Scaled(_triangle(rows.T), exponents))
    shift = power_of_two(exponents - upper.exponent[:, 0], rows.dtype)
    fresh = rows.shape[1] * (0.5 * jnp.finfo(rows.dtype).eps * length) ** 2
    noise = (noise[order] + fresh) * shift * shift
    return upper, jnp.where(upper.exponent[:, 0] == ZERO, 0.0, noise)


def _orthogonal(halves: _Rows) -> _Rows:
    """Sweep over all pairs of rows, until no two are further from a right angle than rounding."""
    _, pairs, columns = halves.rows.shape
    tolerance = float(jnp.finfo(halves.rows.dtype).eps) * max(columns, 16) ** 0.5

    def next_partners(a: chex.Array) -> chex.Array:
        """Move everyone but the first by one seat: after all rounds, each has met each."""
        top, bottom = a
        if pairs == 1:
            return a
        new_top = jnp.concatenate([top[:1], bottom[:1], top[1:-1]])
        return jnp.stack([new_top, jnp.concatenate([bottom[1:], top[-1:]])])

    def rotate_and_move(_: chex.Array, carry: tuple) -> tuple:  # type: ignore[type-arg]
        halves, cosine = _rotate(carry[0], tolerance)
        return jax.tree.map(next_partners, halves), jnp.maximum(carry[1], cosine)

    def sweep(carry: tuple) -> tuple:  # type: ignore[type-arg]
        start = (carry[0], jnp.zeros((), halves.rows.dtype))
        return (*jax.lax.fori_loop(0, 2 * pairs - 1, rotate_and_move, start), carry[2] + 1)

    def unfinished(carry: tuple) -> chex.Array:  # type: ignore[type-arg]
        return (carry[1] > tolerance) & (carry[2] < _SWEEPS)

    start = (halves, jnp.asarray(jnp.inf, halves.rows.dtype), 0)
    result: _Rows = jax.lax.while_loop(unfinished, sweep, start)[0]
    return result


def _squares(halves: _Rows) -> chex.Array:
    """Return the squared length of every row, zero where it is only rounding."""
    square = jnp.sum(halves.rows * halves.rows, axis=-1)
    return jnp.where(square <= 4 * halves.noise, 0.0, square)


def _rotate(halves: _Rows, tolerance: float) -> tuple[_Rows, chex.Array]:
    """Rotate each pair once; also return the largest cosine that was met.

    With p the longer row, alpha, beta the squared lengths and gamma the product, all in the rows'
    own exponents, and d <= 0 the exponent of q less that of p:

        tau = 2 gamma / (x + sqrt(x^2 + (2 gamma 2^d)^2)),     x = alpha - beta 4^d
        p <- c (p + tau 4^d q)      q <- c (q - tau p)         c = (1 + (tau 2^d)^2)^(-1/2)

    Nothing here is large, and 2^d may underflow to zero.
    """
    dtype = halves.rows.dtype
    square = _squares(halves)
    alive = square != 0
    _, shift = jnp.frexp(jnp.sqrt(square))
    scale = jnp.where(alive, power_of_two(-shift, dtype), 0.0)  # to lengths in [1/2, 1)
    exponents = jnp.where(alive, halves.exponents + shift, ZERO)
    square, noise = square * scale**2, halves.noise * scale**2
    gamma = jnp.sum(halves.rows[0] * halves.rows[1], axis=-1) * scale[0] * scale[1]
    cosine = jnp.abs(gamma) / jnp.sqrt(jnp.where(alive.all(0), square[0] * square[1], 1.0))

    apart = exponents[1] - exponents[0]
    first = (apart < 0) | ((apart == 0) & (square[0] >= square[1]))  # is p the upper row?
    ratio = power_of_two(-jnp.abs(apart), dtype)
    alpha, beta = jnp.where(first, square[0], square[1]), jnp.where(first, square[1], square[0])
    x = jnp.maximum(alpha - beta * ratio**2, 0.0)
    below = x + jnp.sqrt(x**2 + (2 * gamma * ratio) ** 2)
    turns = (cosine > tolerance) & (below > 0)
    tau = jnp.where(turns, 2 * gamma, 0.0) / jnp.where(turns, below, 1.0)
    c = jax.lax.rsqrt(1 + (tau * ratio) ** 2)
    into_p, into_q = c * tau * ratio**2, -c * tau  # of the other row, in the exponent of this one
    across = jnp.stack([jnp.where(first, into_p, into_q), jnp.where(first, into_q, into_p)])

    other = halves.rows[::-1] * scale[::-1, :, None]
    rows = c[:, None] * (halves.rows * scale[..., None]) + across[..., None] * other
    rounding = jnp.where(turns, (0.5 * float(jnp.finfo(dtype).eps)) ** 2, 0.0)
    fresh = rounding * (square + across**2 * square[::-1])
    noise = c**2 * noise + across**2 * noise[::-1] + fresh
    return _Rows(rows, exponents, noise), jnp.max(cosine)
