"""The network of 1997: memory cells in blocks that share their gates, and none that forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.unrolling import unroll

if TYPE_CHECKING:
    import chex

BLOCKS, SIZE = 2, 2
CELLS = BLOCKS * SIZE
HIDDEN = CELLS + 2 * BLOCKS  # cells, input gates, output gates, in this order


class Params(NamedTuple):
    """All hidden units hear the inputs and all hidden units, the gates too."""

    w_in: chex.Array  # [I, HIDDEN]
    w_rec: chex.Array  # [HIDDEN, HIDDEN]
    b: chex.Array  # [HIDDEN]


class State(NamedTuple):
    s: chex.Array  # [*batch, CELLS], the internal states
    y: chex.Array  # [*batch, HIDDEN], what every unit gave


def initial_state(params: Params, batch_shape: tuple[int, ...] = ()) -> State:
    """All zero."""
    dtype = params.b.dtype
    return State(jnp.zeros((*batch_shape, CELLS), dtype), jnp.zeros((*batch_shape, HIDDEN), dtype))


def step(params: Params, state: State, x: chex.Array) -> tuple[State, chex.Array]:
    """`s = s + y_in g(z_c)` and `y_c = y_out h(s)`, g in [-2, 2] and h in [-1, 1].

    No error passes from a unit to what it heard of the step before (the truncated rule), so that it
    stays in the internal states, which pass it on as it is.
    """
    heard = jax.lax.stop_gradient(state.y)
    z = x @ params.w_in + heard @ params.w_rec + params.b
    z_cell, z_gates = z[..., :CELLS], z[..., CELLS:]
    gates = jax.nn.sigmoid(z_gates)
    # 4 sigmoid(z) - 2 and 2 sigmoid(s) - 1.
    s = state.s + _of_each_cell(gates[..., :BLOCKS]) * 2 * jnp.tanh(z_cell / 2)
    y = _of_each_cell(gates[..., BLOCKS:]) * jnp.tanh(s / 2)
    return State(s, jnp.concatenate([y, gates], -1)), y


def _of_each_cell(gates: chex.Array) -> chex.Array:
    return jnp.repeat(gates, SIZE, -1)


class Network(NamedTuple):
    """A cell's params and logistic outputs, which hear the memory cells alone."""

    cell: Params
    w_out: chex.Array  # [CELLS, O]
    b_out: chex.Array  # [O]


def init(key: chex.PRNGKey, inputs: int, outputs: int, gate_biases: tuple[float, ...]) -> Network:
    """Uniform in +-0.1, but for the biases of the input gates, one a block."""
    sizes = ((inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,), (CELLS, outputs), (outputs,))
    keys = jax.random.split(key, len(sizes))
    w_in, w_rec, b, w_out, b_out = (
        jax.random.uniform(one, size, minval=-0.1, maxval=0.1)
        for one, size in zip(keys, sizes, strict=True)
    )
    b = b.at[CELLS : CELLS + BLOCKS].set(jnp.asarray(gate_biases))
    return Network(Params(w_in, w_rec, b), w_out, b_out)


def answer(network: Network, xs: chex.Array, mask: chex.Array) -> chex.Array:
    """The outputs `[*batch, O]` after the last step of `[T, *batch, I]` that the mask leaves."""
    state, _ = unroll(
        step, network.cell, initial_state(network.cell, mask.shape[1:]), xs, mask=mask
    )
    return jax.nn.sigmoid(state.y[..., :CELLS] @ network.w_out + network.b_out)
