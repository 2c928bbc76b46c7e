"""Try a pointwise function once, to see that it is one.

A function that mixes hidden units (a norm over the layer, a softmax) would run, and its Jacobian
and fast engines would be silently wrong. So each is tried when its cell is built: when the even
units' arguments move, no odd unit's result may move, and the other way round.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks

if TYPE_CHECKING:
    from recurrax.gated import GatedStep


def check_pointwise(step: GatedStep, hidden: int, unit_def: Any) -> None:
    """Raise if `pointwise` returns another structure or shape, or mixes hidden units."""
    draw = np.random.default_rng(0)
    fields = len(step.state._fields)  # type: ignore[attr-defined]
    unit = [np.full(hidden, 0.5, np.float32)] * unit_def.num_leaves
    rows = draw.uniform(-1, 1, (2 * step.gates + fields, 1, hidden)).astype(np.float32)
    even = np.arange(hidden) % 2 == 0
    shift = np.stack([np.zeros(hidden), 0.25 * even, 0.25 * ~even]).astype(np.float32)
    with jax.ensure_compile_time_eval():
        still, even_moved, odd_moved = np.asarray(_try(step, unit_def, unit, rows + shift))
    mixed = (even_moved != still)[:, ~even].any() or (odd_moved != still)[:, even].any()
    if mixed and np.isfinite(still).all():
        raise ValueError(
            f"pointwise must be elementwise over hidden units, but "
            f"{getattr(step.pointwise, '__name__', 'it')} lets one unit change another's state. "
            "Write such a cell as an ordinary step function and wrap it in rx.Cell."
        )


@partial(jax.jit, static_argnums=(0, 1))
def _try(step: GatedStep, unit_def: Any, unit: Any, rows: jax.Array) -> jax.Array:
    """The new state `[batch, S, H]` for pre-activations and old state `[2 G + S, batch, H]`."""
    gates, (batch, hidden) = step.gates, rows.shape[1:]
    state = step.state(*rows[2 * gates :])
    unit = jax.tree.unflatten(unit_def, unit)
    new = step.pointwise(unit, rows[:gates], rows[gates : 2 * gates], state)
    checks.check_pointwise_result(step.pointwise, step.state, new)
    for field, leaf in zip(step.state._fields, new, strict=True):  # type: ignore[attr-defined]
        if jnp.shape(leaf) != (batch, hidden):
            raise ValueError(
                f"pointwise returned {field} of shape {jnp.shape(leaf)} for a batch of {batch} and "
                f"{hidden} hidden units: each field of the state has one number a unit. Unpack the "
                "gates on the first axis, as in r, z, n = z_in + z_rec."
            )
    return jnp.stack(list(new), 1)
