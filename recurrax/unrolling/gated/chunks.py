"""Time in chunks: how many steps are worked on at once, how they are run, and sums over them.

Matrix products over many steps at once are the faster the larger they are, until what they produce
falls out of the cache. And memory is not free on a CPU, where a program's large buffers are fresh
pages each time it runs: recomputing a pre-activation is often cheaper than keeping it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.gated.local import PointwiseDerivatives
    from recurrax.unrolling.gated.operands import LayerSpec, Operands


# Of the pre-activations of one chunk. On a CPU they are to stay in the cache, and the backward pass
# has larger products to gain by; on an accelerator each product is a launch, and memory is plenty.
_CHUNK_BYTES = {"cpu": 3 * 2**19}
_CHUNK_BYTES_FORWARD = {"cpu": 2**20}
_CHUNK_BYTES_ELSEWHERE = 2**26

# Keep what was computed in the forward pass if recomputing it took more operations than this for
# each number kept. On a CPU an operation takes some 3 picoseconds, a number of fresh memory some
# nanoseconds.
_OPERATIONS_PER_NUMBER = 1200


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Time in pieces.

    Args:
      length: T.
      size: how many steps are in each chunk.
      reverse: whether time runs from the end to the start.
    """

    length: int
    size: int
    reverse: bool

    def backwards(self) -> Chunks:
        """The same pieces in the other order."""
        return dataclasses.replace(self, reverse=not self.reverse)

    @property
    def count(self) -> int:
        """How many whole chunks there are."""
        return self.length // self.size

    @property
    def whole(self) -> int:
        """How many steps are in whole chunks; the rest is one shorter chunk at the end."""
        return self.count * self.size

    def run(
        self, body: Callable[..., tuple[Any, Any]], carry: Any, arrays: Any, rows: Any = None
    ) -> tuple[Any, Any]:
        """`body(carry, first index, part of each array, row) -> (carry, outputs)`, in time's order.

        Args:
          body: called on each chunk; its outputs lead with the chunk's steps.
          carry: handed from chunk to chunk.
          arrays: a pytree of `[T, ...]`, cut into chunks.
          rows: a pytree of arrays with one row for each chunk.

        Returns:
          The last carry and the outputs, joined to `[T, ...]`.
        """

        def one(carry: Any, now: Any) -> tuple[Any, Any]:
            return body(carry, *now)

        def whole(carry: Any) -> tuple[Any, Any]:
            split = jax.tree.map(
                lambda a: a[: self.whole].reshape(self.count, self.size, *a.shape[1:]), arrays
            )
            firsts = self.size * np.arange(self.count, dtype=np.int32)
            mine = jax.tree.map(lambda a: a[: self.count], rows)
            if self.count == 1:  # no loop: what follows may be fused with it
                carry, outs = one(carry, jax.tree.map(lambda a: a[0], (firsts, split, mine)))
                return carry, outs
            carry, outs = jax.lax.scan(one, carry, (firsts, split, mine), reverse=self.reverse)
            joined = jax.tree.map(_join, outs)
            return carry, joined

        def tail(carry: Any) -> tuple[Any, Any]:
            last = jax.tree.map(lambda a: a[self.count], rows)
            return body(
                carry, jnp.int32(self.whole), jax.tree.map(lambda a: a[self.whole :], arrays), last
            )

        parts = [whole, tail] if self.whole < self.length else [whole]
        outs = []
        for part in reversed(parts) if self.reverse else parts:
            carry, out = part(carry)
            outs.append(out)
        if len(outs) == 1:
            return carry, outs[0]
        ordered = reversed(outs) if self.reverse else outs
        return carry, jax.tree.map(lambda *a: jnp.concatenate(a), *ordered)

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


def _join(a: Any) -> Any:
    """`[chunks, C, ...]` to `[chunks * C, ...]`, also where there is nothing in it."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])


def chunk_size(spec: LayerSpec, ops: Operands, *, forward: bool = False) -> int:
    """How many steps are worked on at once; a divisor of T where one is near.

    Args:
      spec: what is static; `remat` decides, if it is given.
      ops: the arrays, whose shapes decide otherwise.
      forward: whether it is for the forward pass.
    """
    length, batch = (int(n) for n in ops.xs.shape[:2])
    if spec.remat is not None:
        return min(spec.remat, length)
    if spec.plan is not None:
        return min(spec.plan.chunk, length)
    rooms = _CHUNK_BYTES_FORWARD if forward else _CHUNK_BYTES
    room: int = rooms.get(jax.default_backend(), _CHUNK_BYTES_ELSEWHERE)
    step = max(batch, 1) * int(ops.w_rec.shape[1]) * int(ops.w_rec.dtype.itemsize)
    # A quarter of the time at most: what is computed for a chunk takes several times its room. Two
    # at least: a loop within the loop that runs once is no loop, and its buffers are copied.
    return _near_divisor(length, max(2, min(room // step, -(-length // 4))))


def _near_divisor(length: int, target: int) -> int:
    """The divisor of length nearest to target within a factor of two, else target itself."""
    if target >= length:
        return length
    near = [d for d in range(max(2, target // 2), 2 * target + 1) if length % d == 0]
    return min(near, key=lambda d: max(d / target, target / d), default=target)


def keeps_gates(ops: Operands, local: PointwiseDerivatives) -> bool:
    """Whether the forward pass keeps what the derivatives are computed from."""
    size, hidden = ops.w_in.shape[0], ops.w_rec.shape[0]
    batch = ops.xs.shape[1]
    operations: int = 2 * batch * (size + hidden) * ops.w_rec.shape[1]
    return bool(operations > _OPERATIONS_PER_NUMBER * local.bytes_kept / ops.w_rec.dtype.itemsize)


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
