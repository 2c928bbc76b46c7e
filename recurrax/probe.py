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
    with jax.ensure_compile_time_eval():
        moved = _moves(step, hidden, unit_def)
    if bool(np.any(np.asarray(moved))):
        raise ValueError(
            f"pointwise must be elementwise over hidden units, but "
            f"{getattr(step.pointwise, '__name__', 'it')} lets one unit change another's state. "
            "Write such a cell as an ordinary step function and wrap it in rx.Cell."
        )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _moves(step: GatedStep, hidden: int, unit_def: Any) -> jax.Array:
    """Whether moving the even (odd) units moves an odd (even) one: a bool `[2]`."""
    k_in, k_rec, k_state = jax.random.split(jax.random.key(0), 3)
    unit = jax.tree.unflatten(unit_def, [jnp.full(hidden, 0.5)] * unit_def.num_leaves)
    z_in = jax.random.uniform(k_in, (step.gates, hidden), minval=-1.0)
    z_rec = jax.random.uniform(k_rec, (step.gates, hidden), minval=-1.0)
    fields = step.state._fields  # type: ignore[attr-defined]
    rows = jax.random.uniform(k_state, (len(fields), hidden), minval=-1.0)

    def result(shift: jax.Array) -> jax.Array:
        state = step.state(*(row + shift for row in rows))
        new = step.pointwise(unit, z_in + shift, z_rec + shift, state)
        checks.check_pointwise_result(step.pointwise, step.state, new)
        for field, leaf in zip(fields, new, strict=True):
            if jnp.shape(leaf) != (hidden,):
                raise ValueError(
                    f"pointwise returned {field} of shape {jnp.shape(leaf)} for {hidden} hidden "
                    "units: each field of the state has one number a unit. Unpack the gates on "
                    "the first axis, as in r, z, n = z_in + z_rec."
                )
        return jnp.stack(list(new))

    even = jnp.arange(hidden) % 2 == 0
    still = result(jnp.zeros(hidden))
    moved_odd = result(jnp.where(even, 0.25, 0.0)) != still
    moved_even = result(jnp.where(even, 0.0, 0.25)) != still
    both_nan = jnp.isnan(still)
    return jnp.stack(
        [
            jnp.any(moved_odd & ~even & ~both_nan),
            jnp.any(moved_even & even & ~both_nan),
        ]
    )
