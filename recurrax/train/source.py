"""Where the batch of a training step comes from: a task, or the user's own iterable."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from recurrax import keys
from recurrax.tasks.batch import Batch, check_batch
from recurrax.tasks.task import Task
from recurrax.train.sharding import Placement, placement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from recurrax.train.network import Network

_AHEAD = 16  # batches of an iterable that go to the device together


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


@dataclasses.dataclass(frozen=True)
class FromIterable:
    """A step takes batch `index` of those that were stacked for its call."""

    def __call__(self, key: Any, step: Any, index: Any, data: Batch) -> Batch:
        del key, step
        return Batch(*(jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False) for leaf in data))


class BatchSource(NamedTuple):
    """What there is to learn from."""

    task: Task | None  # None for the user's own batches
    draw: Callable[[Any, Any, Any, Any], Batch]  # (key, step, index, data), inside the loop
    feed: Feed  # of data, outside of it
    test: Batch | None  # on the devices
    batch_size: int
    placement: Placement


def batch_source(task: Task | Iterable[Batch], net: Network, batch_size: int) -> BatchSource:
    """Return the source for `fit`: a task, or batches, whose own size then counts."""
    if isinstance(task, Task):
        return task_source(task, batch_size, placement(batch_size))
    stacks = StackedBatches(task, net.input_size, net.output_size)
    where = placement(stacks.batch_size)
    return BatchSource(None, FromIterable(), stacks, None, stacks.batch_size, where)


def task_source(task: Task, batch_size: int, where: Placement) -> BatchSource:
    """Return the source that a task is, its data on the devices."""
    train, test = (None, None) if task.split is None else where.place(tuple(task.split()))
    return BatchSource(task, FromTask(task, batch_size), Feed(train), test, batch_size, where)


class Feed:
    """What a compiled loop is given for its next steps: the data of a task, always the same."""

    def __init__(self, data: Any = None) -> None:
        self.example = data  # something of the shape that `take` gives

    def skip(self, steps: int) -> None:
        """Leave out what the steps that are done already took."""

    def take(self, count: int) -> tuple[int, Any]:
        """Return the data of the next steps, and how many of `count` they are enough for."""
        return count, self.example


class StackedBatches(Feed):
    """The user's batches, a few at a time, in stacks of one size so that nothing recompiles."""

    def __init__(self, batches: Iterable[Batch], input_size: int, output_size: int) -> None:
        iterator = iter(batches)
        first = next(iterator, None)
        if first is None:
            raise ValueError("task, an iterable of batches, has none")
        self._sizes = (input_size, output_size)
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
        if _shapes(batch) != self._shapes:
            raise ValueError(
                f"the batches of task must be of one shape: xs, targets and weights of "
                f"{_shapes(batch)} came after {self._shapes}. Pad them, with weights of 0 where "
                "nothing is asked."
            )
        return Batch(*map(np.asarray, batch))


def _shapes(batch: Any) -> list[tuple[int, ...]]:
    return [np.shape(leaf) for leaf in batch]


def _stacked(batches: list[Batch]) -> Batch:
    padded = batches + batches[-1:] * (_AHEAD - len(batches))
    return Batch(*(np.stack(leaves) for leaves in zip(*padded, strict=True)))
