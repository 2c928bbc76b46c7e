"""One device, or the batch spread over all of them."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from recurrax.tasks.batch import Batch

_AXIS = "batch"


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where arrays lie: on JAX's default device, or on all devices of a mesh.

    The program is the same for any number of devices: the batch is split along its batch axis,
    all else is the same on each device, and XLA adds the sums between them.
    """

    mesh: Mesh | None

    def whole(self, tree: Any) -> Any:
        """Inside a jitted function: the same on every device."""
        return tree if self.mesh is None else self._constrain(tree, PartitionSpec())

    def spread(self, batch: Batch) -> Batch:
        """Inside a jitted function: xs, targets and weights `[T, B, ...]`, a share of B each."""
        spread: Batch = batch
        if self.mesh is not None:
            spread = self._constrain(batch, PartitionSpec(None, _AXIS))
        return spread

    def place(self, tree: Any) -> Any:
        """Fresh copies of all leaves, the same on every device.

        Fresh, since what is trained on is donated: neither the caller's arrays nor a leaf that
        stands in two places may be.
        """
        if self.mesh is not None:
            tree = jax.tree.map(_host, tree)
        return _copied(self, tree)

    def _constrain(self, tree: Any, spec: PartitionSpec) -> Any:
        assert self.mesh is not None
        return jax.lax.with_sharding_constraint(tree, NamedSharding(self.mesh, spec))


ONE_DEVICE = Placement(None)


def placement(batch_size: int | None) -> Placement:
    """All devices, if there are several and the batch divides among them.

    Args:
      batch_size: B; None if it is not known before the data comes.

    Raises:
      ValueError: if several processes work together and the batch does not divide, since each
        must have its share.
    """
    devices = jax.devices()
    if len(devices) > 1 and batch_size is not None and batch_size % len(devices) == 0:
        return Placement(Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,)))
    if jax.process_count() > 1:
        raise ValueError(
            f"batch_size must be a multiple of the {len(devices)} devices of all "
            f"{jax.process_count()} processes, got {batch_size}"
        )
    return ONE_DEVICE


@partial(jax.jit, static_argnums=0)
def _copied(where: Placement, tree: Any) -> Any:
    return where.whole(jax.tree.map(jnp.copy, tree))


def _host(leaf: Any) -> Any:
    """NumPy, which belongs to no device; a key, which NumPy does not know, stays."""
    return leaf if is_key(leaf) else np.asarray(leaf)


def is_key(leaf: Any) -> bool:
    """Whether it is a typed random key."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
