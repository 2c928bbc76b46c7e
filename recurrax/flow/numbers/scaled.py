"""Long products in log scale: a mantissa and an integer power of two.

Scaling by a power of two rounds nothing, and an integer exponent never drifts, so a product of a
hundred thousand factors keeps the accuracy of its factors, where a running sum of float32 logs
would lose a thousandth of the whole.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    import chex

NOWHERE = -(2**30)  # the exponent of zeros: below all others, and sums with it fit in int32


def rescale(a: chex.Array) -> tuple[chex.Array, chex.Array]:
    """`a = mantissa * 2**exponent`, the largest entry of the mantissa in [1/2, 1).

    Zero, infinity and NaN come back as they are, with exponent 0. Linear in `a` for every
    derivative: the exponent is a constant.
    """
    exponent = scale_of(a, tuple(range(a.ndim)))
    return a * power_of_two(-exponent, a.dtype), exponent


def scale_of(a: chex.Array, axes: tuple[int, ...]) -> chex.Array:
    """The exponent of the largest entry along some axes; 0 for zero, infinity and NaN."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(jax.lax.stop_gradient(a)), axes, initial=0.0))
    most = jnp.finfo(a.dtype).maxexp - 2  # 126: 2**-exponent is a normal number too
    return jnp.clip(exponent, -most, most)


def rescale_each(v: chex.Array, exponents: chex.Array, axis: int) -> tuple[chex.Array, chex.Array]:
    """Each vector along an axis with its largest entry in [1/2, 1), and its exponent.

    Vectors that shrink at different times would be lost beside each other under one exponent.
    """
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(v)), axis, keepdims=True)
    shift = scale_of(largest, (axis,))
    exponents = jnp.where(largest.squeeze(axis) == 0, NOWHERE, exponents + shift)
    return v * power_of_two(-jnp.expand_dims(shift, axis), v.dtype), exponents


def bring_to_one(v: chex.Array, exponents: chex.Array, axis: int) -> tuple[chex.Array, chex.Array]:
    """Vectors along an axis, beside each other with the exponent of the largest, the last axis."""
    top = jnp.max(exponents, -1)
    scale = power_of_two(exponents - top[..., None], v.dtype)
    return v * jnp.expand_dims(scale, axis), top


def power_of_two(exponent: chex.Array, dtype: jnp.dtype) -> chex.Array:
    """Exactly `2**exponent`, zero below the normal range: written as bits, since pow rounds."""
    info = jnp.finfo(dtype)
    bits = jnp.uint64 if info.bits == 64 else jnp.uint32
    bias = info.maxexp - 1
    # Above it the largest power, and not infinity, which would turn a zero mantissa into NaN.
    biased = jnp.clip(exponent + bias, 0, 2 * bias)
    return jax.lax.bitcast_convert_type(biased.astype(bits) << info.nmant, dtype)


def log_of(value: chex.Array, exponent: chex.Array) -> chex.Array:
    """`log(value * 2**exponent)`; -inf at zero, with a derivative of zero there."""
    zero = value == 0
    log = jnp.log(jnp.where(zero, 1.0, value)) + exponent.astype(value.dtype) * math.log(2)
    return jnp.where(zero, -jnp.inf, log)


def root(square: chex.Array) -> chex.Array:
    """The square root, with a derivative of zero at zero."""
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def frobenius(a: chex.Array) -> chex.Array:
    """The 2-norm of all entries, with a derivative of zero at zero."""
    return root(jnp.sum(a * a))


def add_scaled(
    a: tuple[chex.Array, chex.Array], b: tuple[chex.Array, chex.Array]
) -> tuple[chex.Array, chex.Array]:
    """The sum of two arrays given as mantissa and exponent, in the same form."""
    (x, p), (y, q) = a, b
    exponent = jnp.where(jnp.all(x == 0), q, jnp.where(jnp.all(y == 0), p, jnp.maximum(p, q)))
    total = x * power_of_two(p - exponent, x.dtype) + y * power_of_two(q - exponent, y.dtype)
    total, shift = rescale(total)
    return total, exponent + shift
