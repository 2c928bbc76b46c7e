"""Loads, stores and products of tiles: `[rows, columns]` of which some lie outside the array."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas import triton as plt

if TYPE_CHECKING:
    from recurrax.unrolling.kernel.placement import Plan


@dataclasses.dataclass(frozen=True)
class Tile:
    """This block's examples: some rows of a batch, all hidden units.

    Args:
      plan: how many rows and columns there are room for.
      batch: B.
      hidden: H.
      group: which of the N groups.
      first: the first row.
    """

    plan: Plan
    batch: int
    hidden: int
    group: Any
    first: Any

    @property
    def inside(self) -> Any:
        """Which numbers of a tile are in the array; None for all."""
        shape = (self.plan.rows, self.plan.columns)
        rows = self.first + _iota(shape, 0) < self.batch
        columns = _iota(shape, 1) < self.hidden
        all_rows = self.batch % self.plan.rows == 0
        all_columns = self.hidden == self.plan.columns
        if all_rows:
            return None if all_columns else columns
        return rows if all_columns else rows & columns

    def load(self, ref: Any, *when: Any, gate: int = 0) -> Any:
        """A tile in float32 of `[N, (T,) B, (G*) H]`, zero outside."""
        return _load(self._at(ref, when, gate), self.inside).astype(jnp.float32)

    def load_all(self, refs: Any, *when: Any) -> tuple[Any, ...]:
        """A tile of each."""
        return tuple(self.load(ref, *when) for ref in refs)

    def store(self, ref: Any, value: Any, *when: Any, gate: int = 0) -> None:
        """Write what is inside."""
        shape = (self.plan.rows, self.plan.columns)
        value = jnp.broadcast_to(jnp.asarray(value, ref.dtype), shape)
        plt.store(self._at(ref, when, gate), value, mask=self.inside)

    def flags(self, ref: Any, t: Any) -> Any:
        """A column of flags at one instant, `[rows, 1]`; None where there are none."""
        if ref is None:
            return None
        whole = self.batch % self.plan.rows == 0
        rows = self.first + jnp.arange(self.plan.rows, dtype=jnp.int32)
        found = _load(ref.at[self.group, t, rows], None if whole else rows < self.batch)
        return (found != 0)[:, None]

    def column(self, ref: Any) -> Any:
        """A number for each unit, `[1, columns]`, from `[N, H]`."""
        columns = jnp.arange(self.plan.columns, dtype=jnp.int32)
        inside = None if self.hidden == self.plan.columns else columns < self.hidden
        return _load(ref.at[self.group, columns], inside).astype(jnp.float32)[None, :]

    def weights(self, ref: Any, gate: int) -> Any:
        """A gate's `[columns, columns]` block of `[N, H, G*H]`, zero outside."""
        row, column = (_iota((self.plan.columns,) * 2, axis) for axis in (0, 1))
        inside = None
        if self.hidden < self.plan.columns:
            inside = (row < self.hidden) & (column < self.hidden)
        return _load(ref.at[self.group, row, gate * self.hidden + column], inside)

    def clean(self, value: Any) -> Any:
        """Zero in the columns outside, where a pointwise function may have made anything."""
        shape = (self.plan.rows, self.plan.columns)
        value = jnp.broadcast_to(jnp.asarray(value, jnp.float32), shape)
        if self.hidden == self.plan.columns:
            return value
        column = _iota((self.plan.rows, self.plan.columns), 1)
        return jnp.where(column < self.hidden, value, jnp.float32(0))

    def _at(self, ref: Any, when: tuple[Any, ...], gate: int) -> Any:
        row, column = (_iota((self.plan.rows, self.plan.columns), axis) for axis in (0, 1))
        return ref.at[(self.group, *when, self.first + row, gate * self.hidden + column)]


def _iota(shape: tuple[int, ...], axis: int) -> Any:
    return jax.lax.broadcasted_iota(jnp.int32, shape, axis)


def _load(at: Any, inside: Any) -> Any:
    return plt.load(at) if inside is None else plt.load(at, mask=inside, other=0)


class Resident(NamedTuple):
    """What a block holds for the whole sequence."""

    weights: tuple[Any, ...]  # a [columns, columns] tile for each gate
    unit: Any
    columns: Any


def hold(tile: Tile, gates: int, refs: Any) -> Resident:
    """Load it."""
    weights = tuple(tile.weights(refs.w_rec, g) for g in range(gates))
    return Resident(weights, *jax.tree.map(tile.column, (refs.unit, refs.columns)))


def product(plan: Plan, a: Any, w: Any, *, transposed: bool = False) -> Any:
    """`a @ w` or `a @ w.T` in float32; the operands in the dtype of the weights."""
    dims = (((1,), (1 if transposed else 0,)), ((), ()))
    return jax.lax.dot_general(
        a.astype(w.dtype),
        w,
        dims,
        precision=plan.precision if w.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )


def select(flags: Any, yes: Any, no: Any) -> Any:
    """`where` with a column of flags; yes where there are none."""
    if flags is None:
        return yes
    return tuple(
        jnp.where(jnp.broadcast_to(flags, n.shape), y, n) for y, n in zip(yes, no, strict=True)
    )
