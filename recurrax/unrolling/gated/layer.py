"""One gated layer as its engine sees it: one batch axis, one sequence, time cut into chunks.

Matrix products over many steps at once are the faster the larger they are, until what they produce
falls out of the cache. And memory is not free on a CPU, where a program's large buffers are fresh
pages each time it runs: recomputing a pre-activation is often cheaper than keeping it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.gated.derivatives import TracedPointwise
    from recurrax.gated.step import GatedStep


# Of the pre-activations of one chunk. On a CPU they are to stay in the cache, and the backward pass
# has larger products to gain by; on an accelerator each product is a launch, and memory is plenty.
_CHUNK_BYTES = {"cpu": 3 * 2**19}
_CHUNK_BYTES_FORWARD = {"cpu": 2**20}
_CHUNK_BYTES_ELSEWHERE = 2**26

# Keep what was computed in the forward pass if recomputing it took more operations than this for
# each number kept. On a CPU an operation takes some 3 picoseconds, a number of fresh memory some
# nanoseconds.
_OPERATIONS_PER_NUMBER = 1200


class Switches(NamedTuple):
    """What is not differentiated."""

    mask: chex.Array | None  # bool [T, B]
    resets: chex.Array | None  # bool [T, B]


class Operands(NamedTuple):
    """What is differentiated. Also the shape of a gradient, None where it is not wanted."""

    w_in: Any  # [I, G*H]
    w_rec: Any  # [H, G*H]
    b: Any  # [G*H]
    unit: Any  # a pytree of [H] arrays
    state: tuple[Any, ...]  # the fields of the first state, each [B, H]
    start: tuple[Any, ...] | None  # the state that a reset returns to
    xs: Any  # [T, B, I]


class Plan(NamedTuple):
    """How much is worked on at once and kept, where the shapes are not to decide it."""

    chunk: int  # steps
    keep: bool  # whether the forward pass keeps what the derivatives are computed from


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """What is static.

    Args:
      step: the gated step.
      reverse: whether time runs from the end to the start.
      remat: how many steps apart the states are that are kept for the backward pass, or None.
      all_fields: whether every field of the state is wanted at every instant, or h alone.
      kernel: what runs both passes in place of the loops here, with their `forward` and `backward`.
      plan: the size of chunks and what is kept, or None to choose them by the shapes.
    """

    step: GatedStep
    reverse: bool
    remat: int | None
    all_fields: bool
    kernel: Any = None
    plan: Plan | None = None

    @property
    def h(self) -> int:
        """Which field of the state is h."""
        return self.step.h_field

    def instant(self, ops: Operands) -> tuple[Any, ...]:
        """What the pointwise function is given at one instant, as shapes."""

        def first(ops: Operands) -> Any:
            z_in, z_rec = self.step.pre_activations(ops, ops.state[self.h], ops.xs[0])
            return ops.unit, z_in, z_rec, ops.state

        shapes: tuple[Any, ...] = jax.eval_shape(first, ops)
        return shapes

    def chunks(self, ops: Operands, *, forward: bool = False) -> Chunks:
        """How time is cut: into chunks of a size that divides T, where one is near."""
        length, batch = (int(n) for n in ops.xs.shape[:2])
        fixed = self.remat or (self.plan.chunk if self.plan else None)
        if fixed is not None:
            return Chunks(length, min(fixed, length), self.reverse)
        rooms = _CHUNK_BYTES_FORWARD if forward else _CHUNK_BYTES
        room: int = rooms.get(jax.default_backend(), _CHUNK_BYTES_ELSEWHERE)
        step = max(batch, 1) * int(ops.w_rec.shape[1]) * int(ops.w_rec.dtype.itemsize)
        # A quarter of the time at most: what is computed for a chunk takes several times its room.
        # Two at least: a loop in the loop that runs once is no loop, and its buffers are copied.
        target = max(2, min(room // step, -(-length // 4)))
        if target >= length:
            return Chunks(length, length, self.reverse)
        near = [d for d in range(max(2, target // 2), 2 * target + 1) if length % d == 0]
        size = min(near, key=lambda d: max(d / target, target / d), default=target)
        return Chunks(length, size, self.reverse)

    def keeps_gates(self, ops: Operands, traced: TracedPointwise) -> bool:
        """Whether the forward pass keeps what the derivatives are computed from."""
        if self.plan is not None:
            return self.plan.keep
        size, gates = sum(w.shape[0] for w in (ops.w_in, ops.w_rec)), ops.w_rec.shape[1]
        operations: int = 2 * ops.xs.shape[1] * size * gates
        numbers = traced.bytes_kept / ops.w_rec.dtype.itemsize
        return bool(operations > _OPERATIONS_PER_NUMBER * numbers)


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Time in pieces.

    Args:
      length: T.
      size: how many steps are in each chunk but the last, which may be shorter.
      reverse: whether time runs from the end to the start.
    """

    length: int
    size: int
    reverse: bool

    def backwards(self) -> Chunks:
        """The same pieces in the other order."""
        return dataclasses.replace(self, reverse=not self.reverse)

    def run(
        self, body: Callable[..., tuple[Any, Any]], carry: Any, arrays: Any, rows: Any = None
    ) -> tuple[Any, Any]:
        """`body(carry, first index, part of each array, row) -> (carry, outputs)`, in time's order.

        Args:
          body: called on each chunk; its outputs lead with the chunk's steps, or with one row.
          carry: handed from chunk to chunk.
          arrays: a pytree of `[T, ...]`, cut into chunks.
          rows: a pytree of arrays with one row for each chunk.

        Returns:
          The last carry and the outputs, joined over the chunks.
        """
        count = self.length // self.size
        steps = count * self.size  # in chunks of full size

        def whole(carry: Any) -> tuple[Any, Any]:
            split = jax.tree.map(
                lambda a: a[:steps].reshape(count, self.size, *a.shape[1:]), arrays
            )
            firsts = self.size * np.arange(count, dtype=np.int32)
            over = firsts, split, jax.tree.map(lambda a: a[:count], rows)
            if count == 1:  # no loop: what follows may be fused with it
                return body(carry, *jax.tree.map(lambda a: a[0], over))
            carry, outs = jax.lax.scan(
                lambda carry, now: body(carry, *now), carry, over, reverse=self.reverse
            )
            return carry, jax.tree.map(
                lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), outs
            )

        def tail(carry: Any) -> tuple[Any, Any]:
            part = jax.tree.map(lambda a: a[steps:], arrays)
            return body(carry, jnp.int32(steps), part, jax.tree.map(lambda a: a[count], rows))

        if steps == self.length:
            return whole(carry)
        if self.reverse:
            carry, last = tail(carry)
            carry, first = whole(carry)
        else:
            carry, first = whole(carry)
            carry, last = tail(carry)
        return carry, jax.tree.map(lambda *a: jnp.concatenate(a), first, last)

    def rows_before(self, first: Any, states: Any) -> Any:
        """The state before each chunk, a row for each, from the first and those after each step."""

        def rows(first: Any, after: Any) -> Any:
            if self.reverse:
                return jnp.concatenate([after[self.size :: self.size], first[None]])
            last = after[self.size - 1 : self.length - 1 : self.size]
            return jnp.concatenate([first[None], last])

        return jax.tree.map(rows, first, states)

    def previous(self, before: Any, states: Any) -> Any:
        """The state before each step of one chunk."""

        def shift(before: Any, after: Any) -> Any:
            if self.reverse:
                return jnp.concatenate([after[1:], before[None]])
            return jnp.concatenate([before[None], after[:-1]])

        return jax.tree.map(shift, before, states)


