"""The cells that must keep the laws of test_contract.py. A new cell is one new row of CELLS."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import recurrax as rx

T, B, I = 6, 3, 3  # every cell of the table takes I = 3 features


# --- a gated cell as its user would write one: two gates, a second field, a unit parameter -------


class LeakyState(NamedTuple):
    h: jax.Array
    trace: jax.Array


def leaky_pointwise(unit, z_in, z_rec, state):
    f = jax.nn.sigmoid(z_in[0] + z_rec[0])
    trace = (1 - f) * state.trace + f * jnp.tanh(z_in[1] + f * z_rec[1])
    return LeakyState(h=jnp.tanh(unit["gain"] * trace), trace=trace)


def leaky(dtype):
    return rx.gated_cell(
        leaky_pointwise,
        gates=2,
        state=LeakyState,
        input_size=I,
        hidden_size=5,
        unit_init={"gain": jax.nn.initializers.ones},
        dtype=dtype,
    )


# --- a plain cell that is not gated: its hidden units see each other, and y is not the state -----


class NormParams(NamedTuple):
    w: jax.Array  # [I + 4, 4]
    scale: jax.Array  # [4]
    w_out: jax.Array  # [4, 2]


@dataclasses.dataclass(frozen=True)
class NormInit:
    dtype: Any

    def __call__(self, key):
        first, second = jax.random.split(key)
        return NormParams(
            w=jax.random.normal(first, (I + 4, 4), self.dtype),
            scale=jnp.ones(4, self.dtype),
            w_out=jax.random.normal(second, (4, 2), self.dtype),
        )


def norm_initial_state(params, batch_shape=()):
    return jnp.zeros((*batch_shape, 4), params.w.dtype)


def norm_step(params, h, x):
    z = jnp.concatenate([x, h], -1) @ params.w
    z = z - jnp.mean(z, -1, keepdims=True)
    h = jnp.tanh(params.scale * z * jax.lax.rsqrt(jnp.mean(z * z, -1, keepdims=True) + 1e-3))
    return h, h @ params.w_out


# --- the table -----------------------------------------------------------------------------------

CELLS = {
    "elman_tanh": lambda dtype: rx.cells.elman(I, 4, dtype=dtype),
    "elman_relu": lambda dtype: rx.cells.elman(I, 4, activation="relu", dtype=dtype),
    "lstm": lambda dtype: rx.cells.lstm(I, 4, forget_bias=0.0, dtype=dtype),
    "lstm_forget_bias": lambda dtype: rx.cells.lstm(I, 5, forget_bias=3.0, dtype=dtype),
    "gru": lambda dtype: rx.cells.gru(I, 4, dtype=dtype),
    "gru_reset_before": lambda dtype: rx.cells.gru_reset_before(I, 4, dtype=dtype),
    "lstm_projection": lambda dtype: rx.cells.lstm_projection(I, 5, 2, dtype=dtype),
    "own_gated": leaky,
    "stack": lambda dtype: rx.stack(
        rx.cells.lstm(I, 4, dtype=dtype), rx.cells.gru(4, 5, dtype=dtype)
    ),
    "residual": lambda dtype: rx.residual(rx.cells.gru(I, I, dtype=dtype)),
    "own_plain": lambda dtype: rx.Cell(NormInit(jnp.dtype(dtype)), norm_initial_state, norm_step),
}


# Those that only the step-by-step engines take.
PLAIN = ("gru_reset_before", "lstm_projection", "own_plain")


class Case(NamedTuple):
    """A cell with something to run it on; nothing in it is zero."""

    cell: rx.Cell
    params: Any
    state: Any  # [B, ...], not the initial state
    xs: jax.Array  # [T, B, I]


# Drawn by NumPy, which has nothing to compile; how params begin is the subject of cells/test_init.
@functools.cache
def make_case(name, dtype, T=T):
    """The case of one row; the same for every test that asks for it."""
    cell = CELLS[name](dtype)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda params: cell.initial_state(params, (B,)), params)
    xs = jax.ShapeDtypeStruct((T, B, I), dtype)
    return Case(cell, like(1, params, 0.5), like(2, state, 0.5), like(3, xs))


def like(seed, tree, size=1.0):
    """Normal noise in the shape of a tree."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(size * draw.standard_normal(leaf.shape), leaf.dtype), tree
    )
