"""What every question of the microscope says to input it cannot measure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import linear
from close import says
from contract import like, make_case

import recurrax as rx
from recurrax import checks

QUESTIONS = {
    "jacobians": rx.flow.jacobians,
    "decay": rx.flow.decay,
    "bounds": rx.flow.bounds,
    "report": rx.flow.report,
    "lyapunov": rx.flow.lyapunov,
    "covariant_vectors": rx.flow.covariant_vectors,
    "paths": lambda *case: rx.flow.paths(*case),
    "predict": lambda cell, params, state, xs: rx.flow.predict(cell, params, state, xs),
    "spectrum": rx.flow.spectrum,
    "lag_profile": lambda *case: rx.flow.lag_profile(*case, lambda ys: jnp.sum(ys)),
    "loss_gradients": lambda *case: rx.flow.loss_gradients(*case, lambda ys: jnp.sum(ys)),
}


@pytest.fixture(params=QUESTIONS)
def ask(request):
    return QUESTIONS[request.param]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_inputs_that_are_not_finite(ask, value):
    cell, params, state, xs = make_case("gru", "float32")
    xs = xs.at[2, 1, 0].set(float(value))
    with says(
        ValueError,
        f"xs is not finite: {value} at index (2, 1, 0), 1 such entry in all. Drop or fill those "
        "steps: one NaN spoils all later ones.",
    ):
        ask(cell, params, state, xs)


def test_params_that_are_not_finite(ask):
    cell, params, state, xs = make_case("gru", "float32")
    params = params._replace(b=params.b.at[:2].set(jnp.nan))
    with says(
        ValueError,
        "params.b is not finite: nan at index (0,), 2 such entries in all. Did training diverge?",
    ):
        ask(cell, params, state, xs)


def test_state_that_is_not_finite(ask):
    cell, params, state, xs = make_case("lstm", "float32")
    state = state._replace(c=state.c.at[0, 3].set(-jnp.inf))
    with says(
        ValueError,
        "state.c is not finite: -inf at index (0, 3), 1 such entry in all. Start from "
        "cell.initial_state(params, batch_shape).",
    ):
        ask(cell, params, state, xs)


# paths wants a cell with a direct path, and predict follows no trajectory of the network's.
@pytest.mark.parametrize("name", [name for name in QUESTIONS if name not in ("paths", "predict")])
def test_state_that_overflows_on_the_way(name):
    """relu with weights 3 I: h_t = 3^t, above the largest float32 from t = 81 on."""
    cell = rx.cells.elman(1, 2, activation="relu")
    params = cell.init(jax.random.key(0))._replace(w_rec=3 * jnp.eye(2))
    state = cell.initial_state(params)._replace(h=jnp.ones(2))
    with says(
        ValueError,
        "state at [t, ...].h is not finite: inf at index (80, 0), 240 such entries in all. The "
        "forward pass overflows there: measure a shorter xs, or shrink the recurrent weights.",
    ):
        QUESTIONS[name](cell, params, state, jnp.zeros((200, 1)))


def test_shorter_and_the_same_network_is_measured():
    cell = rx.cells.elman(1, 2, activation="relu")
    params = cell.init(jax.random.key(0))._replace(w_rec=3 * jnp.eye(2))
    state = cell.initial_state(params)._replace(h=jnp.ones(2))
    got = rx.flow.decay(cell, params, state, jnp.zeros((80, 1)))
    expected = jnp.arange(1, 81) * jnp.log(3.0)
    assert float(abs(got.log_norm - expected).max()) < 1e-4


def test_no_time_steps(ask):
    cell, params, state, xs = make_case("gru", "float32")
    with says(
        ValueError,
        "xs has no time steps (T = 0); expected T >= 1.",  # no question takes a mask
    ):
        ask(cell, params, state, xs[:0])


def test_batch_axis_first(ask):
    cell, params, state, xs = make_case("gru", "float32")
    with says(
        ValueError,
        "xs has shape (3, 6, 3), expected [T, B, I] with B = 3 from the state. xs has its batch "
        "axis first? recurrax wants [T, B, I]: use jnp.swapaxes(xs, 0, 1).",
    ):
        ask(cell, params, state, jnp.swapaxes(xs, 0, 1))


def test_no_gradient_to_follow(ask):
    with says(
        TypeError,
        "state has no floating-point leaf, so there is no gradient to follow; got int32[2]",
    ):
        ask(lambda p, n, x: (n + 1, n), None, jnp.zeros(2, jnp.int32), jnp.zeros((3, 1)))


def test_complex_state(ask):
    with says(
        TypeError,
        "state has a complex leaf, whose derivative is not a matrix of real numbers; got "
        "{'h': float32[2], 'z': complex64[2]}. Carry its real and imaginary parts as two leaves.",
    ):
        ask(
            lambda p, s, x: (s, s["h"]),
            None,
            {"h": jnp.zeros(2), "z": jnp.zeros(2, jnp.complex64)},
            jnp.zeros((3, 1)),
        )


def test_leaves_that_disagree_about_the_batch(ask):
    """The cell's own initial state says that h has one axis, and m two."""

    def step(w, state, x):
        return state, state["h"]

    def initial_state(w, batch_shape=()):
        return {"h": jnp.zeros((*batch_shape, 2)), "m": jnp.zeros((*batch_shape, 2, 2))}

    cell = rx.Cell(init=None, initial_state=initial_state, step=step)
    state = initial_state(None, (5,)) | {"m": jnp.zeros((2, 2))}
    with says(
        ValueError,
        "the leaves of state disagree about the batch axes, [(), (5,)]: got "
        "{'h': float32[5,2], 'm': float32[2,2]}. Start from cell.initial_state(params, "
        "batch_shape).",
    ):
        ask(cell, None, state, jnp.zeros((3, 5, 1)))


