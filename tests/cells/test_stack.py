"""`rx.stack` and `rx.residual`."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from close import assert_close, assert_same, says
from contract import B, I, like, make_case

import recurrax as rx

xs = jnp.ones((5, 2, 3))


# --- stack ---------------------------------------------------------------------------------------


def test_a_stack_runs_one_cell_over_the_outputs_of_the_other(x64):
    below, above = make_case("lstm", "float64"), make_case("gru", "float64")
    above_cell = rx.cells.gru(4, 4, dtype="float64")
    params = above.params._replace(w_in=like(7, jnp.zeros((4, 12))))
    cell = rx.stack(below.cell, above_cell)
    got = rx.unroll(cell, (below.params, params), (below.state, above.state), below.xs)
    first, middle = rx.unroll(*below)
    second, ys = rx.unroll(above_cell, params, above.state, middle)
    assert_close(got, ((first, second), ys))


def test_each_cell_of_a_stack_has_its_own_params(key):
    cell = rx.stack(rx.cells.gru(4, 4), rx.cells.gru(4, 4))
    first, second = cell.init(key)
    assert bool(jnp.any(first.w_rec != second.w_rec))
    assert_same(
        cell.initial_state((first, second), (B,)), (rx.cells.GRUState(jnp.zeros((B, 4))),) * 2
    )


def test_a_stack_of_stacks(x64):
    elman = functools.partial(rx.cells.elman, dtype="float64")
    flat = rx.stack(elman(I, 4), elman(4, 5), elman(5, 2))
    nested = rx.stack(elman(I, 4), rx.stack(elman(4, 5), elman(5, 2)))
    params = like(1, flat.init(jax.random.key(0)))
    state = like(2, flat.initial_state(params, (B,)))
    x = like(3, jnp.zeros((6, B, I)))
    _, ys = rx.unroll(flat, params, state, x)
    deep = [(tree[0], (tree[1], tree[2])) for tree in (params, state)]
    assert_close(rx.unroll(nested, *deep, x)[1], ys)


def test_a_stack_of_nothing():
    with says(ValueError, "stack needs at least one cell, got none"):
        rx.stack()


def test_sizes_that_do_not_chain():
    message = "cell 1 of the stack gives 5 features, but cell 2 takes 4: build it with input_size=5"
    with says(ValueError, message):
        rx.stack(rx.cells.gru(3, 4), rx.cells.gru(4, 5), rx.cells.gru(4, 5))
    message = "cell 0 of the stack gives 2 features, but cell 1 takes 4: build it with input_size=2"
    with says(ValueError, message):
        rx.stack(rx.cells.lstm_projection(3, 4, 2), rx.cells.gru_reset_before(4, 5))


def test_only_cells():
    message = (
        "residual takes a rx.Cell, got GatedStep. Wrap a bare step function as "
        "rx.Cell(init=..., initial_state=..., step=...), and the cells of a rx.bidirectional "
        "before it joins them."
    )
    with says(TypeError, message):
        rx.residual(rx.cells.gru_step)
    message = (
        "stack takes cells and what rx.bidirectional makes, got GatedStep. Wrap a bare step "
        "function as rx.Cell(init=..., initial_state=..., step=...)."
    )
    with says(TypeError, message):
        rx.stack(rx.cells.gru_step)


def test_params_of_a_stack_that_are_not_one_each(key):
    cell = rx.stack(rx.cells.gru(3, 4), rx.cells.gru(4, 5))
    params = cell.init(key)
    state = cell.initial_state(params, (2,))
    ending = "of a stack of 2 cells must be a tuple with one entry for each, got"
    with says(TypeError, f"params {ending} list"):
        rx.unroll(cell, list(params), state, xs)
    with says(TypeError, f"state {ending} 1 of them"):
        rx.unroll(cell, params, state[:1], xs)
    with says(TypeError, f"state {ending} GRUState"):
        rx.unroll(cell, params, state[0], xs)


def test_inputs_of_a_stack_are_checked_by_its_first_cell(key):
    cell = rx.stack(rx.cells.gru(3, 4), rx.cells.gru(4, 5))
    params = cell.init(key)
    with pytest.raises(ValueError, match="xs has its batch axis first"):
        rx.unroll(cell, params, cell.initial_state(params, (2,)), jnp.swapaxes(xs, 0, 1))


# --- residual ------------------------------------------------------------------------------------


def test_a_residual_adds_its_input(x64):
    case = make_case("residual", "float64")
    plain = rx.cells.gru(I, I, dtype="float64")
    last, ys = rx.unroll(plain, *case[1:])
    assert_close(rx.unroll(*case), (last, case.xs + ys))


def test_a_residual_of_another_size(key):
    cell = rx.residual(rx.cells.gru(3, 4))
    params = cell.init(key)
    message = (
        "residual adds the cell's output (2, 4) to its input (2, 3), which must have the same "
        "shape: build the cell with input_size == hidden_size"
    )
    with says(ValueError, message):
        rx.unroll(cell, params, cell.initial_state(params, (2,)), xs)


def test_inputs_of_a_residual_are_checked_by_its_cell(key):
    cell = rx.residual(rx.cells.gru(3, 3))
    params = cell.init(key)
    with pytest.raises(ValueError, match="xs has its batch axis first"):
        rx.unroll(cell, params, cell.initial_state(params, (2,)), jnp.swapaxes(xs, 0, 1))


def test_a_cell_prints_itself_as_the_call_that_makes_it():
    def running_sum(params, state, x):
        return state + x, state + x

    own = rx.Cell(init=jax.random.normal, initial_state=jnp.zeros, step=running_sum)
    wide = rx.cells.lstm(3, 4, bias_init=(jax.nn.initializers.ones,) * 4)
    table = {
        "lstm(3, 4, float32, forget_bias=1)": rx.cells.lstm(3, 4),
        "lstm(3, 4, float32, forget_bias=0, bias_init=(ones, ones, ones, ones))": wide,
        "elman(3, 4, float32)": rx.cells.elman(3, 4),
        "elman(3, 4, float32, activation='relu')": rx.cells.elman(3, 4, activation="relu"),
        "stack(gru(3, 4, float32), residual(gru(4, 4, float32)))": rx.stack(
            rx.cells.gru(3, 4), rx.residual(rx.cells.gru(4, 4))
        ),
        "bidirectional(gru(3, 4, float32))": rx.bidirectional(rx.cells.gru(3, 4)),
        "gru(3, 4, float32, recurrent_init=normal)": rx.cells.gru(
            3, 4, recurrent_init=jax.nn.initializers.normal()
        ),
        "Cell(step=running_sum)": own,
    }
    for text, cell in table.items():
        assert repr(cell) == text
    assert repr(rx.cells.lstm_step) == "lstm_step"


def test_how_a_cell_prints_itself_does_not_count_when_it_is_compared():
    cell = rx.cells.gru(3, 4)
    other = dataclasses.replace(cell, init=dataclasses.replace(cell.init, call="other"))
    assert repr(other) == "other"
    assert other == cell
    assert hash(other) == hash(cell)


def test_a_cell_of_ones_own_may_give_what_its_init_does_not_tell():
    """A projection, whose `init` has a hidden size of 8 and whose output is of 3 numbers."""

    class Init(NamedTuple):
        input_size: int = 2
        hidden_size: int = 8

        def __call__(self, key):
            return jax.random.normal(key, (2, 8)), jax.random.normal(key, (8, 3))

    def step(params, state, x):
        state = jnp.tanh(x @ params[0] + state)
        return state, state @ params[1]

    def start(params, batch_shape=()):
        return jnp.zeros((*batch_shape, 8))

    cell = rx.stack(rx.Cell(Init(), start, step), rx.cells.gru(3, 4))
    params = cell.init(jax.random.key(0))
    assert rx.unroll(cell, params, None, jnp.ones((5, 2, 2)))[1].shape == (5, 2, 4)
