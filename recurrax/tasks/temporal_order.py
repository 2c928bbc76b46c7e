"""The task of telling in which order two symbols came, long before."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from recurrax.checks import default_float
from recurrax.tasks import losses
from recurrax.tasks.task import Sampler, Task, answered_at_the_end, check_length

if TYPE_CHECKING:
    import chex

    from recurrax.tasks.batch import Batch

_DISTRACTORS = 4


def temporal_order(T: int = 100) -> Task:
    """The temporal order problem: which of A and B came first, and which second.

    Two steps hold A or B, each with probability 1/2: one in [T/10, 2T/10), one in [4T/10, 5T/10),
    counted from 0. All others hold one of four distractors. At the last step the order AA, AB, BA
    or BB is asked, classes 0 to 3. A guess is right once in four times; the task is solved above
    .99.

    Args:
      T: steps of a sequence, at least 10.

    Returns:
      An endless `Task`, I = 6 (A, B, then the distractors, one-hot), O = 4, with the metric
      `"accuracy"`.

    Raises:
      ValueError, TypeError: if T is no integer of 10 or more.

    Example:
      >>> import jax, recurrax as rx
      >>> task = rx.tasks.temporal_order(50)
      >>> batch = task.draw(jax.random.key(0), 4)
      >>> batch.xs.shape, [int(n) for n in batch.xs[..., :2].sum((0, 2))]
      ((50, 4, 6), [2, 2, 2, 2])

    Source: Hochreiter and Schmidhuber (1997), "Long short-term memory", in the form of Pascanu,
    Mikolov and Bengio (2013), "On the difficulty of training recurrent neural networks".
    """
    reason = "so that a tenth of a sequence has a place for each symbol"
    check_length("temporal_order", "T", T, 10, reason)
    return Task(
        "temporal_order",
        input_size=2 + _DISTRACTORS,
        output_size=4,
        length=T,
        loss=losses.cross_entropy,
        metrics=losses.accuracy_metrics,
        baseline=(("loss", math.log(4)), ("accuracy", 1 / 4)),
        goal=("accuracy", ">", 0.99),
        sample=OrderedSymbols(T),
    )


@dataclasses.dataclass(frozen=True)
class OrderedSymbols(Sampler):
    length: int

    def sample(self, key: chex.PRNGKey, batch: int) -> Batch:
        distractor_key, symbol_key, early_key, late_key = jax.random.split(key, 4)
        shape = (self.length, batch)
        inputs = 2 + jax.random.randint(distractor_key, shape, 0, _DISTRACTORS)
        first, second = jax.random.randint(symbol_key, (2, batch), 0, 2)
        # The integers of [a, b) are those from ceil(a) to ceil(b) - 1.
        tenth = [math.ceil(k * self.length / 10) for k in range(6)]
        early = jax.random.randint(early_key, (batch,), tenth[1], tenth[2])
        late = jax.random.randint(late_key, (batch,), tenth[4], tenth[5])
        column = jnp.arange(batch)
        inputs = inputs.at[early, column].set(first).at[late, column].set(second)
        xs = jax.nn.one_hot(inputs, 2 + _DISTRACTORS, dtype=default_float())
        return answered_at_the_end(xs, (2 * first + second).astype(jnp.int32))