def test_what_is_closed_over_is_checked_inside_jit():
    """Concrete values stay concrete there."""
    w = like(1, jnp.zeros((2, 2))).at[0, 0].set(jnp.nan)
    run = jax.jit(lambda h: rx.flow.decay(linear, w, h, jnp.zeros((3, 2))).log_norm)
    with says(
        ValueError,
        "params is not finite: nan at index (0, 0), 1 such entry in all. Did training diverge?",
    ):
        run(jnp.zeros(2))


def test_not_a_cell(ask):
    with says(
        TypeError,
        "cell must be a rx.Cell or a step function (params, state, x) -> (state, y), got str. "
        "Build one with rx.cells.lstm(input_size, hidden_size), say.",
    ):
        ask("lstm", None, jnp.zeros(2), jnp.zeros((3, 1)))


def test_no_inputs():
    cell, params, state, _ = make_case("gru", "float32")
    with says(
        ValueError,
        "xs has no arrays, so its length T is unknown: expected [T, ...], got None. For a step "
        "function that reads no input pass jnp.zeros((T, 0)).",
    ):
        rx.flow.decay(cell, params, state, None)


def test_inputs_that_are_no_array(ask):
    cell, params, state, _ = make_case("gru", "float32")
    with says(TypeError, "xs must be an array of numbers, got 'abc'"):
        ask(cell, params, state, "abc")


def test_a_function_that_makes_a_cell(ask):
    with says(
        TypeError,
        "cell must be a rx.Cell or a step function (params, state, x) -> (state, y), got lstm, "
        "which makes a cell: call it, lstm(...)",
    ):
        ask(rx.cells.lstm, None, None, jnp.zeros((3, 1)))


