"""Norms of the sums over time of outer products `h_t d_t^T`: the gradient of one example.

The norm of the sum up to each t, for all t, without making it for each t. Time is cut into blocks.
The sum R before each block is made, as one product a block; within a block

    || R + sum_s G_s ||^2 = ||R||^2 + 2 sum_s <R, G_s> + sum_{s,s'} <G_s, G_s'>

where `<G_s, G_s'> = (h_s . h_s') (d_s . d_s')` and `<R, G_s> = h_s R d_s` are a few numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.scaled import (
    ZERO,
    Scaled,
    frobenius,
    log_of,
    power_of_two,
    rescale,
    root,
    sum_of,
)

if TYPE_CHECKING:
    import chex

BLOCK = 16  # steps

# How far the terms of a squared norm may cancel. Its rounding is one of the square of the sum of
# their norms, so that of the norm stays below so many roundings of it or of the total's.
_CANCELS = 32


def measured(h: chex.Array, signals: Scaled, total: Scaled) -> tuple[tuple[Any, ...], chex.Array]:
    """Return measures of each outer product and of their sums, in log scale.

    Args:
      h: `[T, H]`.
      signals: `[T, P]`, scaled by row; the outer products are `h_t signals_t^T`.
      total: their sum over time, `[H, P]`.

    Returns:
      At each t, the log norm of the product, its cosine with the total, and the log norm of the
      sum up to t; and whether they can be relied upon: False where terms cancel so far that a
      squared norm has lost the digits it needs.
    """
    (h, p), (d, q) = rescale(h, jnp.zeros((len(h), 1), jnp.int32)), rescale(*signals)
    size = root(jnp.sum(h * h, axis=1) * jnp.sum(d * d, axis=1))
    exponents = jnp.where(size == 0, ZERO, (p + q)[:, 0])
    whole = frobenius(total.mantissa)
    scale = jnp.where(size == 0, 1, size) * jnp.where(whole == 0, 1, whole)
    cosine = jnp.sum((h @ total.mantissa) * d, axis=1) / scale
    square, gross, tops = _squares(h, d, exponents, size)
    norm = root(jnp.maximum(square, 0))
    size_of_total = whole * power_of_two(total.exponent - tops, whole.dtype)
    least = jnp.sqrt(jnp.finfo(h.dtype).eps) * gross
    bound = _CANCELS * jnp.maximum(norm, least) * jnp.maximum(norm, size_of_total)
    reliable = ~jnp.any(gross * gross > bound)
    return (log_of(size, exponents), cosine, log_of(norm, tops)), reliable


def _squares(h: Any, d: Any, exponents: Any, size: Any) -> tuple[chex.Array, ...]:
    """Squared norms of the sums up to each t, sums of norms, and the exponent of both's roots."""
    length, dtype = len(h), h.dtype
    pad = -length % BLOCK

    def blocks(a: chex.Array, fill: int = 0) -> chex.Array:
        a = jnp.pad(a, ((0, pad),) + ((0, 0),) * (a.ndim - 1), constant_values=fill)
        return a.reshape(-1, BLOCK, *a.shape[1:])

    h, d, exponents, size = blocks(h), blocks(d), blocks(exponents, ZERO), blocks(size)
    # Of the largest part so far: what a sum is written in.
    tops = jax.lax.cummax(exponents.reshape(-1)).reshape(-1, BLOCK)
    before = jnp.append(ZERO, tops[:-1, -1])

    def border(rest: chex.Array, now: Any) -> tuple[chex.Array, Any]:
        h, d, exponents, old, new = now
        out = sum_of(rest * rest), jnp.sum((h @ rest) * d, axis=1)
        scale = power_of_two(exponents - new, dtype)
        return rest * power_of_two(old - new, dtype) + (h * scale[:, None]).T @ d, out

    nothing = jnp.zeros((h.shape[2], d.shape[2]), dtype)
    now = (h, d, exponents, before, tops[:, -1])
    _, (square, cross) = jax.lax.scan(border, nothing, now)
    scale = power_of_two(exponents[:, None, :] - tops[:, :, None], dtype)
    weights = jnp.where(jnp.tri(BLOCK, dtype=bool), scale, 0)  # [block, t, s], of earlier s
    gram = jnp.einsum("nsh,nrh->nsr", h, h) * jnp.einsum("nsp,nrp->nsr", d, d)
    within = jnp.sum((weights @ gram) * weights, axis=2)
    carried = power_of_two(before[:, None] - tops, dtype)
    crossed = jnp.sum(weights * cross[:, None, :], axis=2)
    squares = carried * (carried * square[:, None] + 2 * crossed) + within
    gross = carried * root(square)[:, None] + jnp.sum(weights * size[:, None, :], axis=2)
    return tuple(a.reshape(-1)[:length] for a in (squares, gross, tops))
