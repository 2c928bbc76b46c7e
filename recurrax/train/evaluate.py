"""Networks judged on data they were not trained on."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from recurrax.tasks.batch import Batch
    from recurrax.tasks.task import Task
    from recurrax.train.step import Program


def evaluate(
    program: Program, task: Task, params: Any, data: Batch, size: int
) -> dict[str, np.ndarray]:
    """Return loss and metrics, `[]` or `[S]` in float64, over all of a data set.

    They are means over pieces of at most `size` sequences, weighted by their sequences.
    """
    # Programs that differ in how they train are compiled once here.
    program = dataclasses.replace(program, optimizer=None, regularizer=None, flow_every=None)
    count = data.weights.shape[1]
    means: dict[str, np.ndarray] = {}
    for begin in range(0, count, size):
        columns = np.arange(begin, min(begin + size, count))
        for name, value in _piece(program, task, params, data, columns).items():
            share = np.asarray(value, np.float64) * len(columns) / count
            means[name] = means.get(name, 0.0) + share
    return means


@partial(jax.jit, static_argnums=(0, 1))
def _piece(program: Program, task: Task, params: Any, data: Batch, columns: Any) -> dict[str, Any]:
    batch = task.take(data, columns)

    def one(params: Any) -> dict[str, Any]:
        outputs = program.network.apply(params, batch.xs)
        return {"loss": task.loss(outputs, batch)} | task.metrics(outputs, batch)

    found: dict[str, Any] = (jax.vmap(one) if program.many else one)(params)
    return program.placement.whole(found)  # type: ignore[no-any-return]
