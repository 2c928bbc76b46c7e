"""The derivatives of a pointwise function: elementwise, so numbers and not matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    import chex

    from recurrax.gated.cell import GatedStep


class Diagonals(NamedTuple):
    """A step of P hidden units, and its derivatives unit by unit."""

    state: Any  # the new state, fields [P]
    recurrent: chex.Array  # [G, S, P], d s_a / d z_rec_g
    direct: chex.Array  # [S, S, P], d s_a / d s_b at fixed z_rec


def diagonals(step: GatedStep, unit: Any, z_in: Any, z_rec: Any, state: Any) -> Diagonals:
    """The new state of units `[P]`, given `z_in`, `z_rec [G, P]`, and its derivatives."""

    def rows(z: chex.Array, old: chex.Array) -> tuple[chex.Array, Any]:
        new = step.pointwise(unit, z_in, z, step.state(*old))
        return jnp.stack(list(new)), new

    old = jnp.stack(list(state))
    _, jvp, new = jax.linearize(rows, z_rec, old, has_aux=True)
    # Elementwise, so a tangent of ones along one argument returns that argument's diagonal.
    zero_z, zero_s = jnp.zeros_like(z_rec), jnp.zeros_like(old)
    recurrent = [jvp(zero_z.at[g].set(1), zero_s) for g in range(len(z_rec))]
    direct = [jvp(zero_z, zero_s.at[b].set(1)) for b in range(len(old))]
    return Diagonals(step.state(*new), jnp.stack(recurrent), jnp.stack(direct, 1))
