"""Sums over time and batch, accumulated in float32 at least."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def product_over_all(a: Any, b: Any, precision: Any = None) -> Any:
    """`sum over time and batch of a^T b`, as one product."""
    a, b = (v.reshape(v.shape[0] * v.shape[1], v.shape[2]) for v in (a, b))
    kind = wide(jnp.result_type(a, b))
    dims = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(a, b, dims, precision=precision, preferred_element_type=kind)


def sum_over_all(a: Any) -> Any:
    """Over all but the last axis."""
    return jnp.sum(a, axis=tuple(range(a.ndim - 1)), dtype=wide(a.dtype))


def wide(dtype: Any) -> Any:
    """The dtype, float32 if it is narrower."""
    return jnp.promote_types(dtype, jnp.float32)
