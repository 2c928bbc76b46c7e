"""Numbers of any size: a mantissa and an integer power of two.

Scaling by a power of two rounds nothing, and an integer exponent never drifts, so a product of a
hundred thousand factors keeps the accuracy of its factors, where a running sum of float32 logs
would lose a thousandth of the whole. With one exponent for each row or column, small rows are not
lost beside large ones.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    import chex

ZERO = -(2**30)  # the exponent of zeros: below all others, and the sum of two fits in int32


class Scaled(NamedTuple):
    """`mantissa * 2**exponent`.

    The exponent broadcasts against the mantissa, so that its shape says which entries share one:
    `()` is one for all, `[R, 1]` one for each row, `[C]` or `[1, C]` one for each column. The
    mantissa may also be a pytree, whose leaves then share exponents. After `rescale`, the largest
    entry that shares an exponent is in [1/2, 1), and the exponent is `ZERO` where all are zero.
    """

    mantissa: Any
    exponent: Any  # int32


def rescale(a: Any, exponent: Any = 0) -> Scaled:
    """Return `a * 2**exponent` with mantissas in [1/2, 1); infinity and NaN stay as they are.

    The result is linear in `a` for every derivative: its exponent is a constant. The derivative of
    a zero, whose exponent no longer tells, is in units of 1.
    """
    exponent = jnp.asarray(exponent, jnp.int32)
    sizes = [_largest(leaf, exponent.shape) for leaf in jax.tree.leaves(a)]
    largest = functools.reduce(jnp.maximum, sizes)
    shift, zero = _exponent_of(largest), largest == 0
    factor = jnp.where(zero, _to_units(exponent, largest.dtype), -shift)
    mantissa = jax.tree.map(lambda leaf: leaf * power_of_two(factor, leaf.dtype), a)
    return Scaled(mantissa, jnp.where(zero, ZERO, exponent + shift))


def add(a: Scaled, b: Scaled) -> Scaled:
    """Return the sum of two that share exponents alike, with mantissas up to 2 and not rescaled."""
    top = jnp.maximum(a.exponent, b.exponent)

    def moved(leaf: chex.Array, exponent: chex.Array) -> chex.Array:
        units = _to_units(-top, leaf.dtype)  # for the derivative of a zero
        shift = jnp.where(exponent == ZERO, units, exponent - top)
        return leaf * power_of_two(shift, leaf.dtype)

    def total(x: chex.Array, y: chex.Array) -> chex.Array:
        return moved(x, a.exponent) + moved(y, b.exponent)

    return Scaled(jax.tree.map(total, a.mantissa, b.mantissa), top)


def share(a: Scaled, axis: int | None = None) -> Scaled:
    """Return the same with one exponent, the largest, for all or for all along an axis."""
    top = jnp.max(a.exponent, axis, keepdims=axis is not None)
    return Scaled(a.mantissa * power_of_two(a.exponent - top, a.mantissa.dtype), top)


def by_row(a: Scaled) -> Scaled:
    """Return a matrix with an exponent for each row, that of the row's largest entry.

    What is smaller than rounding beside the largest entry of its own row may vanish.
    """
    mantissa, own = jnp.frexp(a.mantissa)
    nothing = (mantissa == 0) | (a.exponent == ZERO)
    total = jnp.where(nothing, ZERO, own + a.exponent)
    top = jnp.max(total, axis=1, keepdims=True)
    mantissa = jnp.where(nothing, 0.0, mantissa) * power_of_two(total - top, mantissa.dtype)
    return rescale(mantissa, top)


def multiply(a: Scaled, b: Scaled) -> Scaled:
    """Return `a @ b`, both scaled by row, each row right to rounding beside its largest term."""
    weights = by_row(Scaled(a.mantissa, b.exponent.T))
    product = jnp.matmul(weights.mantissa, b.mantissa, precision="highest")
    return rescale(product, weights.exponent + a.exponent)


def scale_of(a: chex.Array, axes: tuple[int, ...]) -> chex.Array:
    """Return the exponent of the largest entry along some axes; 0 for zero, infinity and NaN."""
    return _exponent_of(jnp.max(jnp.abs(jax.lax.stop_gradient(a)), axes, initial=0.0))


def _exponent_of(size: chex.Array) -> chex.Array:
    most = jnp.finfo(size.dtype).maxexp - 2  # 126: 2**-exponent is a normal number too
    return jnp.clip(jnp.frexp(size)[1], -most, most)


def _largest(a: chex.Array, shape: tuple[int, ...]) -> chex.Array:
    """Return the largest size of the entries that share an exponent, of exponents of a shape."""
    size, lead = jnp.abs(jax.lax.stop_gradient(a)), a.ndim - len(shape)
    axes = [axis for axis in range(a.ndim) if axis < lead or shape[axis - lead] == 1]
    # The last axis at the end, since a CPU reduces the others in wide operations.
    for some in ([axis for axis in axes if axis < a.ndim - 1], [a.ndim - 1] * (a.ndim - 1 in axes)):
        size = jnp.max(size, tuple(some), keepdims=True, initial=0.0) if some else size
    return size.reshape(shape)


def _to_units(exponent: Any, dtype: Any) -> chex.Array:
    """Return the exponent that turns a zero's derivative to units of 1, and does not overflow."""
    most = jnp.finfo(dtype).maxexp // 2
    return jnp.clip(jnp.where(jnp.abs(exponent) == -ZERO, 0, exponent), -2 * most, most)


def power_of_two(exponent: chex.Array, dtype: jnp.dtype) -> chex.Array:
    """Return exactly `2**exponent`, zero below the normal range: from bits, since pow rounds."""
    info = jnp.finfo(dtype)
    bits = jnp.uint64 if info.bits == 64 else jnp.uint32
    bias = info.maxexp - 1
    # Above it the largest power, and not infinity, which would turn a zero mantissa into NaN.
    biased = jnp.clip(exponent + bias, 0, 2 * bias)
    return jax.lax.bitcast_convert_type(biased.astype(bits) << info.nmant, dtype)


def log_of(value: chex.Array, exponent: chex.Array) -> chex.Array:
    """Return `log(value * 2**exponent)`; -inf at zero, with a derivative of zero there."""
    zero = value == 0
    log = jnp.log(jnp.where(zero, 1.0, value)) + exponent.astype(value.dtype) * math.log(2)
    return jnp.where(zero, -jnp.inf, log)


def root(square: chex.Array) -> chex.Array:
    """Return the square root, with a derivative of zero at zero."""
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def frobenius(a: chex.Array) -> chex.Array:
    """Return the 2-norm of all entries, with a derivative of zero at zero."""
    return root(sum_of(a * a))


def sum_of(a: chex.Array) -> chex.Array:
    """Return the sum of all entries, the columns first, which a CPU does in wide operations."""
    return jnp.sum(jnp.sum(a, tuple(range(a.ndim - 1))))


def log_norm(a: Scaled) -> chex.Array:
    """Return the log of the 2-norm of all entries, which have one exponent."""
    return log_of(frobenius(a.mantissa), a.exponent)
