"""What a gated step is made of, and its derivatives: written once, for every engine and question.

A gated cell's new state is `s' = p(u, z_in, z_rec, s)`, hidden unit by hidden unit, so all its
derivatives are diagonal: for each field k of the state and each gate g a number a unit,

    rec[k][g] = d s'_k / d z_rec_g        direct[k][j] = d s'_k / d s_j

The engines trace these functions and work on what was traced; flow calls them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.gated.cell import GatedStep


def split_gates(z: chex.Array, gates: int) -> chex.Array:
    """`[..., G*H]` to `[G, ..., H]`, as a pointwise function wants it."""
    z = z.reshape(*z.shape[:-1], gates, z.shape[-1] // gates)
    return jnp.moveaxis(z, -2, 0)


def input_share(params: Any, x: chex.Array) -> chex.Array:
    """What the input adds to the pre-activations, `[..., G*H]`."""
    share: chex.Array = x @ params.w_in + params.b
    return share


def pre_activations(
    step: GatedStep, params: Any, h: chex.Array, x: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """`z_in` and `z_rec [G, ..., H]`, given h before the step and the input."""
    z_in = split_gates(input_share(params, x), step.gates)
    return z_in, split_gates(h @ params.w_rec, step.gates)


def fields_of(step: GatedStep) -> Callable[..., tuple[Any, ...]]:
    """The pointwise function on plain tuples, `(unit, z_in, z_rec, fields) -> fields`."""

    def fields(unit: Any, z_in: Any, z_rec: Any, old: Any) -> tuple[Any, ...]:
        return tuple(step.pointwise(unit, z_in, z_rec, step.state(*old)))

    return fields


def pull_of(step: GatedStep) -> Callable[..., tuple[Any, Any]]:
    """The new fields, and the gradients of all four arguments given those of the new fields.

    `(unit, z_in, z_rec, fields, error) -> fields, (d_unit, d_z_in, d_z_rec, d_fields)`.
    """

    def pull(unit: Any, z_in: Any, z_rec: Any, old: Any, error: Any) -> tuple[Any, Any]:
        new, pulled = jax.vjp(fields_of(step), unit, z_in, z_rec, old)
        return new, pulled(error)

    return pull


def derivatives(
    step: GatedStep, unit: Any, z_in: Any, z_rec: Any, old: tuple[Any, ...]
) -> tuple[tuple[Any, ...], tuple[tuple[Any, ...], ...]]:
    """`rec`, for each field `[G, ..., H]`, and `direct`, for each field and old field `[..., H]`.

    Each field is a function of its own unit alone, so its gradient for an error of ones is its
    diagonal.
    """
    fields, rows = fields_of(step), []
    for k in range(len(old)):
        new, pull = jax.vjp(lambda z, s, k=k: fields(unit, z_in, z, s)[k], z_rec, old)
        rows.append(pull(jnp.ones_like(new)))
    return tuple(rec for rec, _ in rows), tuple(tuple(direct) for _, direct in rows)


class Diagonals(NamedTuple):
    """A step of P hidden units, and its derivatives unit by unit."""

    state: Any  # the new state, fields [P]
    recurrent: chex.Array  # [G, S, P], d s_a / d z_rec_g
    direct: chex.Array  # [S, S, P], d s_a / d s_b at fixed z_rec


def diagonals(step: GatedStep, unit: Any, z_in: Any, z_rec: Any, state: Any) -> Diagonals:
    """The new state of units `[P]`, given `z_in`, `z_rec [G, P]`, and its derivatives."""
    rec, direct = derivatives(step, unit, z_in, z_rec, tuple(state))
    new = step.pointwise(unit, z_in, z_rec, state)
    return Diagonals(new, jnp.stack(rec, 1), jnp.stack([jnp.stack(row) for row in direct]))
