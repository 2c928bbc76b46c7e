"""One step's derivative applied to many directions at once, each of them a row.

A row lies together in memory, so the directions that set out from one time do too, and their Gram
matrix is a product of two contiguous blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from recurrax.flow.steps.jacobian import FEW, GatedMap

if TYPE_CHECKING:
    import chex


def push_rows(one: Any, v: chex.Array) -> chex.Array:
    """`v A^T` for rows `[M, N]` and a map of `linear_maps`: A applied to each row."""
    if not isinstance(one, GatedMap) or len(v) <= FEW:
        moved: chex.Array = one.push(v.T).T
        return moved
    if one.direct.shape[0] == 1:
        weights = _through_h(one) + jnp.diag(one.direct[0, 0])
        return _product(v, weights)
    hidden = one.direct.shape[-1]
    h = v[:, one.h * hidden : (one.h + 1) * hidden]
    return _product(h, _through_h(one)) + _direct(one, v)


def _through_h(one: GatedMap) -> chex.Array:
    """What reaches the state through `h @ w_rec`, from unit to field and unit: `[H, N]`."""
    gates, fields, _ = one.recurrent.shape
    # Field by field and gate by gate: loops over contiguous rows, which a compiler makes fast.
    terms = [[one.recurrent[g, a] * one.w_rec[:, g] for g in range(gates)] for a in range(fields)]
    return jnp.concatenate([sum(over_gates[1:], over_gates[0]) for over_gates in terms], 1)


def _direct(one: GatedMap, v: chex.Array) -> chex.Array:
    """What each field gets from each field of the row, unit by unit."""
    fields, _, hidden = one.direct.shape
    total = v * jnp.concatenate([one.direct[a, a] for a in range(fields)])
    # Turned as a whole, since putting the row together from its fields takes a CPU twice as long.
    for turn in range(1, fields):
        scales = jnp.concatenate([one.direct[a, a - turn] for a in range(fields)])
        total = total + scales * jnp.roll(v, turn * hidden, 1)
    return total


def _product(v: chex.Array, weights: chex.Array) -> chex.Array:
    """At full width: accelerators round float32 to ten bits by default."""
    return jnp.matmul(v, weights, precision="highest")
