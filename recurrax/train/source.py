"""Where the batch of a training step comes from, and on which devices it lies."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from recurrax import keys
from recurrax.tasks.batch import Batch, check_batch
from recurrax.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from recurrax.train.networks.model import Model
    from recurrax.train.networks.network import Network

    Draw = Callable[[Any, Any, Any, Any], Batch]
    """`draw(key, step, index, data) -> Batch`, of the step in all and its index in one call."""

_AHEAD = 16  # batches of an iterable that go to the device together
_AXIS = "batch"


class BatchSource(NamedTuple):
    """What there is to learn from."""

    task: Task | None  # None for the user's own batches
    draw: Draw  # inside the compiled loop
    feed: Feed  # of data, outside of it
    test: Batch | None  # on the devices
    batch_size: int
    placement: Placement


def batch_source(
    task: Task | Iterable[Batch], net: Network | Model, batch_size: int
) -> BatchSource:
    """Return the source for `fit`: a task, or batches, whose own size then counts."""
    if isinstance(task, Task):
        return task_source(task, batch_size, placement(batch_size))
    stacks = StackedBatches(task, net.input_size, net.output_size)
    size = stacks.batch_size
    return BatchSource(None, take_from_stack, stacks, None, size, placement(size))


def task_source(task: Task, batch_size: int, where: Placement) -> BatchSource:
    """Return the source that a task is, its data on the devices."""
    train, test = (None, None) if task.split is None else where.place(tuple(task.split()))
    return BatchSource(task, FromTask(task, batch_size), Feed(train), test, batch_size, where)


@dataclasses.dataclass(frozen=True)
class FromTask:
    """Step n draws its batch with `keys.of_step(key, n)`: from the key and n alone.

    So a run that is resumed sees the same batches as one that was never stopped.
    """

    task: Task
    batch_size: int

    def __call__(self, key: Any, step: Any, index: Any, data: Batch | None) -> Batch:
        del index
        return self.task.draw(keys.of_step(key, step), self.batch_size, data)


def take_from_stack(key: Any, step: Any, index: Any, data: Batch) -> Batch:
    """Return batch `index` of those that were stacked for one call."""
    del key, step
    batch: Batch = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, index, 0, False), data)
    return batch


class Feed:
    """What a compiled loop is given for its next steps: the data of a task, always the same."""

    def __init__(self, data: Any = None) -> None:
        self.example = data  # something of the shape that `take` gives

    def skip(self, steps: int) -> None:
        """Leave out what the steps that are done already took."""

    def take(self, count: int) -> tuple[int, Any]:
        """Return how many of the next `count` steps there is data for, and the data."""
        return count, self.example


class StackedBatches(Feed):
    """The user's batches, a few at a time, in stacks of one size so that nothing recompiles."""

    def __init__(
        self, batches: Iterable[Batch], input_size: int | None, output_size: int | None
    ) -> None:
        iterator = iter(batches)
        first = next(iterator, None)
        if first is None:
            raise ValueError("task, an iterable of batches, has none")
        self._sizes = (input_size, output_size)
        check_batch(first, *self._sizes)
        self._batches: Iterator[Batch] = itertools.chain([first], iterator)
        self._shapes = _shapes(first)
        super().__init__(_stacked([self._checked(first)]))
        self.batch_size = int(np.shape(first.weights)[1])

    def skip(self, steps: int) -> None:
        done = sum(1 for _ in itertools.islice(self._batches, steps))
        if done < steps:
            raise ValueError(
                f"task, an iterable, ended after {done} batches, but {steps} steps are done "
                "already. To resume, give one that begins where the first run began."
            )

    def take(self, count: int) -> tuple[int, Any]:
        taken = [self._checked(b) for b in itertools.islice(self._batches, min(count, _AHEAD))]
        return len(taken), _stacked(taken) if taken else None

    def _checked(self, batch: Any) -> Batch:
        check_batch(batch, *self._sizes)
        if (shapes := _shapes(batch)) != self._shapes:
            raise ValueError(
                f"the batches of task must be of one shape: {shapes} came after {self._shapes}. "
                "Pad them, with weights of 0 where nothing is asked; mask and begins are in all of "
                "them or in none."
            )
        host: Batch = jax.tree.map(np.asarray, batch)
        return host


def _shapes(batch: Batch) -> str:
    """Return the shapes of what a batch has, in words."""
    return ", ".join(f"{n} {np.shape(a)}" for n, a in batch._asdict().items() if a is not None)


def _stacked(batches: list[Batch]) -> Batch:
    padded = batches + batches[-1:] * (_AHEAD - len(batches))
    stack: Batch = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
    return stack


# --- devices --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where arrays lie: on JAX's default device, or on all devices of a mesh.

    The program is the same for any number of devices: the batch is split along its batch axis,
    all else is the same on each device, and XLA adds the sums between them.
    """

    mesh: Mesh | None

    def whole(self, tree: Any) -> Any:
        """Inside a jitted function: the same on every device."""
        if self.mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, NamedSharding(self.mesh, PartitionSpec()))

    def spread(self, batch: Batch) -> Batch:
        """Inside a jitted function: a share of B each, of leaves `[T, B, ...]` and begins `[B]`."""
        if self.mesh is None:
            return batch
        by_time, by_row = (
            NamedSharding(self.mesh, PartitionSpec(*axes)) for axes in ((None, _AXIS), (_AXIS,))
        )
        spread: Batch = jax.lax.with_sharding_constraint(batch._replace(begins=None), by_time)
        return spread._replace(begins=jax.lax.with_sharding_constraint(batch.begins, by_row))

    def place(self, tree: Any) -> Any:
        """Fresh copies of all leaves, the same on every device.

        Fresh, since what is trained on is donated: neither the caller's arrays nor a leaf that
        stands in two places may be.
        """
        if self.mesh is not None:  # NumPy's belong to no device; it does not know keys
            tree = jax.tree.map(lambda leaf: leaf if is_key(leaf) else np.asarray(leaf), tree)
        return _copied(self, tree)


ONE_DEVICE = Placement(None)


def placement(batch_size: int) -> Placement:
    """Return all devices, if there are several and the batch divides among them.

    Raises:
      ValueError: if several processes work together and the batch does not divide, since each
        must have its share.
    """
    devices = jax.devices()
    if len(devices) > 1 and batch_size % len(devices) == 0:
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


def is_key(leaf: Any) -> bool:
    """Whether it is a typed random key."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
