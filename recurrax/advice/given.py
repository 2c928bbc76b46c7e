"""The sequences that starts are measured on: a task's, or somebody's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks, keys
from recurrax.tasks.batch import Batch
from recurrax.tasks.task import Task
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

_EXAMPLES = 8  # sequences along which a start is measured
_BATCHES = 4  # of as many, of which the gradient norms give a level of clipping


class Given(NamedTuple):
    """What starts are measured on."""

    task: Task | None
    batches: tuple[Batch, ...]  # the first is the one that is measured
    output_size: int
    loss: Callable[[Any, Any], Any]
    words: str

    @property
    def features(self) -> int:
        """I."""
        return int(self.batches[0].xs.shape[-1])


def given_data(data: Any, key: chex.PRNGKey) -> Given:
    """A task's sequences, or those of the user.

    Raises:
      ValueError, TypeError: if it is neither.
    """
    if isinstance(data, Task):
        train = None if data.split is None else data.split().train
        drawn = jax.random.split(keys.purpose(key, keys.EXAMPLES), _BATCHES)
        batches = tuple(data.draw(each, _EXAMPLES, train) for each in drawn)
        words = f"{data.name}, T = {data.length}"
        return Given(data, batches, data.output_size, data.loss, words)
    if not hasattr(data, "ndim"):
        raise TypeError(
            "data must be a rx.tasks.Task, or sequences, an array [T, B, I]; got "
            f"{type(data).__name__}"
        )
    if data.ndim != 3 or 0 in data.shape:
        raise ValueError(
            f"data must be sequences [T, B, I], time first, with none of them 0; got shape "
            f"{tuple(data.shape)}"
        )
    if not jnp.issubdtype(data.dtype, jnp.floating):
        raise TypeError(f"data must be floating point, got {data.dtype}: cast it, or one-hot")
    checks.check_finite("data", data, "Leave those steps out, or fill them.")
    size = min(_EXAMPLES, data.shape[1])
    chunks = [jnp.asarray(data[:, at : at + size]) for at in range(0, data.shape[1], size)]
    whole = [xs for xs in chunks[:_BATCHES] if xs.shape[1] == size]
    targets, weights = jnp.zeros((len(data), size, 1)), jnp.ones((len(data), size))
    batches = tuple(Batch(xs, targets, weights) for xs in whole)
    return Given(None, batches, 1, _mean_square, f"the data given, T = {len(data)}")


def _mean_square(outputs: chex.Array, batch: Any) -> chex.Array:
    """Something to take a gradient of, where no task says what is to be learnt."""
    del batch
    return jnp.mean(jnp.square(outputs))


def wanted_horizon(horizon: Any, length: int) -> float:
    """How far back a gradient is to be felt, T by default."""
    if horizon is None:
        return float(length)
    checks.check_number("horizon", horizon)
    if not 1 <= horizon <= length:
        raise ValueError(
            f"horizon must be from 1 to T = {steps_of(length)}, the length of the data, since it "
            f"is measured on them; got {horizon!r}. Give longer sequences for a longer one."
        )
    return float(horizon)
