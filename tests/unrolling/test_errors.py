"""What `rx.unroll` says of sequences, masks and options that do not fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import says

import recurrax as rx

T, B = 6, 3


def step(params, state, x):
    state = state + x.sum(-1)
    return state, state


cell = rx.Cell(lambda key: None, lambda params, batch_shape=(): jnp.zeros(batch_shape), step)
xs = jnp.ones((T, B, 2))
state = jnp.zeros(B)


@pytest.fixture(params=[rx.unroll, rx.unroll_states])
def run(request):
    return request.param


# --- sequences -----------------------------------------------------------------------------------


def test_no_inputs(run):
    message = (
        "xs has no arrays, so its length T is unknown: expected [T, ...], got None. For a step "
        "function that reads no input pass jnp.zeros((T, 0))."
    )
    with says(ValueError, message):
        run(cell, None, state, None)
    assert run(step, None, state, jnp.zeros((T, B, 0))) is not None  # the remedy works


def test_a_scalar(run):
    with says(ValueError, "xs is a scalar; expected [T, ...], time first"):
        run(cell, None, state, 1.0)
    with says(ValueError, "xs['b'] is a scalar; expected [T, ...], time first"):
        run(cell, None, state, {"a": xs, "b": 2})


def test_leaves_of_other_lengths(run):
    message = (
        "the leaves of xs disagree about T: {\"xs['a']\": 6, \"xs['b']\": 4}. "
        "Time is the first axis."
    )
    with says(ValueError, message):
        run(cell, None, state, {"a": xs, "b": xs[:4]})


def test_no_state_and_nothing_to_read_its_batch_from(run):
    message = (
        "state=None needs xs of shape [T, *batch, I] to read the batch shape from, got "
        "{'a': float32[6,3,2]}: pass xs of that shape, or the state, "
        "cell.initial_state(params, batch_shape)"
    )
    with says(ValueError, message):
        run(cell, None, None, {"a": xs})
    message = message.replace("{'a': float32[6,3,2]}", "float32[6]")
    message = message.replace("that shape,", "that shape (xs[:, None] for one feature a step),")
    with says(ValueError, message):
        run(cell, None, None, jnp.ones(T))


def test_what_is_no_array(run):
    with says(TypeError, "xs must be an array of numbers, got 'abc'"):
        run(cell, None, state, "abc")
    with says(TypeError, "xs['a'] must be an array of numbers, got object[1]"):
        run(cell, None, state, {"a": np.array([None])})
    with says(TypeError, "params['w'] must be an array of numbers, got 'abc'"):
        run(cell, {"w": "abc"}, state, xs)
    with says(TypeError, "state must be an array of numbers, got 'abc'"):
        run(cell, None, "abc", xs)


def test_nested_lists(run):
    with says(
        TypeError,
        "xs must be an array [T, ...], got a list of numbers: pass jnp.asarray(xs)",
    ):
        run(cell, None, state, xs.tolist())


def test_a_function_that_makes_a_cell(run):
    message = (
        "cell must be a rx.Cell or a step function (params, state, x) -> (state, y), got {0}, "
        "which makes a cell: call it, {0}(...)"
    )
    for make in (rx.cells.lstm, rx.stack):
        with says(TypeError, message.format(make.__name__)):
            run(make, None, None, xs)


# --- masks and resets ----------------------------------------------------------------------------


@pytest.fixture(params=["mask", "resets"])
def name(request):
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_flags_that_are_not_bool(run, name, dtype):
    message = (
        f"{name} must be a bool array [T, B], got {dtype}. Lengths become a mask with "
        f"rx.length_mask(lengths, T); numbers with {name}.astype(bool)."
    )
    with says(TypeError, message):
        run(cell, None, state, xs, **{name: jnp.ones((T, B), dtype)})


def test_flags_in_a_list(run, name):
    with pytest.raises(TypeError, match=rf"\A{name} must be a bool array \[T, B\], got list\. "):
        run(cell, None, state, xs, **{name: [[True] * B] * T})


def test_flags_of_another_length(run, name):
    message = f"{name} has shape (5, 3), expected [T, B] with T = 6, as in xs."
    with says(ValueError, message):
        run(cell, None, state, xs, **{name: jnp.ones((5, B), bool)})
    with says(ValueError, message.replace("(5, 3)", "()")):
        run(cell, None, state, xs, **{name: jnp.ones((), bool)})


def test_flags_with_the_batch_axis_first(run, name):
    message = (
        f"{name} has shape (3, 6), expected [T, B] with T = 6, as in xs. Its batch axis is first? "
        f"Use jnp.swapaxes({name}, 0, 1)."
    )
    with says(ValueError, message):
        run(cell, None, state, xs, **{name: jnp.ones((B, T), bool)})


def test_flags_of_another_batch(run, name):
    message = f"{name} has shape (6, 2), so the batch shape is (2,), but state has shape (3,)"
    with says(ValueError, message):
        run(cell, None, state, xs, **{name: jnp.ones((T, 2), bool)})


def test_flags_of_another_batch_than_a_field(run, name):
    lstm = rx.cells.lstm(2, 4)
    params = lstm.init(jax.random.key(0))
    message = f"{name} has shape (6, 2), so the batch shape is (2,), but state.h has shape (3, 4)"
    with says(ValueError, message):
        run(lstm, params, None, xs, **{name: jnp.ones((T, 2), bool)})


def test_resets_without_a_cell(run):
    message = (
        "resets needs a rx.Cell, whose initial_state says what to reset to; got a bare step "
        "function. Wrap it: rx.Cell(init=..., initial_state=..., step=...)."
    )
    with says(TypeError, message):
        run(step, None, state, xs, resets=jnp.ones((T, B), bool))


# --- options -------------------------------------------------------------------------------------


def test_an_unknown_engine(run):
    with pytest.raises(ValueError, match=r"\Aengine must be one of 'auto', .*; got 'fast'\Z"):
        run(cell, None, state, xs, engine="fast")


@pytest.mark.parametrize(
    ("remat", "kind"), [(0, ValueError), (-1, ValueError), (True, ValueError), (2.5, TypeError)]
)
def test_remat_that_counts_nothing(run, remat, kind):
    with says(kind, f"remat must be a positive integer, got {remat}"):
        run(cell, None, state, xs, remat=remat)


def test_remat_that_is_traced(run):
    message = (
        "remat must be a positive integer that is known when compiling, got a traced value. Under "
        "jax.jit make it static: jax.jit(..., static_argnames='remat')."
    )
    with says(TypeError, message):
        jax.jit(lambda remat: run(cell, None, state, xs, remat=remat))(2)


# --- where the checks happen ---------------------------------------------------------------------


def test_messages_are_the_same_while_tracing(run):
    message = "mask has shape (6, 2), so the batch shape is (2,), but state has shape (3,)"
    with says(ValueError, message):
        jax.jit(lambda xs: run(cell, None, state, xs, mask=jnp.ones((T, 2), bool)))(xs)
    with pytest.raises(ValueError, match=r"\Axs is a scalar; expected \[T, ...\], time first"):
        jax.vmap(lambda xs: run(cell, None, state, xs))(jnp.ones(2))


def test_a_bidirectional_cell_is_checked_too(run):
    both = rx.bidirectional(cell)
    with says(ValueError, "xs is a scalar; expected [T, ...], time first"):
        run(both, (None, None), (state, state), jnp.ones(()))


def test_resets_to_a_state_unlike_the_one_carried(key):
    cell = rx.cells.gru(2, 3)
    other = rx.Cell(cell.init, lambda p, b=(): rx.cells.GRUState(jnp.zeros((*b, 4))), cell.step)
    params = cell.init(key)
    message = (
        "resets returns to cell.initial_state(params, batch_shape), GRUState(h=float32[4]), but "
        "the state given is GRUState(h=float32[3]). Start from that state, or one like it."
    )
    with says(ValueError, message):
        rx.unroll(
            other,
            params,
            cell.initial_state(params),
            jnp.ones((5, 2)),
            resets=jnp.zeros(5, bool),
        )


def test_initial_state_of_params_that_are_none(key):
    with pytest.raises(
        TypeError, match=r"params must be the NamedTuple that cell.init\(key\) returns"
    ):
        rx.unroll(rx.cells.gru(2, 3), {"w": 1}, None, jnp.ones((5, 2)))
