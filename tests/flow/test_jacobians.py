"""The per-step Jacobians, of gated cells from their pointwise function and of any other by jvp."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import batch_jacobians, example, jacobians
from close import assert_close
from contract import CELLS, B, T, like, make_case

import recurrax as rx
from recurrax.flow.steps.jacobian import GatedMap, linear_map

GATED = ("elman_tanh", "elman_relu", "lstm", "gru", "own_gated")


@pytest.mark.parametrize("name", CELLS)
def test_is_the_derivative_of_the_whole_state(name, x64):
    case = make_case(name, "float64")
    got = rx.flow.jacobians(*case)
    assert_close(got, batch_jacobians(*case), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", GATED)
def test_gated_form_is_the_jvp_form(name):
    cell, params, state, xs = make_case(name, "float32")
    assert isinstance(cell.step, rx.GatedStep)
    got = rx.flow.jacobians(cell, params, state, xs)
    bare = rx.flow.jacobians(lambda p, s, x: cell.step(p, s, x), params, state, xs)
    assert_close(got, bare)


@pytest.mark.parametrize("name", GATED)
def test_gated_form_is_diagonals_and_one_matrix_a_field(name):
    cell, params, state, xs = make_case(name, "float32")
    fields, hidden = len(state), state.h.shape[-1]

    @jax.eval_shape
    def parts():
        one = linear_map(cell.step, params, example(state, 0), xs[0, 0])
        assert isinstance(one, GatedMap)
        return one.through_h, one.direct

    assert parts[0].shape == (hidden, fields * hidden)
    assert parts[1].shape == (fields, fields, hidden)


@pytest.mark.parametrize("name", ["own_gated", "own_plain"])
def test_push_and_pull_multiply_by_the_matrix_and_its_transpose(name, x64):
    cell, params, state, xs = make_case(name, "float64")
    size = sum(leaf.shape[-1] for leaf in jax.tree.leaves(state))
    columns = like(5, jax.ShapeDtypeStruct((size, 3), jnp.float64))

    @jax.jit
    def parts(state, x):
        one = linear_map(cell.step, params, state, x)
        return one.matrix(), one.push(columns), one.pull(columns)

    matrix, pushed, pulled = map(np.asarray, parts(example(state, 0), xs[0, 0]))
    assert_close(pushed, matrix @ columns, rtol=1e-13, atol=1e-15)
    assert_close(pulled, matrix.T @ columns, rtol=1e-13, atol=1e-15)


def test_gru_without_weights_but_one(x64):
    """At h = 0, x = 0: r = z = 1/2, so dh = h/2 + (h W_n / 2) / 2; rows are vectors."""
    cell = rx.cells.gru(2, 3, dtype=jnp.float64)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    w_rec = like(1, params.w_rec)
    params = params._replace(w_rec=w_rec)
    got = rx.flow.jacobians(cell, params, cell.initial_state(params), jnp.zeros((1, 2)))
    w_n = np.asarray(w_rec)[:, 6:]
    assert_close(got[0], np.eye(3) / 2 + w_n.T / 4, rtol=1e-14, atol=1e-15)
    assert abs(w_n - w_n.T).max() > 0.5  # or the transpose would not be seen


def test_h_comes_before_c_and_columns_are_the_old_state(x64):
    """d c_t / d c_{t-1} at fixed h is diag(f), the lower right block of an LSTM."""
    cell, params, state, xs = make_case("lstm", "float64")
    got = np.asarray(rx.flow.jacobians(cell, params, state, xs))
    z = xs[0] @ params.w_in + params.b + state.h @ params.w_rec
    f = np.asarray(jax.nn.sigmoid(z[:, 4:8]))
    np.testing.assert_allclose(got[0, :, 4:, 4:], [np.diag(row) for row in f], atol=1e-15)
    assert abs(got[0, :, :4, :4]).max() > 1e-2  # h to h, through the gates


def test_stack_is_lower_block_triangular(x64):
    case = make_case("stack", "float64")
    got = np.asarray(rx.flow.jacobians(*case))
    below = 2 * 4  # the LSTM's h and c come first; the GRU above them does not act on them
    assert (got[..., :below, below:] == 0).all()
    assert abs(got[..., below:, :below]).max() > 1e-2


def test_batched_is_one_example_at_a_time(x64):
    cell, params, state, xs = make_case("own_gated", "float64")
    got = rx.flow.jacobians(cell, params, state, xs)
    assert got.shape == (T, B, 10, 10)
    for b in range(B):
        one = rx.flow.jacobians(cell, params, example(state, b), xs[:, b])
        assert_close(one, got[:, b], rtol=1e-13, atol=1e-15)


def test_two_batch_axes_of_which_one_is_of_size_one(x64):
    cell, params, state, xs = make_case("lstm", "float64")
    wide_state = jax.tree.map(lambda leaf: leaf[:, None], state)
    got = rx.flow.jacobians(cell, params, wide_state, xs[:, :, None])
    assert_close(got[:, :, 0], rx.flow.jacobians(cell, params, state, xs), rtol=1e-13, atol=1e-15)


def test_one_unit_one_step_is_one_number(x64):
    cell = rx.cells.elman(1, 1, dtype=jnp.float64)
    params = like(1, cell.init(jax.random.key(0)))
    state, x = like(2, cell.initial_state(params)), jnp.full((1, 1), 0.3)
    got = rx.flow.jacobians(cell, params, state, x)
    h = np.tanh(0.3 * params.w_in[0, 0] + state.h[0] * params.w_rec[0, 0] + params.b[0])
    assert got.shape == (1, 1, 1)
    np.testing.assert_allclose(got[0, 0, 0], (1 - h**2) * params.w_rec[0, 0], rtol=1e-14)


class Counted(NamedTuple):
    n: jax.Array  # int32, shared by the batch
    h: jax.Array


def counted(w, state, x):
    h = jnp.tanh(state.h @ w / (1 + state.n) + x)
    return Counted(state.n + 1, h), h


def test_an_integer_leaf_is_carried_and_not_differentiated(x64):
    w, h, xs = like(1, jnp.zeros((4, 4))), like(2, jnp.zeros((B, 4))), like(3, jnp.zeros((5, B, 4)))
    got = rx.flow.jacobians(counted, w, Counted(jnp.int32(0), h), xs)
    for b in range(B):
        expected, now = [], h[b]
        for t, x in enumerate(xs[:, b]):
            now = jnp.tanh(now @ w / (1 + t) + x)
            expected.append(np.diag(1 - np.asarray(now) ** 2) @ np.asarray(w).T / (1 + t))
        np.testing.assert_allclose(got[:, b], expected, rtol=1e-13, atol=1e-14)


def timed(w, h, x):
    """Inputs that are a pytree: a row of each example, and one clock for all of them."""
    h = jnp.tanh(h @ w * x["clock"] + x["row"])
    return h, h


def test_inputs_may_be_a_pytree_with_a_leaf_shared_by_the_batch(x64):
    w, h = like(1, jnp.zeros((4, 4))), like(2, jnp.zeros((B, 4)))
    rows, clock = like(3, jnp.zeros((T, B, 4))), like(4, jnp.zeros(T))
    got = rx.flow.jacobians(timed, w, h, {"row": rows, "clock": clock})
    for b in range(B):
        one = {"row": rows[:, b], "clock": clock}
        expected, now = [], h[b]
        for t in range(T):
            now = jnp.tanh(now @ w * one["clock"][t] + one["row"][t])
            expected.append(np.diag(1 - np.asarray(now) ** 2) @ np.asarray(w).T * clock[t])
        np.testing.assert_allclose(got[:, b], expected, rtol=1e-13, atol=1e-14)


def test_bfloat16_cells_have_jacobians_in_float32():
    case = make_case("lstm", "bfloat16")
    got = rx.flow.jacobians(*case)
    assert got.dtype == jnp.float32
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), case[1:])
    reference = batch_jacobians(case.cell, *wide[:2], wide[2][:1])[0]
    np.testing.assert_allclose(got[0], reference, rtol=5e-2, atol=3e-2)


def test_mixed_precision_state():
    """h in bfloat16, a memory in float32: the joint vector is float32."""

    def step(w, state, x):
        memory = 0.9 * state["memory"] + jnp.tanh(state["h"] @ w + x).astype(jnp.float32)
        return {"h": memory.astype(jnp.bfloat16), "memory": memory}, memory

    state = {"h": jnp.zeros(2, jnp.bfloat16), "memory": jnp.zeros(2)}
    w = 0.5 * jnp.eye(2, dtype=jnp.bfloat16)
    got = rx.flow.jacobians(step, w, state, jnp.zeros((1, 2), jnp.bfloat16))
    half, most = 0.5 * np.eye(2), 0.9 * np.eye(2)
    np.testing.assert_allclose(got[0], np.block([[half, most], [half, most]]), atol=1e-2)


def test_works_under_jit_and_vmap(x64):
    cell, params, state, xs = make_case("gru", "float64")
    expected = rx.flow.jacobians(cell, params, state, xs)
    one = jax.jit(lambda s, x: rx.flow.jacobians(cell, params, s, x))
    got = jax.vmap(one, in_axes=(0, 1), out_axes=1)(state, xs)
    assert_close(got, expected, rtol=1e-13, atol=1e-15)


def test_one_matrix_of_one_sequence(x64):
    case = make_case("lstm_forget_bias", "float64")
    one = (case.cell, case.params, example(case.state, 1), case.xs[:, 1])
    assert_close(rx.flow.jacobians(*one), jacobians(*one), rtol=1e-12, atol=1e-13)
