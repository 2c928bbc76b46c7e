"""Masks from lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks

if TYPE_CHECKING:
    import chex


def length_mask(lengths: chex.Array, T: int) -> chex.Array:
    """True for the first `lengths[b]` steps of each row: `mask[t, b] = t < lengths[b]`.

    Args:
      lengths: integers `[*batch]`, each from 0 to T.
      T: the number of time steps, 0 or more.

    Returns:
      A bool array `[T, *batch]`, for the `mask` of `rx.unroll`.

    Raises:
      TypeError: if lengths are not integers.
      ValueError: if T is negative, or a concrete length is negative or above T.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> rx.length_mask(jnp.array([0, 2]), 3).astype(int).tolist()
      [[0, 1], [0, 1], [0, 0]]
    """
    checks.check_count("T", T)
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got {lengths.dtype}")
    if not isinstance(lengths, jax.core.Tracer):
        wrong = np.asarray(lengths)[(np.asarray(lengths) < 0) | (np.asarray(lengths) > T)]
        if wrong.size:
            raise ValueError(f"lengths must be from 0 to T = {T}, got {int(wrong.flat[0])}")
    steps = jnp.arange(T).reshape((T,) + (1,) * lengths.ndim)
    return steps < lengths
