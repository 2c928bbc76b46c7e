"""What weights alone promise, and what single steps promise, against what is measured."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import chosen, linear
from close import says
from contract import I, like, make_case
from hypothesis import given
from hypothesis import strategies as st

import recurrax as rx


def elman(w_rec, activation="tanh"):
    cell = rx.cells.elman(I, len(w_rec), activation=activation)
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)))
    return cell, params._replace(w_rec=jnp.asarray(w_rec, jnp.float32))


NON_NORMAL = np.asarray([[0.5, 3.0], [0.0, -0.25]])


def test_definitions_of_one_gate():
    got = rx.flow.bounds(*elman(NON_NORMAL))
    np.testing.assert_allclose(got.spectral_radius, [0.5], rtol=1e-7)
    sigma = np.linalg.norm(NON_NORMAL, 2)
    np.testing.assert_allclose(got.largest_singular_value, [sigma], rtol=1e-7)
    np.testing.assert_allclose(got.log_rate, np.log(sigma), rtol=1e-7)
    assert got.log_upper is None


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3), ("own_gated", 2)])
def test_definitions_gate_by_gate_and_no_promise(name, gates):
    cell, params, _, _ = make_case(name, "float32")
    got = rx.flow.bounds(cell, params)
    hidden = params.w_rec.shape[0]
    assert got.spectral_radius.shape == got.largest_singular_value.shape == (gates,)
    for g in range(gates):
        block = np.asarray(params.w_rec[:, g * hidden : (g + 1) * hidden], np.float64)
        radius = abs(np.linalg.eigvals(block)).max()
        np.testing.assert_allclose(got.spectral_radius[g], radius, rtol=1e-12)
        np.testing.assert_allclose(got.largest_singular_value[g], np.linalg.norm(block, 2))
    # A direct path from state to state may hold the gradient whatever the weights are.
    assert (got.log_rate, got.vanishing_guaranteed, got.exploding_possible) == (np.inf, False, True)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    ("scale", "vanishes", "explodes"),
    [(0.5, True, False), (1.0, False, False), (2.0, False, True), (0.0, True, False)],
)
def test_what_orthogonal_weights_promise(activation, scale, vanishes, explodes):
    """At scale 1 they are orthogonal but for rounding, and neither may be said."""
    w = jax.nn.initializers.orthogonal()(jax.random.key(0), (20, 20))
    got = rx.flow.bounds(*elman(scale * w, activation))
    assert (got.vanishing_guaranteed, got.exploding_possible) == (vanishes, explodes)
    expected = np.log(scale) if scale else -np.inf
    np.testing.assert_allclose(got.log_rate, expected, atol=1e-5)


def test_neither_condition_is_the_converse_of_the_other():
    """sigma_max > 1 and a radius below 1: possible growth, and in the long run none."""
    cell, params = elman(NON_NORMAL)
    got = rx.flow.bounds(cell, params)
    assert got.exploding_possible
    assert not got.vanishing_guaranteed
    still = params._replace(w_in=0 * params.w_in, b=0 * params.b)
    decay = rx.flow.decay(cell, still, cell.initial_state(still), jnp.zeros((200, I)))
    assert float(decay.log_norm[0]) > 1  # grows at first
    assert float(decay.log_norm[-1]) < -100


@given(st.integers(0, 1000), st.floats(0.1, 0.99))
def test_sigma_below_one_always_vanishes_at_least_at_the_rate(seed, sigma):
    w = np.random.default_rng(seed).standard_normal((4, 4))
    cell, params = elman(sigma * w / np.linalg.norm(w, 2))
    got = rx.flow.bounds(cell, params)
    assert got.vanishing_guaranteed
    xs = like(seed, jnp.zeros((50, 3, I)), 2.0)
    decay = rx.flow.decay(cell, params, like(seed, cell.initial_state(params, (3,))), xs)
    steps = np.arange(1, 51)[:, None]
    assert (decay.log_norm <= got.log_rate * steps + 1e-4).all()


@pytest.mark.parametrize("name", ["elman_tanh", "lstm", "gru", "stack", "own_plain"])
def test_log_upper_is_the_sum_of_the_norms_of_the_steps(name, x64):
    case = make_case(name, "float64", T=20)
    got = rx.flow.bounds(*case).log_upper
    matrices = np.asarray(rx.flow.jacobians(*case))
    steps = np.log(np.linalg.norm(matrices, 2, axis=(-2, -1)))
    np.testing.assert_allclose(got, np.cumsum(steps, 0), rtol=1e-11, atol=1e-12)
    measured = rx.flow.decay(*case).log_norm
    assert (measured <= got + 1e-12).all()
    assert float((got - measured)[-1].min()) > 0.1  # a bound, and not the thing


@pytest.mark.parametrize("name", ["elman_tanh", "lstm", "gru", "stack"])
def test_log_lower_is_the_sum_of_the_least_singular_values(name, x64):
    case = make_case(name, "float64", T=20)
    got = rx.flow.bounds(*case)
    matrices = np.asarray(rx.flow.jacobians(*case))
    steps = np.log(np.linalg.svd(matrices, compute_uv=False)[..., -1])
    np.testing.assert_allclose(got.log_lower, np.cumsum(steps, 0), rtol=1e-9, atol=1e-9)
    measured = rx.flow.decay(*case).log_norm
    assert (got.log_lower <= measured + 1e-12).all()
    assert (got.log_lower < got.log_upper).all()


def test_log_lower_above_the_dense_size(x64):
    """N = 60, where singular values are found without an SVD."""
    cell = rx.cells.lstm(I, 30, dtype="float64")
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)), 0.3)
    xs = like(2, jnp.zeros((5, I)))
    got = rx.flow.bounds(cell, params, None, xs)
    matrices = np.asarray(rx.flow.jacobians(cell, params, None, xs), np.float64)
    values = np.linalg.svd(matrices, compute_uv=False)
    np.testing.assert_allclose(got.log_lower, np.cumsum(np.log(values[:, -1])), rtol=1e-10)
    np.testing.assert_allclose(got.log_upper, np.cumsum(np.log(values[:, 0])), rtol=1e-10)


def test_orthogonal_steps_leave_no_room():
    w = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0], "f4")
    got = rx.flow.bounds(linear, w, jnp.zeros(6), jnp.zeros((30, 6)))
    np.testing.assert_allclose(got.log_lower, 0, atol=3e-4)
    np.testing.assert_allclose(got.log_upper, 0, atol=3e-4)


def test_log_lower_is_minus_infinity_from_the_first_singular_step_on():
    ws = jnp.asarray([2 * np.eye(3), np.ones((3, 3)), np.zeros((3, 3))], jnp.float32)
    got = rx.flow.bounds(chosen, ws, jnp.zeros(3), jnp.asarray([0, 1, 0]))
    np.testing.assert_allclose(got.log_lower, [np.log(2), -np.inf, -np.inf], rtol=1e-6)
    got = rx.flow.bounds(chosen, ws, jnp.zeros(3), jnp.asarray([2, 0]))
    assert got.log_lower.tolist() == [-np.inf] * 2


def test_conditions_by_name():
    got = rx.flow.bounds(*elman(NON_NORMAL))
    assert (got.gamma, got.critical_singular_value) == (1.0, 1.0)
    assert got.exploding_possible == (got.largest_singular_value[0] > got.critical_singular_value)
    cell, params, _, _ = make_case("lstm", "float32")
    got = rx.flow.bounds(cell, params)
    assert (got.gamma, got.critical_singular_value, got.log_lower) == (None, None, None)


def test_condition_of_an_activation_of_another_slope():
    """A sigmoid, whose slope is at most 1/4: sigma_max below 4 is sufficient for vanishing."""

    class State(NamedTuple):
        h: jax.Array

    def squash(unit, z_in, z_rec, state):
        return State(jax.nn.sigmoid(z_in[0] + z_rec[0]))

    cell = rx.gated_cell(squash, gates=1, state=State, input_size=1, hidden_size=3, slope=0.25)
    params = cell.init(jax.random.key(0))
    for scale, guaranteed in ((3.9, True), (4.1, False)):
        got = rx.flow.bounds(cell, params._replace(w_rec=scale * jnp.eye(3)))
        assert got.critical_singular_value == 4
        assert (got.vanishing_guaranteed, got.exploding_possible) == (guaranteed, not guaranteed)


def test_log_upper_of_a_gated_cell_is_below_its_rate(x64):
    cell, params, state, xs = make_case("elman_tanh", "float64", T=20)
    got = rx.flow.bounds(cell, params, state, xs)
    assert (got.log_upper <= got.log_rate * np.arange(1, 21)[:, None] + 1e-12).all()


def test_step_that_is_not_gated_has_log_upper_alone():
    w = jnp.asarray(NON_NORMAL, jnp.float32)
    got = rx.flow.bounds(linear, w, jnp.zeros(2), jnp.zeros((30, 2)))
    assert got[:2] == (None, None)
    assert (got.log_rate, got.vanishing_guaranteed, got.exploding_possible) == (np.inf, False, True)
    expected = np.arange(1, 31) * np.log(np.linalg.norm(NON_NORMAL, 2))
    np.testing.assert_allclose(got.log_upper, expected, rtol=1e-5)


def test_log_upper_where_a_step_forgets_everything():
    got = rx.flow.bounds(linear, jnp.zeros((2, 2)), jnp.zeros(2), jnp.zeros((3, 2)))
    assert got.log_upper.tolist() == [-np.inf] * 3


def test_bfloat16_weights():
    cell, params = elman(NON_NORMAL)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    got = rx.flow.bounds(cell, half)
    np.testing.assert_allclose(got.spectral_radius, [0.5], rtol=1e-7)


# --- messages -----------------------------------------------------------------------------------


def test_step_that_is_not_gated_without_inputs():
    with says(
        ValueError,
        "bounds reads w_rec of a gated cell, and this step is not one. Give state and xs for the "
        "bound along a trajectory, flow.bounds(cell, params, state, xs), or ask about each cell of "
        "a stack by itself, flow.bounds(cell, params[i]).",
    ):
        rx.flow.bounds(linear, jnp.eye(2))


def test_traced_params():
    cell, params = elman(NON_NORMAL)
    with says(TypeError, "bounds computes eigenvalues on the host: call it outside jit and grad"):
        jax.jit(lambda p: rx.flow.bounds(cell, p).log_rate)(params)


def test_params_that_are_not_finite():
    cell, params = elman(NON_NORMAL)
    with says(ValueError, "params.w_rec is not finite. Did training diverge?"):
        rx.flow.bounds(cell, params._replace(w_rec=params.w_rec.at[0, 1].set(jnp.nan)))


def test_params_of_something_else():
    cell, params = elman(NON_NORMAL)
    with says(
        TypeError,
        "params must be the NamedTuple that cell.init(key) returns, with w_in, w_rec, b and unit; "
        "got dict",
    ):
        rx.flow.bounds(cell, {"w": 1})
    with says(
        ValueError,
        "params.w_in has shape (3, 2), expected (3, 6) for I = 3, H = 2 and 3 gates. Are these the "
        "params of another cell?",
    ):
        rx.flow.bounds(rx.cells.gru(I, 2), params)
