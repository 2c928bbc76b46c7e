"""The equations of the cells, against NumPy and against what is known in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
from contract import like

import recurrax as rx

pytestmark = pytest.mark.usefixtures("x64")

I, H = 3, 5


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def numpy_elman(p, s, x):
    return (np.tanh(x @ p.w_in + s.h @ p.w_rec + p.b),)


def numpy_relu(p, s, x):
    return (np.maximum(x @ p.w_in + s.h @ p.w_rec + p.b, 0),)


def numpy_lstm(p, s, x):
    i, f, g, o = np.split(x @ p.w_in + s.h @ p.w_rec + p.b, 4, -1)
    c = sigmoid(f) * s.c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def numpy_gru(p, s, x):
    r_in, z_in, n_in = np.split(x @ p.w_in + p.b, 3, -1)
    r_rec, z_rec, n_rec = np.split(s.h @ p.w_rec, 3, -1)
    z = sigmoid(z_in + z_rec)
    n = np.tanh(n_in + sigmoid(r_in + r_rec) * (n_rec + p.unit.b_n))
    return ((1 - z) * n + z * s.h,)


def numpy_gru_reset_before(p, s, x):
    (x_r, x_z, x_n), (w_r, w_z, w_n) = np.split(x @ p.w_in + p.b, 3, -1), np.split(p.w_rec, 3, -1)
    r, z = sigmoid(x_r + s.h @ w_r), sigmoid(x_z + s.h @ w_z)
    return ((1 - z) * np.tanh(x_n + (r * s.h) @ w_n) + z * s.h,)


def numpy_lstm_projection(p, s, x):
    h, c = numpy_lstm(p, s, x)
    return h @ p.w_proj, c


STEPS = {
    "elman": (rx.cells.elman(I, H, dtype="float64"), rx.cells.elman_step, numpy_elman),
    "elman_relu": (
        rx.cells.elman(I, H, activation="relu", dtype="float64"),
        None,
        numpy_relu,
    ),
    "lstm": (rx.cells.lstm(I, H, dtype="float64"), rx.cells.lstm_step, numpy_lstm),
    "gru": (rx.cells.gru(I, H, dtype="float64"), rx.cells.gru_step, numpy_gru),
    "gru_reset_before": (
        rx.cells.gru_reset_before(I, H, dtype="float64"),
        rx.cells.gru_reset_before_step,
        numpy_gru_reset_before,
    ),
    "lstm_projection": (
        rx.cells.lstm_projection(I, H, 2, dtype="float64"),
        rx.cells.lstm_projection_step,
        numpy_lstm_projection,
    ),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
def test_the_equations(name, batch, key):
    cell, _, equations = STEPS[name]
    params = like(1, jax.eval_shape(cell.init, key))
    state = like(2, jax.eval_shape(lambda p: cell.initial_state(p, batch), params))
    x = like(3, jax.ShapeDtypeStruct((*batch, I), jnp.float64))
    new, y = cell.step(params, state, x)
    plain = jax.tree.map(np.asarray, (params, state, x))
    assert_close(new, type(state)(*map(jnp.asarray, equations(*plain))))
    assert y is new.h


@pytest.mark.parametrize("name", [name for name in STEPS if name != "elman_relu"])
def test_a_step_stands_alone(name):
    cell, step, _ = STEPS[name]
    assert step == cell.step
    assert step.__name__ == f"{name}_step"
    assert step.__doc__.startswith("One step of ")


def test_jacobian_of_a_gru_at_rest(key):
    """At h = 0, x = 0 and without bias: I / 2 + W_n / 4, in row vectors."""
    cell = rx.cells.gru(I, H, dtype="float64")
    params = cell.init(key)
    state = cell.initial_state(params)
    jacobian = jax.jit(
        jax.jacobian(lambda h: cell.step(params, state._replace(h=h), jnp.zeros(I))[1])
    )
    expected = np.eye(H) / 2 + np.asarray(params.w_rec[:, 2 * H :]).T / 4
    np.testing.assert_allclose(jacobian(state.h), expected, rtol=0, atol=1e-14)


def test_an_lstm_with_open_gates_counts():
    """Forget and input gates at 1 and a candidate at 1: c grows by one a step."""
    big = 60.0
    params = rx.cells.LSTMParams(
        w_in=jnp.zeros((1, 4)), w_rec=jnp.zeros((1, 4)), b=jnp.full(4, big), unit=None
    )
    state = rx.cells.LSTMState(jnp.zeros(1), jnp.zeros(1))
    states = rx.unroll_states(rx.cells.lstm_step, params, state, jnp.zeros((9, 1)))
    np.testing.assert_allclose(states.c[:, 0], np.arange(1, 10), rtol=1e-14)


def test_relu_has_slope_0_at_0():
    cell = rx.cells.elman(1, 1, activation="relu", dtype="float64")
    params = rx.cells.ElmanReluParams(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.zeros(1))
    slope = jax.grad(lambda h: cell.step(params, rx.cells.ElmanState(h), jnp.zeros(1))[1][0])
    assert float(slope(jnp.zeros(1))[0]) == 0.0
    assert float(slope(jnp.full(1, 1e-9))[0]) == 1.0
