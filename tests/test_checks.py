"""What a step is told when its arguments do not fit: every message by its text."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from close import says

import recurrax as rx

T, B, I, H = 6, 3, 5, 4
cell = rx.cells.lstm(I, H)
xs = jnp.ones((T, B, I))


@pytest.fixture(scope="module")
def params():
    return rx.cells.LSTMParams(jnp.ones((I, 4 * H)), jnp.ones((H, 4 * H)), jnp.ones(4 * H))


@pytest.fixture(scope="module")
def state():
    return rx.cells.LSTMState(jnp.zeros((B, H)), jnp.zeros((B, H)))


# --- inputs --------------------------------------------------------------------------------------


def test_batch_and_time_transposed(params, state):
    message = (
        "xs has shape (3, 6, 5), expected [T, B, I] with B = 3 from the state. xs has its batch "
        "axis first? recurrax wants [T, B, I]: use jnp.swapaxes(xs, 0, 1)."
    )
    with says(ValueError, message):
        rx.unroll(cell, params, state, jnp.swapaxes(xs, 0, 1))


def test_another_batch_size(params, state):
    message = (
        "xs has shape (6, 2, 5), expected [T, B, I] with batch shape (3,) from the state, but it "
        "has batch shape (2,). Make the state with cell.initial_state(params, (2,))."
    )
    with says(ValueError, message):
        rx.unroll(cell, params, state, xs[:, :2])


def test_a_batch_for_a_state_without_one(params):
    message = (
        "xs has shape (6, 3, 5), expected [T, I] with batch shape () from the state, but it has "
        "batch shape (3,). Make the state with cell.initial_state(params, (3,))."
    )
    with says(ValueError, message):
        rx.unroll(cell, params, cell.initial_state(params), xs)


def test_one_sequence_for_a_state_with_a_batch(params, state):
    message = (
        "xs has shape (6, 5), expected [T, B, I] with batch shape (3,) from the state, but it has "
        "batch shape (). Make the state with cell.initial_state(params, ())."
    )
    with says(ValueError, message):
        rx.unroll(cell, params, state, xs[:, 0])


def test_another_number_of_features(params, state):
    message = (
        "xs has shape (6, 3, 2), expected [T, B, I] with I = 5 features on the last axis. Was the "
        "cell built for another input_size? params.w_in has 5 rows."
    )
    with says(ValueError, message):
        rx.unroll(cell, params, state, xs[..., :2])


def test_inputs_without_the_axis_of_one_feature(params, state):
    lone = params._replace(w_in=jnp.ones((1, 4 * H)))
    message = (
        "xs has shape (6, 3), expected [T, {}I] with I = 1 feature on the last axis. If that axis "
        "is missing, add it: xs[..., None]."
    )
    with says(ValueError, message.format("B, ")):
        rx.unroll(rx.cells.lstm(1, H), lone, state, xs[..., 0])
    with says(ValueError, message.format("")):
        rx.unroll(rx.cells.lstm(1, H), lone, None, xs[..., 0])


def test_a_single_step_names_x(params, state):
    message = (
        "x has shape (3, 2), expected [B, I] with I = 5 features on the last axis. Was the cell "
        "built for another input_size? params.w_in has 5 rows."
    )
    with says(ValueError, message):
        cell.step(params, state, xs[0, :, :2])


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers(params, state, dtype):
    message = (
        f"xs has dtype {dtype}, expected floating point, since it is multiplied by w_in. Cast "
        "numbers with xs.astype(jnp.float32); turn token ids into rows with jax.nn.one_hot(xs, 5)."
    )
    with says(TypeError, message):
        rx.unroll(cell, params, state, xs.astype(dtype))


def test_a_tree_for_one_array(params, state):
    with says(TypeError, "xs must be one array, got dict: use jnp.asarray"):
        rx.unroll(cell, params, state, {"a": xs})
    with says(TypeError, "x must be one array, got list: use jnp.asarray"):
        cell.step(params, state, [1.0] * I)


# --- params and state ----------------------------------------------------------------------------


def test_params_that_are_none_of_a_gated_cell(state):
    message = (
        "params must be the NamedTuple that cell.init(key) returns, with w_in, w_rec, b and unit; "
        "got dict"
    )
    with says(TypeError, message):
        rx.unroll(cell, {"w_in": xs}, state, xs)


@pytest.mark.parametrize(
    ("field", "shape", "expected"),
    [("w_in", (5, 12), (5, 16)), ("w_rec", (4, 12), (4, 16)), ("b", (12,), (16,))],
)
def test_params_of_another_cell(params, state, field, shape, expected):
    message = (
        f"params.{field} has shape {shape}, expected {expected} for I = 5, H = 4 and 4 gates. "
        "Are these the params of another cell?"
    )
    with says(ValueError, message):
        rx.unroll(cell, params._replace(**{field: jnp.ones(shape)}), state, xs)


def test_one_gate_is_not_plural():
    elman = rx.cells.ElmanParams(jnp.ones((5, 4)), jnp.ones((4, 4)), jnp.ones(3))
    message = (
        "params.b has shape (3,), expected (4,) for I = 5, H = 4 and 1 gate. Are these the params "
        "of another cell?"
    )
    with says(ValueError, message):
        rx.cells.elman_step(elman, rx.cells.ElmanState(jnp.zeros(4)), jnp.ones(5))


def test_the_state_of_another_cell(params):
    message = (
        "state must be a LSTMState, as cell.initial_state(params, batch_shape) returns; "
        "got GRUState"
    )
    with says(TypeError, message):
        rx.unroll(cell, params, rx.cells.GRUState(jnp.zeros((B, H))), xs)
    with says(TypeError, message.replace("GRUState", "float32[3,4]")):
        jax.jit(lambda h: rx.unroll(cell, params, h, xs))(jnp.zeros((B, H)))


def test_a_state_of_another_size(params, state):
    message = (
        "state.h has shape (3, 7), expected (3, 4): the last axis is H = 4, and all fields share "
        "one batch shape"
    )
    with says(ValueError, message):
        rx.unroll(cell, params, state._replace(h=jnp.zeros((3, 7))), xs)
    with says(ValueError, message.replace("state.h", "state.c").replace("(3, 7)", "(2, 4)")):
        rx.unroll(cell, params, state._replace(c=jnp.zeros((2, 4))), xs)


def test_a_float32_state_for_bfloat16_params(params, state):
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, state))
    message = (
        "lstm_pointwise changed the dtype of state.h from bfloat16 to float32. Cast xs from "
        "float32 to bfloat16, start from a state of float32, or cast the new state in the step."
    )
    with says(TypeError, message):
        rx.unroll(cell, *half, xs)
    message = message.replace("Cast xs", "Cast params from float32 and xs")
    with says(TypeError, message):
        rx.unroll(cell, params, half[1], xs)


def test_a_gated_step_that_returns_something_else(params, state):
    def odd(unit, z_in, z_rec, state):
        return state.h

    step = rx.GatedStep(odd, gates=4, state=rx.cells.LSTMState)
    with pytest.raises(
        TypeError, match=r"\Aodd must return the new state, a LSTMState; it returned "
    ):
        step(params, state, xs[0])


# --- any step ------------------------------------------------------------------------------------


def run_step(step, state=None, xs=None):
    state = jnp.zeros(2) if state is None else state
    return rx.unroll(step, None, state, jnp.ones((3, 2)) if xs is None else xs)


def lone(params, state, x):
    return state + x


def single(params, state, x):
    return (state,)


def triple(params, state, x):
    return state, x, x


def as_list(params, state, x):
    return [state, x]


@pytest.mark.parametrize(
    ("step", "got"),
    [
        (lone, "float32[2]"),
        (single, "(float32[2],)"),
        (triple, "(float32[2], float32[2], float32[2])"),
        (as_list, "[float32[2], float32[2]]"),
    ],
)
def test_not_a_pair(step, got):
    message = (
        f"{step.__name__} must return a pair (state, y), got {got}. Return the state twice if it "
        "has no other output."
    )
    with says(TypeError, message):
        run_step(step)


class Pair(NamedTuple):
    h: jax.Array
    c: jax.Array


def test_a_state_of_another_structure():
    def swapped(params, state, x):
        return x, Pair(state, state)

    def forgetful(params, state, x):
        return (state.h, state.c), x

    message = (
        "forgetful returned a state of another structure: it was given Pair(h=float32[2], "
        "c=float32[2]) and returned (float32[2], float32[2]). The new state comes first, and "
        "looks like the old one."
    )
    with says(TypeError, message):
        run_step(forgetful, Pair(jnp.zeros(2), jnp.zeros(2)))
    with pytest.raises(TypeError, match=r"\Aswapped returned a state of another structure"):
        run_step(swapped, (jnp.zeros(2), jnp.zeros(2)))


def test_a_state_that_changes_its_dtype():
    def narrow(params, state, x):
        return {"a": state["a"].astype(jnp.bfloat16), "b": state["b"]}, x

    message = (
        "narrow changed the dtype of state['a'] from float32 to bfloat16. Start from a state of "
        "bfloat16, or cast the new state in the step."
    )
    with says(TypeError, message):
        run_step(narrow, {"a": jnp.zeros(2), "b": jnp.zeros(2)})


def test_an_integer_for_a_state():
    def add(params, state, x):
        return state + x, x

    message = (
        "add changed the dtype of state from int32 to float32. Start from a state of float32, or "
        "cast the new state in the step."
    )
    with says(TypeError, message):
        run_step(add, 1, jnp.ones(3))


def test_a_state_that_changes_its_shape():
    def broadcast(params, state, x):
        return (state[0] + x,), x

    message = (
        "broadcast changed the shape of state[0] from (2,) to (4, 2). A state keeps its shape "
        "through time: did x or the initial state miss a batch axis?"
    )
    with says(ValueError, message):
        run_step(broadcast, (jnp.zeros(2),), jnp.ones((3, 4, 2)))


class Nameless:
    def __call__(self, params, state, x):
        return state


def test_a_step_without_a_name_goes_by_its_class():
    with pytest.raises(TypeError, match=r"\ANameless must return a pair"):
        run_step(Nameless())
