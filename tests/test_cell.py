"""The record `rx.Cell`, and what may stand in its place."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from close import says
from contract import CELLS

import recurrax as rx

xs = jnp.ones((4, 3))


def test_a_cell_is_three_functions():
    assert [field.name for field in dataclasses.fields(rx.Cell)] == [
        "init",
        "initial_state",
        "step",
    ]


def test_a_cell_cannot_be_changed():
    cell = rx.cells.gru(3, 4)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'step'"):
        cell.step = rx.cells.lstm_step


def test_a_cell_is_not_a_pytree():
    cell = rx.cells.gru(3, 4)
    assert jax.tree.leaves(cell) == [cell]


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_the_table_compare_by_value(name):
    same = [other for other in CELLS if CELLS[other]("float32") == CELLS[name]("float32")]
    assert same == [name]
    assert CELLS[name]("float32") != CELLS[name]("bfloat16")


def test_something_that_is_no_cell():
    message = (
        "cell must be a rx.Cell or a step function (params, state, x) -> (state, y), got str. "
        "Build one with rx.cells.lstm(input_size, hidden_size), say."
    )
    with says(TypeError, message):
        rx.unroll("lstm", None, jnp.zeros(4), xs)


class Unhashable:
    __hash__ = None

    def __call__(self, params, state, x):
        return state, state


def test_a_step_that_cannot_be_hashed():
    message = (
        "cell must be hashable, since it decides what is compiled; a Unhashable is not. "
        "Use a plain function or a frozen dataclass."
    )
    with says(TypeError, message):
        rx.unroll(Unhashable(), None, jnp.zeros(4), xs)
