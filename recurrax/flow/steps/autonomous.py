"""Inputs for a system that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import as_step
from recurrax.gated import checks as gated_checks
from recurrax.gated.cell import GatedStep

if TYPE_CHECKING:
    from recurrax.cell import Cell, StepFn


def with_inputs(cell: Cell | StepFn, params: Any, state: Any, xs: Any, length: int | None) -> Any:
    """xs as given; or, for an autonomous system, inputs of the given length that say nothing.

    Raises:
      ValueError, TypeError: if both or neither are given, or the length is not a positive integer.
    """
    if xs is not None:
        if length is not None:
            raise ValueError(
                "length is for an autonomous system, xs=None; it is given here beside xs, whose "
                "first axis is T already. Leave one of them out."
            )
        return xs
    if length is None:
        raise ValueError(
            "xs=None needs length=T, the number of steps to run an autonomous system. Pass the "
            "inputs xs [T, *batch, I], or length."
        )
    checks.check_positive_int("length", length)
    step = as_step(cell)
    if not isinstance(step, GatedStep):
        return jnp.zeros((length, 0))
    size, _ = gated_checks.check_gated_params(step, params)
    batch = jax.tree.leaves(state)[0].shape[:-1] if state is not None else ()
    return jnp.zeros((length, *batch, size), params.w_in.dtype)
