"""Programs that do for all seeds at once what training does for one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import keys
from recurrax.flow import Watched, watch
from recurrax.train.step import Carry, Program, advance, blank

if TYPE_CHECKING:
    from recurrax.cell import Cell
    from recurrax.tasks import Batch, Task
    from recurrax.train.network import Network

EXAMPLES, _PROBES = 4, 8  # of which, and along how many directions, the gradient flow is measured
_PIECE = 512  # sequences judged at once; of an endless task, all there are


@partial(jax.jit, static_argnums=0)
def _fresh(program: Program, seeds: Any) -> Carry:
    def one(key: Any) -> Carry:
        params = program.network.init(key)
        return Carry(params, program.optimizer.init(params), jnp.int32(0), None)

    carry: Carry = jax.vmap(one)(seeds)
    return carry


def start(program: Program, seeds: Any) -> Carry:
    """Params and optimizer at step 0; copied, since they will be donated."""
    carry: Carry = program.placement.place(_fresh(program, seeds))
    return carry


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance_seeds(
    program: Program, carry: Carry, seeds: Any, data: Any, count: Any
) -> tuple[Carry, Any]:
    """`count` training steps of each seed."""

    def one(carry: Carry, key: Any) -> tuple[Carry, Any]:
        tally = blank(program, carry, key, data)
        after: tuple[Carry, Any] = advance(program, carry, tally, key, data, count)
        return after

    both: tuple[Carry, Any] = jax.vmap(one)(carry, seeds)
    return both


def judged(
    task: Task, net: Network, params: Any, key: Any, data: Batch | None
) -> dict[str, np.ndarray]:
    """Loss and metrics `[S]` on test data, or on fresh sequences of the key."""
    if data is None:
        pieces = [task.draw(keys.purpose(key, keys.FRESH), _PIECE)]
    else:
        columns = np.arange(data.weights.shape[1])
        cuts = range(_PIECE, len(columns), _PIECE)
        pieces = [task.take(data, piece) for piece in np.split(columns, cuts)]
    found = [jax.device_get(_judged_piece(task, net, params, piece)) for piece in pieces]
    sizes = [piece.weights.shape[1] for piece in pieces]
    return {
        name: np.average([seen[name] for seen in found], axis=0, weights=sizes) for name in found[0]
    }


@partial(jax.jit, static_argnums=(0, 1))
def _judged_piece(task: Task, net: Network, params: Any, batch: Batch) -> dict[str, Any]:
    def one(params: Any) -> dict[str, Any]:
        outputs = net.apply(params, batch.xs)
        return {"loss": task.loss(outputs, batch)} | task.metrics(outputs, batch)

    found: dict[str, Any] = jax.vmap(one)(params)
    return found


def flow(cell: Cell, xs: Any, params: Any, step: int) -> Watched:
    """The gradient flow `[S]` along xs, at one training step."""
    found: Watched = jax.device_get(_watched(cell, params, xs, np.int32(step)))
    return found


@partial(jax.jit, static_argnums=0)
def _watched(cell: Cell, params: Any, xs: Any, step: Any) -> Watched:
    def one(params: Any) -> Watched:
        return watch(cell, params, None, xs, step=step, every=1, examples=EXAMPLES, probes=_PROBES)

    found: Watched = jax.vmap(one)(params)
    return found
