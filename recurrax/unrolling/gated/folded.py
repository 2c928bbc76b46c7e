"""`jax.vmap` over examples: the new axis joins the batch, so that the weights' gradient stays one
product. Without this each example would have a gradient of the weights of its own, to be summed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recurrax.unrolling.gated.linear_map import Leaves, LinearMap


@dataclasses.dataclass(frozen=True)
class Folded:
    """A linear map over a batch whose leading axis is folded into the batch axis it has already.

    Args:
      map: for one batch.
      size: of the new axis.
      at: True for each array that has the new axis, of those that it is linearised at.
      x: the same for what it is linear in.
      at_axes: where the batch axis is in each array; None for those that have none.
      x_axes: the same for what it is linear in.
      y_axes: the same for what it gives; each has one.
    """

    map: LinearMap
    size: int
    at: tuple[bool, ...]
    x: tuple[bool, ...]
    at_axes: tuple[int | None, ...]
    x_axes: tuple[int | None, ...]
    y_axes: tuple[int, ...]

    def forward(self, at: Leaves, x: Leaves, wanted: Sequence[bool]) -> Leaves:
        """Fold, run, unfold."""
        folded = self._fold(at, self.at_axes, self.at), self._fold(x, self.x_axes, self.x)
        return self._unfold(self.map.forward(*folded, wanted), self.y_axes)

    def backward(self, at: Leaves, y: Leaves, wanted: Sequence[bool]) -> Leaves:
        """Fold, run, unfold; what all examples share has one gradient already."""
        folded = self._fold(at, self.at_axes, self.at)
        cotangents = self._fold(y, self.y_axes, (True,) * len(y))
        found = self._unfold(self.map.backward(folded, cotangents, wanted), self.x_axes)
        return [
            g if g is None or axis is None or batched else g.sum(0)
            for g, axis, batched in zip(found, self.x_axes, self.x, strict=True)
        ]

    def batched(self, size: int, at: Sequence[Any], x: Sequence[Any]) -> LinearMap | None:
        """Twice folded would need the axes again; `jax.vmap` of this one will do."""
        return None

    def _fold(self, arrays: Leaves, axes: Sequence[int | None], batched: Sequence[bool]) -> Leaves:
        return [
            a if a is None or axis is None else self._fold_one(a, axis, here)
            for a, axis, here in zip(arrays, axes, batched, strict=True)
        ]

    def _fold_one(self, a: Any, axis: int, batched: bool) -> Any:
        return fold(a if batched else jnp.broadcast_to(a, (self.size, *a.shape)), axis)

    def _unfold(self, arrays: Leaves, axes: Sequence[int | None]) -> Leaves:
        return [
            a if a is None or axis is None else unfold(a, axis, self.size)
            for a, axis in zip(arrays, axes, strict=True)
        ]


def fold(a: Any, axis: int) -> Any:
    """Join the leading axis to another one, told by where it is without the leading one."""
    a = jnp.moveaxis(a, 0, axis)
    return a.reshape(*a.shape[:axis], a.shape[axis] * a.shape[axis + 1], *a.shape[axis + 2 :])


def unfold(a: Any, axis: int, size: int) -> Any:
    """Take a leading axis of this size out of another one again."""
    a = a.reshape(*a.shape[:axis], size, a.shape[axis] // size, *a.shape[axis + 1 :])
    return jnp.moveaxis(a, axis, 0)


def axis_leaves(tree: Any, axes: Any) -> tuple[int | None, ...]:
    """One axis for each leaf of a tree, from a tree of axes that is a prefix of it (-1: none)."""
    leaves: list[int] = []
    jax.tree.map(lambda axis, part: leaves.extend([axis] * len(jax.tree.leaves(part))), axes, tree)
    return tuple(None if axis < 0 else axis for axis in leaves)
