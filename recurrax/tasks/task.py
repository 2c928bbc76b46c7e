"""The one protocol of all tasks: where batches come from, and how answers to them are judged."""

from __future__ import annotations

import abc
import dataclasses
import functools
import operator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.tasks.batch import Batch, Split, is_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

_RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem of known difficulty: where its batches come from, and how answers are judged.

    A task is a static value, as a cell is: one built twice from the same numbers never compiles
    twice. Endless tasks have a `sample`, tasks made of data a `split`; `draw` works for both.

    Args:
      name: what `rx.tasks.get` knows it by.
      input_size: I, features of one input.
      output_size: O, numbers in one output.
      length: T, steps of one sequence.
      loss: `loss(outputs, batch) -> scalar`, outputs `[T, B, O]`; a mean over what is asked for.
      metrics: `metrics(outputs, batch) -> {name: scalar}`.
      baseline: pairs `(name, value)`, for `"loss"` and each metric: what a guess without memory
        reaches.
      goal: `(metric, relation, value)`, such as `("mse", "<", 0.01)`: when the task is solved.
        Its first entry is the metric to show.
      sample: `sample(key, batch) -> Batch`, pure and jittable; None for a task made of data.
      split: `split() -> Split`, or None for an endless task.

    Raises:
      ValueError, TypeError: if a size is not a positive integer, if not exactly one of sample
        and split is given, or if the goal or the baseline names no metric.

    Example:
      >>> import jax, recurrax as rx
      >>> task = rx.tasks.adding(20)
      >>> batch = task.draw(jax.random.key(0), 32)
      >>> batch.xs.shape, batch.targets.shape, int(batch.weights.sum())
      ((20, 32, 2), (20, 32, 1), 32)
      >>> task == rx.tasks.adding(20), task.solved({"mse": 0.005})
      (True, True)
    """

    name: str
    input_size: int
    output_size: int
    length: int
    loss: Callable[[Any, Batch], Any]
    metrics: Callable[[Any, Batch], dict[str, Any]]
    baseline: tuple[tuple[str, float], ...]
    goal: tuple[str, str, float]
    sample: Callable[[Any, int], Batch] | None = None
    split: Callable[[], Split] | None = None

    def __post_init__(self) -> None:
        for size in ("input_size", "output_size", "length"):
            checks.check_positive_int(size, getattr(self, size))
        if (self.sample is None) == (self.split is None):
            raise ValueError(
                f"task {self.name!r} needs either sample, if it is endless, or split, if it is "
                f"made of data; got {'neither' if self.sample is None else 'both'}"
            )
        if len(self.goal) != 3 or self.goal[1] not in _RELATIONS:
            raise ValueError(
                f"goal must be (metric, relation, value) with a relation among "
                f"{', '.join(_RELATIONS)}, such as ('mse', '<', 0.01); got {self.goal!r}"
            )
        metric = self.goal[0]
        try:
            hash(self)
        except TypeError:
            raise TypeError(
                f"task {self.name!r} must be hashable, since it decides what is compiled: give "
                "baseline and goal as tuples, and functions or frozen dataclasses"
            ) from None
        names = tuple(name for name, _ in self.baseline)
        if "loss" not in names or metric not in names:
            raise ValueError(
                f"baseline must give a value for 'loss' and for the goal's metric {metric!r}, "
                f"got {', '.join(map(repr, names)) or 'none'}"
            )

    def solved(self, metrics: Any) -> Any:
        """Whether metrics reach the goal.

        Args:
          metrics: values by name, as `metrics` gives them; the goal's metric is read, and "loss" if
            it is among them.

        Returns:
          A bool, or an array of bool where the metric is an array, of several seeds say. NaN
          solves nothing, nor does a loss that is not finite.

        Raises:
          ValueError: if the goal's metric is not among them.
        """
        metric, relation, value = self.goal
        if metric not in metrics:
            raise ValueError(
                f"task {self.name!r} is solved by its {metric}, which is not among the metrics "
                f"given: {', '.join(map(str, metrics)) or 'none'}"
            )
        reached = np.asarray(_RELATIONS[relation](np.asarray(metrics[metric]), value))
        reached = reached & np.isfinite(np.asarray(metrics.get("loss", 0.0), np.float64))
        return reached if reached.ndim else bool(reached)

    def draw(self, key: chex.PRNGKey, size: int, data: Batch | None = None) -> Batch:
        """A minibatch of `size` sequences, pure and jittable, the same for the same key.

        Args:
          key: a JAX random key.
          size: B, how many sequences; static under `jax.jit`.
          data: None for an endless task, which draws from the key alone; for a task made of data a
            `Batch` as a `Split` stores it, usually `split().train`. Give it to your jitted function
            as an argument, or it is compiled in.

        Returns:
          A `Batch` with xs `[T, B, I]`; classes are int32, all else is JAX's default float.

        Raises:
          ValueError, TypeError: if size is no positive integer, key no random key, or data given
            to an endless task, missing, no `Batch`, or without sequences.
        """
        check_draw(key, size)
        if self.sample is not None:
            if data is not None:
                raise ValueError(f"task {self.name!r} is endless and draws no data; leave data out")
            return self.sample(key, size)
        if data is None:
            raise ValueError(
                f"task {self.name!r} is made of data: pass draw(key, size, split.train), with "
                "split = task.split()"
            )
        if not isinstance(data, Batch):
            raise TypeError(
                f"data must be a rx.tasks.Batch such as split.train, got {type(data).__name__}"
            )
        count = data.weights.shape[1]
        if count == 0:
            raise ValueError("data holds no sequences (B = 0) to draw from; expected B >= 1")
        return self.take(data, jax.random.randint(key, (size,), 0, count))

    def take(self, data: Batch, columns: chex.Array) -> Batch:
        """Chosen sequences of stored data, ready for a network.

        Args:
          data: a `Batch` as a `Split` stores it. Integer xs `[T, B]` become one-hot rows of I.
          columns: integers `[B]`, which sequences, in which order.

        Returns:
          As `draw`; floats are wider where the data are. It has a mask where the data have, and
          every sequence of it begins.
        """
        float_ = checks.default_float()
        stored = jax.tree.map(jnp.asarray, data._replace(begins=None))
        xs, targets, weights, mask, _ = jax.tree.map(lambda a: jnp.take(a, columns, 1), stored)
        if is_integer(xs):
            xs = jax.nn.one_hot(xs, self.input_size, dtype=float_)
        classes = is_integer(targets)
        targets = targets.astype(jnp.int32) if classes else checks.at_least(targets, float_)
        return Batch(checks.at_least(xs, float_), targets, checks.at_least(weights, float_), mask)


class Sampler(abc.ABC):
    """The `sample(key, batch)` of an endless task, a frozen dataclass: compiled once for equals."""

    @abc.abstractmethod
    def sample(self, key: chex.PRNGKey, batch: int) -> Batch:
        """Return a batch of so many sequences, at trace time."""

    def __call__(self, key: chex.PRNGKey, batch: int) -> Batch:
        check_draw(key, batch)
        drawn: Batch = _sample(self, key, batch)
        return drawn


@functools.partial(jax.jit, static_argnums=(0, 2))
def _sample(sampler: Sampler, key: chex.PRNGKey, batch: int) -> Batch:
    return sampler.sample(key, batch)


def answered_at_the_end(xs: chex.Array, answers: chex.Array) -> Batch:
    """Inputs `[T, B, I]` with one answer `[B]` or `[B, O]` a sequence, asked at the last step."""
    targets = jnp.zeros((xs.shape[0], *answers.shape), answers.dtype).at[-1].set(answers)
    return Batch(xs, targets, jnp.zeros(xs.shape[:2], checks.default_float()).at[-1].set(1))


def check_draw(key: Any, size: Any) -> None:
    checks.check_key(key)
    checks.check_positive_int("the batch size", size)


def check_length(task: str, name: str, value: Any, shortest: int, reason: str) -> None:
    """Refuse a length that leaves no room for what the task puts into it."""
    checks.check_positive_int(name, value)
    if value < shortest:
        raise ValueError(f"{task} needs {name} >= {shortest}, {reason}; got {value}")
