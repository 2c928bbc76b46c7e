"""Matrices whose rows are of very different sizes: each row a mantissa with its own exponent.

A product of many Jacobians stretches one direction by e^500 and shrinks another by e^-500. Written
as `Q U` with U triangular, it keeps its large directions in the upper rows of U and its small ones
in the lower; with one exponent a row no row is lost beside another, as it would be in a plain
matrix whose small singular values fall below the rounding of its large ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.scaled import NOWHERE, power_of_two, rescale

if TYPE_CHECKING:
    import chex


class Graded(NamedTuple):
    """`a[i] = rows[i] * 2**exponents[i]`, the largest entry of a row in [1/2, 1) or all zero."""

    rows: chex.Array  # [R, C]
    exponents: chex.Array  # [R], int32; NOWHERE for a zero row


def graded(a: chex.Array, exponents: chex.Array) -> Graded:
    """The matrix `a[i] * 2**exponents[i]`."""
    rows, shifts = jax.vmap(rescale)(a)
    zero = jnp.all(rows == 0, axis=1)
    return Graded(rows, jnp.where(zero, NOWHERE, exponents + shifts))


def scaled_columns(a: chex.Array, exponents: chex.Array) -> Graded:
    """The matrix `a[i, j] * 2**exponents[j]`: the row takes the exponent of its largest entry.

    What is smaller than rounding beside the largest entry of its own row may vanish; nothing is
    compared with another row.
    """
    mantissa, own = jnp.frexp(a)
    nothing = (a == 0) | (exponents == NOWHERE)
    total = jnp.where(nothing, NOWHERE, own + exponents)
    top = jnp.max(total, axis=1)
    a = jnp.where(nothing, 0.0, mantissa) * power_of_two(total - top[:, None], a.dtype)
    return graded(a, top)


def multiply(a: chex.Array, b: Graded) -> Graded:
    """`a @ b`, each row right to rounding beside its own largest term."""
    weights = scaled_columns(a, b.exponents)
    with jax.default_matmul_precision("highest"):
        return graded(weights.rows @ b.rows, weights.exponents)
