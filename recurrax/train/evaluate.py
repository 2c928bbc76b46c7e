"""A network judged on data it was not trained on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from recurrax.tasks import Batch, Task
    from recurrax.train.network import Network
    from recurrax.train.sharding import Placement


def evaluate(
    network: Network, task: Task, where: Placement, params: Any, data: Batch, size: int
) -> dict[str, float]:
    """Loss and metrics over all of a data set, taken `size` sequences at a time.

    A mean over pieces, weighted by their sequences.
    """
    count = data.weights.shape[1]
    totals: dict[str, float] = {}
    for begin in range(0, count, size):
        columns = np.arange(begin, min(begin + size, count))
        found = _piece(network, task, where, params, data, columns)
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(columns) / count
    return totals


@partial(jax.jit, static_argnums=(0, 1, 2))
def _piece(
    network: Network, task: Task, where: Placement, params: Any, data: Batch, columns: Any
) -> dict[str, Any]:
    batch = task.take(data, columns)
    outputs = network.apply(params, batch.xs)
    found: dict[str, Any] = where.whole(
        {"loss": task.loss(outputs, batch)} | task.metrics(outputs, batch)
    )
    return found
