"""The tasks of adding and multiplying two marked numbers, far apart in a sequence."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from recurrax.checks import default_float
from recurrax.tasks import losses
from recurrax.tasks.task import Sampler, Task, answered_at_the_end, check_length

if TYPE_CHECKING:
    import chex

    from recurrax.tasks.batch import Batch


def adding(T: int = 100) -> Task:
    """The adding problem: the sum of two marked numbers, asked at the end.

    `x_t = (v_t, m_t)`, v uniform on [0, 1), m being 1 at one step of the first half and at one of
    the second, 0 elsewhere; the target at the last step is `sum_t m_t v_t`. Whoever answers 1
    always has a mean squared error of 1/6, the variance of the sum; the task is solved below .01.

    Args:
      T: steps of a sequence, at least 2. The nearer marker lies up to T/2 steps back, the other
        one at least that far.

    Returns:
      An endless `Task`, I = 2, O = 1, with the metric `"mse"`.

    Raises:
      ValueError, TypeError: if T is no integer of 2 or more.

    Example:
      >>> import jax, recurrax as rx
      >>> task = rx.tasks.adding(50)
      >>> batch = task.draw(jax.random.key(0), 4)
      >>> marked = (batch.xs[..., 0] * batch.xs[..., 1]).sum(0)
      >>> bool(abs(marked - batch.targets[-1, :, 0]).max() < 1e-6)
      True

    Source: Hochreiter and Schmidhuber (1997), "Long short-term memory", in the form of Arjovsky,
    Shah and Bengio (2016), "Unitary evolution recurrent neural networks".
    """
    return _marked("adding", T, product=False, baseline=1 / 6, goal=0.01)


def multiplication(T: int = 100) -> Task:
    """The multiplication problem: the product of two marked numbers, asked at the end.

    As `adding`, but with the target `v_i v_j` of the marked steps i and j. Whoever answers 1/4
    always has a mean squared error of 1/9 - 1/16 = 7/144; the task is solved below .003.

    Args:
      T: steps of a sequence, at least 2.

    Returns:
      An endless `Task`, I = 2, O = 1, with the metric `"mse"`.

    Raises:
      ValueError, TypeError: if T is no integer of 2 or more.

    Example:
      >>> import recurrax as rx
      >>> round(dict(rx.tasks.multiplication(50).baseline)["mse"], 4)
      0.0486

    Source: Hochreiter and Schmidhuber (1997), "Long short-term memory".
    """
    return _marked("multiplication", T, product=True, baseline=7 / 144, goal=0.003)


def _marked(name: str, T: int, *, product: bool, baseline: float, goal: float) -> Task:
    check_length(name, "T", T, 2, "since each half of a sequence holds a marker")
    return Task(
        name,
        input_size=2,
        output_size=1,
        length=T,
        loss=losses.squared_error,
        metrics=losses.mse_metrics,
        baseline=(("loss", baseline), ("mse", baseline)),
        goal=("mse", "<", goal),
        sample=MarkedNumbers(T, product),
    )


@dataclasses.dataclass(frozen=True)
class MarkedNumbers(Sampler):
    length: int
    product: bool

    def sample(self, key: chex.PRNGKey, batch: int) -> Batch:
        value_key, first_key, second_key = jax.random.split(key, 3)
        values = jax.random.uniform(value_key, (self.length, batch), default_float())
        half, column = self.length // 2, jnp.arange(batch)
        first = jax.random.randint(first_key, (batch,), 0, half)
        second = jax.random.randint(second_key, (batch,), half, self.length)
        time = jnp.arange(self.length)[:, None]
        markers = ((time == first) | (time == second)).astype(values.dtype)
        a, b = values[first, column], values[second, column]
        answers = a * b if self.product else a + b
        return answered_at_the_end(jnp.stack([values, markers], -1), answers[:, None])
