"""How open and how saturated the gates of a gated cell are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recurrax.flow.steps.problem import flatten
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    import chex

    from recurrax.gated.step import GatedStep

# The activations beyond which a gate counts as saturated; its slope is then below 0.09 or 0.19.
_ENDS = {"sigmoid": (0.1, 0.9), "tanh": (-0.9, 0.9)}


class GateStatistics(NamedTuple):
    """How open and how saturated the gates are, over the hidden units of one example."""

    names: tuple[str, ...]  # of the G gates of the cell's view
    mean: chex.Array  # [T, *batch, G], the mean activation
    low: chex.Array  # [T, *batch, G], fraction of units below 0.1 (sigmoid) or -0.9 (tanh)
    high: chex.Array  # [T, *batch, G], fraction of units above 0.9

    def __repr__(self) -> str:
        return summary(self)


def statistics(step: GatedStep, params: Any, state: Any, x: Any) -> tuple[chex.Array, ...]:
    """Mean and saturated fractions of each gate of the view in one example, `[G]`."""
    view: Any = step.view
    z = step.pre_activations(params, state.h, x)
    values = jnp.stack(list(view.values(params.unit, *z)))
    values = values.astype(flatten(state).dtype)
    low, high = np.asarray([_ENDS[kind] for kind in view.kinds]).T[:, :, None]
    below, above = (values < low).astype(values.dtype), (values > high).astype(values.dtype)
    return values.mean(-1), below.mean(-1), above.mean(-1)
