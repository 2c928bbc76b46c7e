"""Time in blocks of one length, and where the steps that count stand in them.

The steps that are left out come first, and the first block that is measured begins after them: so
slots before the first step stay idle, as those after the last one do. Under a mask each row has as
many steps as count in it, and blocks of its own length, as if it were measured alone: the others
stay idle, and all rows have room for as many blocks as any row could need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    import chex

    from recurrax.flow.steps.problem import Problem

_BLOCKS = 64  # at least so many where T allows, so that their spread gives an error bar


class Slots(NamedTuple):
    """The slots of all blocks, of one example."""

    places: Any  # int [blocks, S], the place in xs of each slot's step; any other place if idle
    live: Any  # bool [blocks, S]; False: idle
    before: int  # blocks of steps that are left out
    size: Any  # of one block: S, or fewer under a mask


def block_length(length: Any, every: int | None) -> Any:
    """Steps in one block, of a number or of numbers: no end of one cuts a chosen interval short."""
    of: Any = np if isinstance(length, np.ndarray) else jnp
    size = of.maximum(1, length // _BLOCKS)
    return size if every is None else of.minimum(length, -(-size // every) * every)


def left_out(given: int | None, steps: Any, part: int) -> Any:
    """How many steps to leave out of a number or of numbers: one of so many parts by default."""
    return steps // part if given is None else given


def counted_steps(problem: Problem) -> Any:
    """How many steps count in each row, int32 `[*batch]`; T where there is no mask."""
    mask = problem.flags.mask
    return problem.length if mask is None else jnp.sum(mask, 0, dtype=jnp.int32)


def in_order(problem: Problem) -> chex.Array | None:
    """The places of the steps that count, in their order, and then of the others, `[T, *batch]`."""
    mask = problem.flags.mask
    return None if mask is None else jnp.argsort(~mask, axis=0, stable=True)


def slots(problem: Problem, burn_in: int | None, every: int | None) -> Slots:
    """Where the steps of one example stand, of which some are left out before the first block."""
    length, order = problem.length, in_order(problem)
    possible = np.asarray([length]) if order is None else np.arange(1, length + 1)
    burns = np.broadcast_to(left_out(burn_in, possible, 10), possible.shape)
    measured = np.maximum(possible - burns, 1)
    sizes = block_length(measured, every)
    before = int(np.max(-(-burns // sizes)))
    after, widest = int(np.max(-(-measured // sizes))), int(np.max(sizes))
    block = np.arange(-before, after)[:, None]
    slot = np.arange(widest)
    if order is None:
        places = int(burns[0]) + block * widest + slot
        live = (places >= 0) & (places < length)
        return Slots(np.clip(places, 0, length - 1), live, before, widest)
    count = counted_steps(problem)
    burn = left_out(burn_in, count, 10)
    size = block_length(jnp.maximum(count - burn, 1), every)
    places = burn + block * size + slot
    live = (slot < size) & (places >= 0) & (places < count)
    return Slots(order[jnp.clip(places, 0, jnp.maximum(count - 1, 0))], live, before, size)
