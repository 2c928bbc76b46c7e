"""Twelve unlike cells, each to be brought to a rate: theirs, users' own, and one that cannot be."""

from __future__ import annotations

import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import recurrax as rx


class H(NamedTuple):
    h: jax.Array


class Scales(NamedTuple):
    h: jax.Array
    slow: jax.Array


def leaky(unit, z_in, z_rec, state):
    return H(0.8 * state.h + 0.2 * jnp.tanh(z_in[0] + z_rec[0]))


def mgu_gates(unit, z_in, z_rec):
    f = jax.nn.sigmoid(z_in[0] + z_rec[0])
    return f, jnp.tanh(z_in[1] + f * z_rec[1])


def mgu(unit, z_in, z_rec, state):
    f, n = mgu_gates(unit, z_in, z_rec)
    return H((1 - f) * state.h + f * n)


MGU_VIEW = rx.GateView(("f", "n"), ("sigmoid", "tanh"), mgu_gates)


def two_scales(unit, z_in, z_rec, state):
    z = z_in + z_rec
    slow = 0.95 * state.slow + 0.05 * jnp.tanh(z[0])
    return Scales(h=jnp.tanh(z[1]) + slow, slow=slow)


def sine(unit, z_in, z_rec, state):
    return H(jnp.sin(z_in[0] + z_rec[0]))


def with_tau(unit, z_in, z_rec, state):
    return H(state.h + (jnp.tanh(z_in[0] + z_rec[0]) - state.h) / unit["tau"])


def leak_alone(unit, z_in, z_rec, state):
    return H(0.5 * state.h + jnp.tanh(z_in[0]) + 0 * z_rec[0])


def plain_step(params, h, x):
    z = jnp.concatenate([x, h], -1) @ params["weights"]
    h = jnp.tanh(z) * jnp.cos(z)
    return h, h


def more_weight(params, number):
    return params | {"weights": number * params["weights"]}


def own(pointwise, size, hidden, gates=1, state=H, **options):
    sizes = {"gates": gates, "input_size": size, "hidden_size": hidden}
    return rx.gated_cell(pointwise, state=state, **sizes, **options)


def tau_init(key, shape, dtype):
    return jnp.full(shape, 4, dtype)


def plain_params(size, hidden):
    shape = (size + hidden, hidden)
    return {"weights": 0.1 * jax.random.normal(jax.random.key(0), shape)}


class Unlike(NamedTuple):
    """A cell, and how it is calibrated."""

    make: Any  # (size, hidden) -> cell or step
    options: Any = types.MappingProxyType({})
    dtype: Any = jnp.float32


UNLIKE = {
    "elman": Unlike(rx.cells.elman),
    "relu": Unlike(lambda i, n: rx.cells.elman(i, n, activation="relu")),
    "lstm": Unlike(rx.cells.lstm),
    "gru": Unlike(rx.cells.gru),
    "leaky": Unlike(lambda i, n: own(leaky, i, n)),
    "mgu": Unlike(lambda i, n: own(mgu, i, n, 2, view=MGU_VIEW)),
    "two scales": Unlike(lambda i, n: own(two_scales, i, n, 2, Scales)),
    "sine": Unlike(lambda i, n: own(sine, i, n)),
    "unit": Unlike(
        lambda i, n: own(with_tau, i, n, unit_init={"tau": tau_init}),
        {"adjust": "tau", "horizon": 40},
    ),
    "stack": Unlike(lambda i, n: rx.stack(rx.cells.elman(i, n), rx.cells.gru(n, n // 2))),
    "plain step": Unlike(lambda i, n: plain_step, {"adjust": more_weight}),
    "half": Unlike(lambda i, n: rx.cells.gru(i, n, dtype=jnp.bfloat16), dtype=jnp.bfloat16),
    "leak alone": Unlike(lambda i, n: own(leak_alone, i, n)),
}
