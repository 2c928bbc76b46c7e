"""How the work is laid on a device, and what fits there.

A block holds the recurrent weights in shared memory for the whole sequence, so these decide how
large a cell may be: `G H^2` numbers, H rounded up to a power of two, and twice that in float32 with
accurate products, where each number is held as two of tf32 (Ootomo and Yokota, 2022, section 3).
Beside them lie the tiles that warps exchange, and those that are read ahead of their step.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

DTYPES = ("float32", "bfloat16", "float16")

# Bytes of shared memory that one block may ask for, by compute capability: table "Technical
# Specifications per Compute Capability" of NVIDIA's CUDA programming guide, less the kilobyte
# that the system keeps. Used where the device does not say.
_SHARED_MEMORY = {(8, 0): 163, (8, 6): 99, (8, 7): 163, (8, 9): 99, (9, 0): 227, (10, 0): 227,
                  (10, 3): 227, (11, 0): 227, (12, 0): 99, (12, 1): 99}  # fmt: skip

# Tensor cores of bfloat16 and tf32 began with this one.
OLDEST = (8, 0)


@dataclasses.dataclass(frozen=True)
class Device:
    """What a plan must know of a GPU.

    Args:
      capability: the compute capability, such as (9, 0).
      shared_memory: bytes that one block may have.
    """

    capability: tuple[int, int]
    shared_memory: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """The tile of one block.

    Args:
      rows: examples in a tile; the tensor cores take 16 at least.
      columns: hidden units in a tile, a power of two: H and what is left empty.
      warps: of 32 threads in a block.
      stages: 1 to read what a step needs when it begins, 2 or 3 to read it that much sooner.
      precision: of products of float32.
    """

    rows: int
    columns: int
    warps: int
    stages: int
    precision: Any


def attached() -> Device | None:
    """The GPU that JAX would use, if it is an NVIDIA one."""
    chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
    device = chosen if isinstance(chosen, jax.Device) else jax.devices(chosen)[0]
    capability = str(getattr(device, "compute_capability", ""))
    if device.platform != "gpu" or not capability.replace(".", "").isdigit():
        return None
    major, minor = (int(n) for n in capability.split("."))
    known = getattr(device, "shared_memory_per_block_optin", None)
    return Device((major, minor), int(known or _by_capability(major, minor)))


def _by_capability(major: int, minor: int) -> int:
    same = [kb for (m, n), kb in _SHARED_MEMORY.items() if m == major and n <= minor]
    return 1024 * (same[-1] if same else min(_SHARED_MEMORY.values()))


def shared_memory(plan: Plan, gates: int, fields: int, dtype: Any) -> int:
    """Bytes that a block needs at most: the weights, tiles to exchange, tiles read ahead."""
    size = jnp.dtype(dtype).itemsize
    held = 2 if jnp.dtype(dtype) == jnp.float32 and plan.precision != TF32 else 1
    weights = int(held * size * gates * plan.columns**2)
    tile = plan.rows * plan.columns
    # The backward pass reads the most: both shares of the gates, the old state and its errors.
    ahead = int((plan.stages - 1) * (2 * gates + 2 * fields) * size)
    return weights + (2 * 4 + ahead) * tile


def addressable(shape: tuple[int, ...]) -> bool:
    """Whether a kernel can count the numbers of such an array: it does so in 32 bits."""
    return math.prod(shape) < 2**31


def plan(gates: int, fields: int, hidden: int, dtype: Any, device: Device | None = None) -> Plan:
    """The tile for a cell of this size, with as many stages as the device has room for."""
    columns = max(16, 1 << (hidden - 1).bit_length())
    # A warp takes some columns of every gate; eight share a block of 64 and more.
    deep = Plan(16, columns, 8 if columns >= 64 else 4, 3, _precision())
    choices = [dataclasses.replace(deep, stages=n) for n in (3, 2, 1)]
    fitting = [p for p in choices if device is None or fits(p, gates, fields, dtype, device)]
    return fitting[0] if fitting else choices[-1]


def fits(plan: Plan, gates: int, fields: int, dtype: Any, device: Device) -> bool:
    """Whether a block of this device has the shared memory."""
    return shared_memory(plan, gates, fields, dtype) <= device.shared_memory


def largest(device: Device, gates: int, fields: int, dtype: Any) -> int:
    """The largest H whose weights a block can hold, a power of two; 0 if there is none."""
    plans = [plan(gates, fields, 16 << i, dtype, device) for i in range(12)]
    return max((p.columns for p in plans if fits(p, gates, fields, dtype, device)), default=0)


ACCURATE = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
TF32 = jax.lax.DotAlgorithmPreset.TF32_TF32_F32
_ON_REQUEST = ("tensorfloat32", "bfloat16", "fastest", "default", "TF32_TF32_F32")


def _precision() -> Any:
    """Of float32: accurate, unless the user said to JAX that tf32 will do."""
    said = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return TF32 if str(said) in _ON_REQUEST else ACCURATE
