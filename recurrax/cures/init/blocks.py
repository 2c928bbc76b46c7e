"""A matrix `[rows, G*H]` drawn gate by gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import chex


def in_blocks(
    draw: Callable[..., Any],
    key: chex.PRNGKey,
    shape: Sequence[int],
    dtype: Any,
    *,
    name: str,
    gates: int,
    square: bool = False,
) -> chex.Array:
    """`draw(key, (rows, H), wide)` for each gate, side by side, cast to `dtype` at the end.

    Values are made in float32 at least: factorisations fail in half precision on a CPU.

    Raises:
      ValueError: if the shape is not that of `gates` matrices, or of square ones where asked.
      TypeError: if the dtype is not a floating-point one.
    """
    shape = tuple(shape)
    if len(shape) != 2 or shape[-1] % gates:
        raise ValueError(
            f"{name} with gates={gates} makes a matrix [rows, {gates} * columns], got shape "
            f"{shape}. Give it as recurrent_init, not as bias_init; a cell asks for one gate at a "
            "time, so there leave gates at 1."
        )
    block = (shape[0], shape[1] // gates)
    if square and block[0] != block[1]:
        raise ValueError(
            f"{name} makes square blocks [H, H], got {block} from shape {shape} with "
            f"gates={gates}. Give it as recurrent_init; a whole [H, G*H] takes gates=G."
        )
    dtype = checks.floating_dtype(dtype)
    if 0 in shape:  # nothing to draw, and no variance to scale
        return jnp.zeros(shape, dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    # One gate is drawn from the key itself, as the initialisers of JAX do.
    keys = [key] if gates == 1 else jax.random.split(key, gates)
    blocks = [draw(k, block, wide) for k in keys]
    return jnp.concatenate(blocks, -1).astype(dtype)


def check_gates(gates: Any) -> None:
    """How many gates stand side by side."""
    checks.check_positive_int("gates", gates)
