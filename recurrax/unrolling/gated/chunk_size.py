"""How many steps are worked on at once, and what is kept for the backward pass: by shape.

Matrix products over many steps at once are the faster the larger they are, until what they produce
falls out of the cache. And memory is not free on a CPU, where a program's large buffers are fresh
pages each time it runs: recomputing a pre-activation is often cheaper than keeping it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
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