def test_watch_names_what_is_no_array():
    cell, params, state, xs = make_case("lstm", "float32")
    with says(TypeError, "xs must be an array of numbers, got 'abc'"):
        rx.flow.watch(cell, params, state, "abc", step=0)
    with says(TypeError, "params must be an array of numbers, got 'abc'"):
        rx.flow.watch(cell, "abc", state, xs, step=0)
    with says(TypeError, "state must be an array of numbers, got 'abc'"):
        rx.flow.watch(cell, params, "abc", xs, step=0)
    with says(
        TypeError,
        "state must be a LSTMState, as cell.initial_state(params, batch_shape) returns; got "
        "float32[3,4]",
    ):
        rx.flow.watch(cell, params, state.h, xs, step=0)


def test_arguments_that_are_traced():
    case = make_case("gru", "float32")
    message = (
        "{} must be a positive integer that is known when compiling, got a traced value. Under "
        "jax.jit make it static: jax.jit(..., static_argnames='{}')."
    )
    for name in ("k", "every"):
        with says(TypeError, message.format(name, name)):
            jax.jit(lambda n, name=name: rx.flow.lyapunov(*case, **{name: n}))(2)


@pytest.mark.parametrize("question", [rx.flow.loss_gradients, rx.flow.lag_profile])
def test_a_loss_in_the_first_place(question):
    """The order of an earlier release."""
    case = make_case("gru", "float32")
    with says(
        TypeError,
        f"loss must be a function of the outputs ys, got {checks.kind(case[-1])}; it comes fifth, "
        "after (cell, params, state, xs), and no longer first",
    ):
        question(jnp.sum, *case)


def test_inputs_in_the_place_of_the_state():
    """The order of an earlier release."""
    cell, params, _, xs = make_case("gru", "float32")
    with says(
        TypeError,
        "xs is missing: predict takes (cell, params, state, xs), as every question does, and no "
        "longer (cell, params, xs). For the initial state: predict(cell, params, None, xs).",
    ):
        rx.flow.predict(cell, params, xs)


def test_leaves_of_a_dict_by_their_keys():
    def step(w, state, x):
        return {"h": 0.5 * state["h"], "m": 0.25 * state["m"]}, x

    case = (step, None, {"h": jnp.ones(2), "m": jnp.ones(2)}, jnp.zeros((1, 1)))
    for name in ("m", "['m']"):
        got = rx.flow.decay(*case, of=name)
        assert float(abs(got.log_norm[0] - jnp.log(0.25))) < 1e-6
    with says(
        ValueError,
        """of must name leaves of the state ('h' or "['h']", 'm' or "['m']"), got 'c'""",
    ):
        rx.flow.decay(*case, of="c")


def test_times_in_any_row_of_integers():
    case = (linear, 0.5 * jnp.eye(2), jnp.ones(2), jnp.zeros((4, 2)))
    for at in (range(1, 4), [1, 2, 3], np.arange(1, 4), jnp.arange(1, 4)):
        assert rx.flow.spectrum(*case, at=at).t.tolist() == [1, 2, 3]
    with says(TypeError, "at must be an integer or a tuple of integers, got array([1., 2.])"):
        rx.flow.spectrum(*case, at=np.array([1.0, 2.0]))
    with says(
        TypeError,
        "at must be known when compiling, got a traced value. Under jax.jit make it static: "
        "jax.jit(..., static_argnames='at').",
    ):
        jax.jit(lambda at: rx.flow.spectrum(*case, at=at))(2)


@pytest.mark.parametrize(
    "call",
    [
        lambda cell, params, xs: rx.flow.decay(cell, params, None, xs, key=0),
        lambda cell, params, xs: rx.flow.decay(cell, params, None, xs, probes=2, key=0),
        lambda cell, params, xs: rx.flow.gradient_map(cell, params, None, xs, key=0),
        lambda cell, params, xs: rx.flow.predict(cell, params, None, xs, key=0),
        lambda cell, params, xs: rx.stack(cell).init(0),
    ],
)
def test_a_key_that_is_none(call):
    cell = rx.cells.elman(1, 3)
    with pytest.raises(TypeError, match=r"key must be .*jax.random.key\(0\)"):
        call(cell, cell.init(jax.random.key(0)), jnp.zeros((4, 1)))