def where(flags: chex.Array | None, yes: Any, no: Any) -> Any:
    """`jnp.where` over a tree of `[..., H]` arrays with flags `[...]`; yes where there are none."""
    if flags is None:
        return yes
    return jax.tree.map(lambda a, b: jnp.where(flags[..., None], a, b), yes, no)


def product_over_all(a: Any, b: Any, precision: Any = None) -> Any:
    """`sum over time and batch of a^T b`, as one product."""
    a, b = (v.reshape(v.shape[0] * v.shape[1], v.shape[2]) for v in (a, b))
    kind = at_least_float32(jnp.result_type(a, b))
    dims = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(a, b, dims, precision=precision, preferred_element_type=kind)


def sum_over_all(a: Any) -> Any:
    """The sum over all but the last axis, in float32 at least."""
    return jnp.sum(a, axis=tuple(range(a.ndim - 1)), dtype=at_least_float32(a.dtype))


def at_least_float32(dtype: Any) -> Any:
    """The dtype, float32 if it is narrower."""
    return jnp.promote_types(dtype, jnp.float32)


# --- inside jax.shard_map: which mesh axes a value varies over -----------------------------------

# A value is known there to be the same on all devices of an axis or not, and a loop's carry must
# stay what it was. Elsewhere these do nothing.


def _mesh_axes(aval: Any) -> frozenset[Any]:
    """The mesh axes that an array of this type varies over."""
    kind = getattr(aval, "manual_axis_type", None)
    return frozenset() if kind is None else frozenset(kind.varying)


def varying(tree: Any, like: Any) -> Any:
    """A tree as one that varies over the mesh axes that any leaf of `like` varies over."""
    all_axes = [_mesh_axes(jax.typeof(leaf)) for leaf in jax.tree.leaves(like)]
    wanted: frozenset[Any] = frozenset().union(*all_axes)

    def cast(leaf: Any) -> Any:
        missing = tuple(wanted - _mesh_axes(jax.typeof(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if wanted else tree


def abstract(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """The type of an array that varies over all axes that any of these types does."""
    aval = jax.core.ShapedArray(shape, dtype)
    widest = max(like, key=lambda a: len(_mesh_axes(a)))
    if not _mesh_axes(widest):
        return aval
    sharding = widest.sharding.update(spec=jax.sharding.PartitionSpec(*(None,) * len(shape)))
    return aval.update(sharding=sharding, manual_axis_type=widest.manual_axis_type)
