"""A step under a mask and resets: the one place where it says what they do.

Where the mask is False the state is carried over and the output is zero, so that `A_t = 1`. A reset
puts the initial state in the place of the old one, so that `A_t = 0`; also where the mask is False.
The state before a step is the one after its reset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from recurrax import checks
from recurrax.flow.steps.problem import Flags, flatten, unflatten
from recurrax.unrolling.scan import where_flagged, zero_where_masked
from recurrax.unrolling.unroll import check_mask_and_resets

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.unrolling.batch import Batch


def check_flags(
    cell: Cell | StepFn, params: Any, state: Any, xs: Any, batch: Batch, flags: Flags
) -> tuple[Flags, Any]:
    """Check a mask and resets as `rx.unroll` does; each for every row, and the state of a reset."""
    length = checks.check_steps(xs)
    whole = {}
    for name, given in flags._asdict().items():
        whole[name] = given
        if given is None:
            continue
        checks.check_flags(name, given, length, state)
        missing = len(batch.shape) - (given.ndim - 1)
        if missing < 0:
            read = f"a batch of shape {batch.shape}" if batch.shape else "one example"
            raise ValueError(
                f"{name} has shape {given.shape}, but state and xs are read as {read}: expected "
                f"{(length, *batch.shape)}. A bare step function does not say which axes are the "
                "batch's; the initial_state of a rx.Cell does."
            )
        given = jnp.asarray(given).reshape(*given.shape, *(1,) * missing)
        whole[name] = jnp.broadcast_to(given, (length, *batch.shape))
    start_of = check_mask_and_resets(cell, params, state, length, **whole)
    return Flags(**whole), None if start_of is None else start_of(params, batch.shape)


def flagged_step(
    step: StepFn, params: Any, state: Any, x: Any, flags: Flags, start: Any
) -> tuple[Any, Any, Any]:
    """The state before a step, the one after it, and the output."""
    if flags.resets is not None:
        state = where_flagged(flags.resets, start, state)
    after, y = step(params, state, x)
    if flags.mask is not None:
        after = where_flagged(flags.mask, after, state)
    return state, after, zero_where_masked(y, flags.mask)


def step_of_vector(
    step: StepFn, params: Any, vector: chex.Array, before: Any, x: Any, flags: Flags
) -> tuple[chex.Array, Any]:
    """The state after a step as a vector, and its output, from that of the old state.

    Where it is reset they do not depend on the old state: `before` is what it was set to.
    """
    if flags.resets is not None:
        vector = jnp.where(flags.resets, flatten(before), vector)
    state, y = step(params, unflatten(vector, before), x)
    after = flatten(state)
    if flags.mask is not None:
        after = jnp.where(flags.mask, after, vector)
    return after, zero_where_masked(y, flags.mask)
