"""torch's RNN, LSTM and GRU give the same values and the same gradients, in float64.

golden/torch.npz was written by golden/make_torch.py. torch keeps weights as `[G*H, I]` and two
biases a gate. Ours are `[I, G*H]` and their sum, but for the GRU's n, where the recurrent bias
stays inside the reset: `unit.b_n`.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close

import recurrax as rx

pytestmark = pytest.mark.usefixtures("x64")

CELLS = {
    "rnn_tanh": lambda I, H: rx.cells.elman(I, H, dtype="float64"),
    "rnn_relu": lambda I, H: rx.cells.elman(I, H, activation="relu", dtype="float64"),
    "lstm": lambda I, H: rx.cells.lstm(I, H, dtype="float64"),
    "gru": lambda I, H: rx.cells.gru(I, H, dtype="float64"),
}
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(params=CELLS)
def kind(request):
    return request.param


@pytest.fixture
def golden(kind):
    path = Path(__file__).parents[1] / "golden" / "torch.npz"
    with np.load(path, allow_pickle=False) as file:
        names = [name for name in file.files if name.startswith(f"{kind}/")]
        return {name.removeprefix(f"{kind}/"): jnp.asarray(file[name]) for name in names}


@pytest.fixture
def cell(kind, golden):
    return CELLS[kind](golden["x"].shape[-1], golden["h0"].shape[-1])


def our_params(kind, cell, golden, prefix=""):
    """torch's weights as ours; with `prefix="d_"` torch's gradients as ours."""
    w_ih, w_hh, b_ih, b_hh = (
        golden[prefix + name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = w_hh.shape[-1]
    params = jax.eval_shape(cell.init, jax.random.key(0))
    # b = b_ih + b_hh, so the gradient by b is that by either of them.
    b, unit = (b_ih if prefix else b_ih + b_hh), params.unit
    if kind == "gru":
        b = b.at[2 * hidden :].set(b_ih[2 * hidden :])
        unit = rx.cells.GRUUnit(b_n=b_hh[2 * hidden :])
    return params._replace(w_in=w_ih.T, w_rec=w_hh.T, b=b, unit=unit)


def our_state(cell, golden, name="{}0", at=0):
    fields = cell.step.state._fields
    return cell.step.state(*(golden[name.format(field)][at] for field in fields))


def test_the_whole_sequence(kind, cell, golden):
    params, state = our_params(kind, cell, golden), our_state(cell, golden)
    states = rx.unroll_states(cell, params, state, golden["x"])
    assert_close(states, cell.step.state(*(golden[f] for f in states._fields)), **CLOSE)
    last, ys = rx.unroll(cell, params, state, golden["x"])
    assert_close((last, ys), (our_state(cell, golden, "{}", -1), golden["h"]), **CLOSE)


def test_step_by_step_from_the_state_of_torch(kind, cell, golden):
    params, state = our_params(kind, cell, golden), our_state(cell, golden)
    for t, x in enumerate(golden["x"]):
        expected = our_state(cell, golden, "{}", t)
        assert_close(cell.step(params, state, x), (expected, golden["h"][t]), **CLOSE)
        state = expected


def test_gradients(kind, cell, golden):
    def loss(params, state, xs):
        states = rx.unroll_states(cell, params, state, xs)
        return sum(jnp.sum(golden[f"weight_{f}"] * getattr(states, f)) for f in states._fields)

    args = our_params(kind, cell, golden), our_state(cell, golden), golden["x"]
    value, grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*args)
    assert_close(value, golden["loss"], **CLOSE)
    expected = (
        our_params(kind, cell, golden, "d_"),
        our_state(cell, golden, "d_{}0"),
        golden["d_x"],
    )
    assert_close(grads, expected, **CLOSE)


def test_torch_has_one_gradient_for_its_two_biases(kind, golden):
    """Only the GRU's n tells them apart: what the mapping above rests on."""
    d_ih, d_hh = golden["d_bias_ih"], golden["d_bias_hh"]
    shared = slice(None, -golden["h0"].shape[-1]) if kind == "gru" else slice(None)
    np.testing.assert_allclose(d_ih[shared], d_hh[shared], rtol=1e-12, atol=1e-13)
    assert bool(jnp.allclose(d_ih, d_hh)) == (kind != "gru")
