"""A pointwise function and a gate view are tried once, when a cell is made of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.checks import named
from recurrax.gated.step import check_pointwise_result

if TYPE_CHECKING:
    from recurrax.gated.step import GatedStep


def check_pointwise(step: GatedStep, hidden: int, unit_def: Any) -> None:
    """Raise if `pointwise` returns another structure or shape, or mixes hidden units.

    A function that mixes them (a norm over the layer, a softmax) would run, and its Jacobian and
    fast engines would be silently wrong. So it is tried: some units' arguments move, and no other
    unit's result may. The moved units are those with a given bit of their index set, or not set,
    bit by bit; any two units differ in some bit, so no pair is missed.
    """
    draw = np.random.default_rng(0)
    unit = [np.full(hidden, 0.5, np.float32)] * unit_def.num_leaves
    # Positive numbers, at which a root or a logarithm is finite.
    rows = draw.uniform(0.2, 0.8, (2 * step.gates + len(step.fields), 1, hidden))
    rows = rows.astype(np.float32)
    bits = (np.arange(hidden) >> np.arange(hidden.bit_length())[:, None]) & 1
    moved = np.concatenate([np.zeros((1, hidden), bool), bits == 1, bits == 0])
    with jax.ensure_compile_time_eval():
        results = np.asarray(_try(step, unit_def, unit, rows + np.float32(0.1) * moved))
    still = results[:1]
    changed = (results != still) & np.isfinite(still)
    if (changed & ~moved[:, None]).any():
        raise ValueError(
            f"pointwise must be elementwise over hidden units, but "
            f"{named(step)} lets one unit change another's state. "
            "Write such a cell as an ordinary step function and wrap it in rx.Cell."
        )


@partial(jax.jit, static_argnums=(0, 1))
def _try(step: GatedStep, unit_def: Any, unit: Any, rows: jax.Array) -> jax.Array:
    """The new state `[batch, S, H]` for pre-activations and old state `[2 G + S, batch, H]`."""
    gates, (batch, hidden) = step.gates, rows.shape[1:]
    state = step.state(*rows[2 * gates :])
    unit = jax.tree.unflatten(unit_def, unit)
    new = step.pointwise(unit, rows[:gates], rows[gates : 2 * gates], state)
    check_pointwise_result(step, new)
    for field, leaf in zip(step.fields, new, strict=True):
        if jnp.shape(leaf) != (batch, hidden):
            raise ValueError(
                f"pointwise returned {field} of shape {jnp.shape(leaf)} for pre-activations of "
                f"shape {(gates, batch, hidden)}, expected {(batch, hidden)}: each field of the "
                "state has one number a unit. Unpack the gates on the first axis, as in "
                "r, z, n = z_in + z_rec."
            )
    return jnp.stack(list(new), 1)


def check_view(step: GatedStep, hidden: int, unit_def: Any) -> None:
    """Raise if the view does not return one row of activations for each of its names."""
    view: Any = step.view
    if not hasattr(view, "values") or not hasattr(view, "names"):
        raise TypeError(f"view must be a rx.GateView or None, got {type(view).__name__}")
    leaf = jax.ShapeDtypeStruct((hidden,), jnp.float32)
    z = jax.ShapeDtypeStruct((step.gates, hidden), jnp.float32)
    unit = jax.tree.unflatten(unit_def, [leaf] * unit_def.num_leaves)
    rows = jax.eval_shape(lambda *args: tuple(view.values(*args)), unit, z, z)
    shapes = [tuple(row.shape) for row in rows]
    if shapes != [(hidden,)] * len(view.names):
        raise ValueError(
            f"the view's values must be one activation {(hidden,)} for each of its names "
            f"{view.names}, got shapes {shapes}"
        )
