"""Gated cells as a user writes them, each with something of its own for the kernel to get right."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import recurrax as rx


class HState(NamedTuple):
    h: jax.Array


class PairState(NamedTuple):
    trace: jax.Array  # h is the second field
    h: jax.Array


def gated(pointwise, *, gates, state=HState, hidden=5, dtype=jnp.float32, unit_init=None):
    return rx.gated_cell(
        pointwise,
        gates=gates,
        state=state,
        input_size=3,
        hidden_size=hidden,
        dtype=dtype,
        unit_init=unit_init,
    )


def minimal(unit, z_in, z_rec, state):
    """Two gates, one of them inside the other's product: z_in and z_rec count apart."""
    f = jax.nn.sigmoid(z_in[0] + z_rec[0])
    return HState((1 - f) * state.h + f * jnp.tanh(z_in[1] + f * z_rec[1]))


def leaky(unit, z_in, z_rec, state):
    """Two fields, unit parameters, h last."""
    rate = jax.nn.sigmoid(unit["rate"])
    trace = (1 - rate) * state.trace + rate * (z_in + z_rec)[0]
    return PairState(trace, jnp.tanh(unit["gain"] * trace))


GAINS = np.linspace(0.5, 1.5, 5, dtype=np.float32)


def closing_over(unit, z_in, z_rec, state):
    """An array `[H]` and one `[G, 1]` that are no parameters."""
    z = (z_in + z_rec) * np.array([[1.0], [0.5], [2.0]], np.float32)[: z_in.shape[0]].reshape(
        (-1,) + (1,) * (z_in.ndim - 1)
    )
    a, b, c = z
    return HState(jnp.where(a > 0, a, 0.1 * a) * GAINS + jax.nn.softplus(b) * jnp.sin(c))


def moving_gates(unit, z_in, z_rec, state):
    """Gates sliced, joined, split, stacked and summed over; a field that only stands still."""
    up, down = jnp.split(jnp.tanh(jnp.concatenate([z_in[1:], z_rec[:1]])), 2)
    both = jnp.stack([up[0], down[0]]).sum(0)
    return PairState(state.trace, 0.5 * state.h + jax.nn.relu(both))


def looking(unit, z_in, z_rec, state):
    """z_in and z_rec have one gradient always, and yet their sum does not tell everything."""
    gain = jnp.where(z_in[0] > 0, 1.0, 2.0).astype(z_in.dtype) + jnp.sign(z_rec[1])
    return HState(gain * jnp.tanh(sum(z_in + z_rec)))


def constant(unit, z_in, z_rec, state):
    """Arrays of one number: a field, and zeros and ones for gates."""
    z = jnp.concatenate([jnp.zeros_like(z_in[:1]), (z_in + z_rec)[1:]])
    more = 0.1 * jnp.ones_like(z).sum(0) + jnp.full_like(z, 0.2)[1]
    return PairState(jnp.full_like(state.trace, 0.5), jnp.tanh(z.sum(0) + more + state.trace))


CHOSEN = np.array([True, False, True, True, False])


def choosing(unit, z_in, z_rec, state):
    """Closes over flags, one for each unit."""
    return HState(jnp.where(CHOSEN, jnp.tanh(z_in + z_rec)[0], state.h))


def cumulative(unit, z_in, z_rec, state):
    """Elementwise over hidden units, and yet nothing that a kernel could do tile by tile."""
    return HState(jnp.tanh(jnp.cumsum(z_in + z_rec, 0)[-1]))


def user_cells(dtype=jnp.float32):
    units = {"rate": jax.nn.initializers.zeros, "gain": jax.nn.initializers.ones}
    return {
        "minimal": gated(minimal, gates=2, dtype=dtype),
        "leaky": gated(leaky, gates=1, state=PairState, dtype=dtype, unit_init=units),
        "moving_gates": gated(moving_gates, gates=2, state=PairState, dtype=dtype),
    }


def all_cells(dtype=jnp.float32):
    return {
        "elman": rx.cells.elman(3, 5, dtype=dtype),
        "lstm": rx.cells.lstm(3, 5, dtype=dtype),
        "gru": rx.cells.gru(3, 4, dtype=dtype),
        **user_cells(dtype),
        **({"closing_over": gated(closing_over, gates=3)} if dtype == jnp.float32 else {}),
        "looking": gated(looking, gates=2, dtype=dtype),
        "constant": gated(constant, gates=2, state=PairState, hidden=16, dtype=dtype),
        "choosing": gated(choosing, gates=1, dtype=dtype),
    }
