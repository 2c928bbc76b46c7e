"""A penalty on recurrent weights that are not orthogonal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

if TYPE_CHECKING:
    import chex


def orthogonality(params: Any) -> chex.Array:
    """How far recurrent weights are from orthogonal, gate by gate.

    `sum_g || W_g^T W_g - 1 ||_F^2`, which is `sum_g sum_i (sigma_i^2 - 1)^2` over the singular
    values of each gate's block, and zero where every block keeps the length of every vector.

    Args:
      params: the params of a gated cell, whose `w_rec [H, G*H]` is looked at; or such a matrix; or
        a tuple of params, as a stack has, for the sum over its cells.

    Returns:
      A scalar, float32 at least.

    Raises:
      TypeError: if it is neither.
      ValueError: if a matrix does not consist of square blocks.

    Example:
      >>> import jax, recurrax as rx
      >>> params = rx.cells.lstm(3, 8).init(jax.random.key(0))  # orthogonal, gate by gate
      >>> round(abs(float(rx.cures.orthogonality(params))), 6)
      0.0
      >>> doubled = params._replace(w_rec=2 * params.w_rec)  # 4 gates, 8 units, (4 - 1)^2 each
      >>> round(float(rx.cures.orthogonality(doubled)), 3)
      288.0

    Source: Vorontsov et al. (2017).
    """
    if hasattr(params, "w_rec"):
        return _of_matrix("params.w_rec", params.w_rec)
    if isinstance(params, (tuple, list)) and params and not hasattr(params, "_fields"):
        return jnp.sum(jnp.stack([orthogonality(each) for each in params]))
    return _of_matrix("params", params)


def _of_matrix(name: str, matrix: Any) -> chex.Array:
    dtype = getattr(matrix, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} must be a floating-point matrix [H, G*H], or params with one as w_rec, got "
            f"{type(matrix).__name__ if dtype is None else dtype}"
        )
    shape = tuple(matrix.shape)
    if len(shape) != 2 or 0 in shape or shape[1] % shape[0]:
        raise ValueError(
            f"{name} must be square blocks side by side, [H, G*H], got shape {shape}. It is "
            "for recurrent weights: w_rec, not w_in."
        )
    hidden = shape[0]
    wide = matrix.astype(jnp.promote_types(dtype, jnp.float32))
    blocks = wide.reshape(hidden, -1, hidden)
    grams = jnp.einsum("agb,agc->gbc", blocks, blocks, precision="highest")
    return jnp.sum((grams - jnp.eye(hidden, dtype=wide.dtype)) ** 2)
