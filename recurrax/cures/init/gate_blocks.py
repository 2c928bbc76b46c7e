"""A matrix `[rows, G*H]` drawn gate by gate."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from recurrax import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import chex


@dataclasses.dataclass(frozen=True)
class GateBlocks(abc.ABC):
    """An initialiser of one matrix for each of G gates, side by side on the last axis."""

    name: ClassVar[str]  # as the user calls it
    square: ClassVar[bool] = True  # whether each block must be `[H, H]`
    gates: int

    def __post_init__(self) -> None:
        checks.check_positive_int("gates", self.gates)

    @abc.abstractmethod
    def draw(self, key: chex.PRNGKey, shape: tuple[int, int], dtype: Any) -> chex.Array:
        """Return the block of one gate."""

    def __call__(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = None) -> chex.Array:
        """Return the matrix, drawn in float32 at least and cast to `dtype` at the end.

        Factorisations fail in half precision on a CPU.

        Raises:
          ValueError: if the shape is not that of G matrices, or of square ones where they must be.
          TypeError: if the dtype is not a floating-point one.
        """
        shape, name, gates = tuple(shape), self.name, self.gates
        if len(shape) != 2 or shape[-1] % gates:
            raise ValueError(
                f"{name} with gates={gates} makes a matrix [rows, {gates} * columns], got shape "
                f"{shape}. Give it as recurrent_init, not as bias_init; a cell asks for one gate "
                "at a time, so there leave gates at 1."
            )
        block = (shape[0], shape[1] // gates)
        if self.square and block[0] != block[1]:
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
        return jnp.concatenate([self.draw(k, block, wide) for k in keys], -1).astype(dtype)
