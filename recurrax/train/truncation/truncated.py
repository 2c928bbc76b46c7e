"""Truncated backpropagation: the state is carried from chunk to chunk, and the gradient cut there.

One scan over chunks, each recomputed when differentiated, so that memory is that of one chunk and
of a state for each. All chunks at once as one large batch, from the states of a first pass, would
need memory for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.train.networks.network import Network
from recurrax.unrolling.batch import check_rows
from recurrax.unrolling.scan import where_flagged

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.tasks.batch import Batch
    from recurrax.train.loop import Carry, Program
    from recurrax.train.networks.network import NetworkParams


def check_state_is_known(what: str, net: Any) -> None:
    """Raise unless it is a `Network`, what needs one being named."""
    if not isinstance(net, Network):
        raise ValueError(
            f"{what} needs a cell, or a rx.train.network of one, whose state fit can carry on: a "
            "network of your own (init, apply) keeps its state to itself. Cut the gradient inside "
            "of it with jax.lax.stop_gradient, and hand a state on in a loop of your own."
        )


def left_before(program: Program, carry: Carry, data: Any) -> Any:
    """Return what stands for the state before the first batch; None if every batch begins anew.

    Raises:
      ValueError: if rows go on, and the network's state is not known.
    """
    batch = jax.eval_shape(lambda: program.draw(carry.key, carry.step, 0, data))
    net: Any = program.objective.network
    if batch.begins is None or program.objective.criterion is None:  # a loss sees begins itself
        return None
    check_state_is_known("a batch with begins", net)
    rows = batch.begins.shape
    state = net.start(carry.params, rows)
    check_rows("begins", net.cell, carry.params.cell, state, rows)
    return state


def start_of(net: Network, params: NetworkParams, batch: Batch, left: Any) -> Any:
    """Return the state before a batch: the initial one, or what the batch before left.

    Rows that go on do so from `left`, which the gradient does not reach; None if all begin.
    """
    start = net.start(params, batch.xs.shape[1:2])
    if left is None:
        return start
    return where_flagged(batch.begins, start, jax.lax.stop_gradient(left))


def run_batch(
    net: Network, params: NetworkParams, batch: Batch, left: Any, size: int | None
) -> tuple[Any, Any]:
    """Return the last state, and the outputs `[T, B, O]`; in chunks of `size` steps, if any."""

    def run(state: Any, piece: tuple[Any, Any]) -> tuple[Any, Any]:
        return net.run(params, state, *piece)

    start, timed = start_of(net, params, batch, left), (batch.xs, batch.mask)
    return in_chunks(run, start, timed, size) if size else run(start, timed)


def in_chunks(
    run: Callable[[Any, Any], tuple[Any, Any]], state: Any, timed: Any, size: int
) -> tuple[Any, Any]:
    """Run over time in chunks of `size` steps; no error travels from one into the one before.

    Args:
      run: `run(state, piece) -> (state, outputs)` of a piece `[t, ...]` of `timed`.
      state: before the first step. The gradient reaches it from the first chunk.
      timed: leaves `[T, ...]`.
      size: k, at least 1. The first chunk is the shorter one if k does not divide T, so that the
        last outputs have k steps behind them. From T on it is a plain run.

    Returns:
      The state after the last step, and the outputs `[T, ...]`.
    """
    length = jax.tree.leaves(timed)[0].shape[0]
    if size >= length:
        return run(state, timed)
    count, head = divmod(length, size)

    def cut_after(state: Any, piece: Any) -> tuple[Any, Any]:
        state, outputs = run(state, piece)
        return jax.lax.stop_gradient(state), outputs

    first = None
    if head:
        piece = jax.tree.map(lambda leaf: leaf[:head], timed)
        state, first = jax.checkpoint(cut_after)(state, piece)
    chunks = jax.tree.map(lambda a: a[head:].reshape(count, size, *a.shape[1:]), timed)
    # Inside a scan nothing can be shared with the backward pass, so no guard is needed.
    state, outputs = jax.lax.scan(jax.checkpoint(cut_after, prevent_cse=False), state, chunks)
    outputs = jax.tree.map(lambda a: a.reshape(count * size, *a.shape[2:]), outputs)
    if head:
        outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, outputs)
    return state, outputs
