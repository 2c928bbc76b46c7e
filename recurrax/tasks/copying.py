"""The task of copying symbols after a long wait."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.tasks import losses
from recurrax.tasks.batch import Batch
from recurrax.tasks.task import Sampler, Task, check_length

if TYPE_CHECKING:
    import chex


def copying(T: int = 100, symbols: int = 8, length: int = 10) -> Task:
    """The copying memory problem: symbols to be repeated T steps after they were shown.

    The input is `length` symbols, T - 1 blanks, a marker, `length` blanks: T + 2 length steps.
    The target is a blank at every step but the last `length`, where it is the symbols in order.
    Whoever knows the time but remembers nothing answers blanks and then guesses, at a
    cross-entropy of `length ln(symbols) / (T + 2 length)`.

    Args:
      T: the lag from a symbol's end to its answer's beginning, at least 1.
      symbols: how many different ones, at least 2.
      length: how many are to be remembered.

    Returns:
      An endless `Task`, I = symbols + 2 (the blank and the marker come last), O = symbols + 1 (the
      blank comes last). Its `length` is T + 2 length. The loss is over all steps; the metric
      `"accuracy"` is the fraction right of the symbols to be repeated, solved above .99.

    Raises:
      ValueError, TypeError: if T or length is no positive integer, or symbols is below 2.

    Example:
      >>> import jax, recurrax as rx
      >>> task = rx.tasks.copying(100)
      >>> task.length, round(dict(task.baseline)["loss"], 5)
      (120, 0.17329)
      >>> batch = task.draw(jax.random.key(0), 4)
      >>> bool((batch.xs[:10].argmax(-1) == batch.targets[-10:]).all())
      True

    Source: Hochreiter and Schmidhuber (1997), "Long short-term memory", in the form of Arjovsky,
    Shah and Bengio (2016), "Unitary evolution recurrent neural networks".
    """
    check_length("copying", "T", T, 1, "the steps between a symbol and its copy")
    check_length("copying", "symbols", symbols, 2, "since one symbol alone needs no memory")
    checks.check_positive_int("length", length)
    total = T + 2 * length
    return Task(
        "copying",
        input_size=symbols + 2,
        output_size=symbols + 1,
        length=total,
        loss=losses.cross_entropy,
        metrics=RecallMetrics(length),
        baseline=(("loss", length * math.log(symbols) / total), ("accuracy", 1 / symbols)),
        goal=("accuracy", ">", 0.99),
        sample=ShownSymbols(T, symbols, length),
    )


@dataclasses.dataclass(frozen=True)
class RecallMetrics:
    """`metrics(outputs, batch)`: how many of the symbols to be repeated are right."""

    length: int

    def __call__(self, outputs: chex.Array, batch: Batch) -> dict[str, Any]:
        recalled = Batch(*(leaf[-self.length :] for leaf in batch[:3]))
        return losses.accuracy_metrics(outputs[-self.length :], recalled)


@dataclasses.dataclass(frozen=True)
class ShownSymbols(Sampler):
    T: int
    symbols: int
    length: int

    def sample(self, key: chex.PRNGKey, batch: int) -> Batch:
        shown = jax.random.randint(key, (self.length, batch), 0, self.symbols)
        blank, marker = self.symbols, self.symbols + 1
        waiting = jnp.full((self.T + self.length, batch), blank)
        inputs = jnp.concatenate([shown, waiting.at[self.T - 1].set(marker)])
        targets = jnp.concatenate([waiting, shown])
        dtype = checks.default_float()
        xs = jax.nn.one_hot(inputs, self.symbols + 2, dtype=dtype)
        return Batch(xs, targets.astype(jnp.int32), jnp.ones(targets.shape, dtype))
