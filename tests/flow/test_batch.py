"""A batch is its examples, also where other sizes are those of the batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
from contract import like

import recurrax as rx
from recurrax.flow.steps.trajectory import per_example, pose

N = 4  # B, H, T and I in one


def step(params, state, x):
    """A gain for each unit; a table that all examples share; a counter."""
    h = jnp.tanh(params["gain"] * (state["h"] @ params["w"]) + x @ params["v"] + state["table"])
    table = 0.9 * state["table"]
    return {"h": h / (1 + 0.1 * state["n"]), "n": state["n"] + 1, "table": table}, h


def initial_state(params, batch_shape=()):
    h = jnp.zeros((*batch_shape, N), params["w"].dtype)
    return {"h": h, "n": jnp.zeros((), jnp.int32), "table": jnp.ones(N, params["w"].dtype)}


CELL = rx.Cell(init=None, initial_state=initial_state, step=step)


def loss(ys):
    return jnp.sum(ys**2)


QUESTIONS = {
    "jacobians": lambda *case: rx.flow.jacobians(CELL, *case),
    "decay": lambda *case: rx.flow.decay(CELL, *case),
    "decay of a leaf": lambda *case: rx.flow.decay(CELL, *case, of="table", wrt="table").log_norm,
    "loss_gradients": lambda *case: rx.flow.loss_gradients(CELL, *case, loss)[1:],
    "gradient_map": lambda *case: (
        jnp.moveaxis(rx.flow.gradient_map(CELL, *case).log_norm, 2, 1)
        if case[1]["h"].ndim > 1
        else rx.flow.gradient_map(CELL, *case).log_norm
    ),
}


@pytest.fixture
def given(x64):
    shapes = {"gain": (N,), "w": (N, N), "v": (N, N)}
    params = like(1, {name: jax.ShapeDtypeStruct(s, "float64") for name, s in shapes.items()}, 0.5)
    state = initial_state(params, (N,)) | {"h": like(2, jnp.zeros((N, N)), 0.5)}
    return params, state, like(3, jnp.zeros((N, N, N)))


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
def test_a_batch_is_its_examples(ask, given):
    params, state, xs = given
    together = ask(*given)
    for b in range(N):
        alone = ask(params, state | {"h": state["h"][b]}, xs[:, b])
        assert_close(jax.tree.map(lambda leaf, b=b: leaf[:, b], together), alone, rtol=1e-9)


def test_one_after_the_other_is_all_together(given):
    problem = pose(CELL, *given)

    def run(own):
        return own.xs @ own.state["h"] + own.state["table"] @ own.params["gain"]

    together, in_turn = (per_example(run, problem, in_turn=each) for each in (False, True))
    assert together.shape == (N, N)
    assert_close(in_turn, together)


def test_the_first_examples_that_are_watched(given):
    few = pose(CELL, *given).at((slice(1),), (1,))
    assert jax.tree.map(jnp.shape, few.state) == {"h": (1, N), "n": (), "table": (N,)}
    assert few.xs.shape == (N, 1, N)
    assert few.batch.shape == (1,)


def test_a_penalty_is_the_mean_of_those_of_the_examples(given):
    """And so is its gradient, by the gains too."""
    params, state, xs = given

    def penalty(params, state, xs):
        return rx.cures.omega(CELL, params, state, xs, loss)

    together = jax.value_and_grad(penalty)(*given)
    alone = [
        jax.value_and_grad(penalty)(params, state | {"h": state["h"][b]}, xs[:, b])
        for b in range(N)
    ]
    assert_close(together, jax.tree.map(lambda *each: np.mean(each, 0), *alone), rtol=1e-9)


def test_an_output_that_all_examples_share(given):
    """The loss looks at the table alone, once for the whole batch."""
    params, state, xs = given
    cell = rx.Cell(init=None, initial_state=initial_state, step=gives_the_table)
    together = rx.flow.loss_gradients(cell, *given, loss_of_table)
    alone = rx.flow.loss_gradients(
        cell, params, state | {"h": state["h"][1]}, xs[:, 1], loss_of_table
    )
    assert_close(together.log_norm[:, 1], alone.log_norm)


def gives_the_table(params, state, x):
    state, y = step(params, state, x)
    return state, (y, state["table"])


def loss_of_table(ys):
    return jnp.sum(ys[1])


def test_as_many_hidden_units_as_rows_of_inputs():
    """A bare step for one example, whose inputs are a matrix at each instant."""

    def reads(w, h, x):
        h = jnp.tanh(h @ w + x @ jnp.ones(2))
        return h, h

    w, h, xs = like(1, jnp.zeros((N, N))), like(2, jnp.zeros(N)), like(3, jnp.zeros((5, N, 2)))
    assert rx.flow.jacobians(reads, w, h, xs).shape == (5, N, N)


def test_as_many_examples_as_units_and_gates(x64):
    cell = rx.cells.lstm(N, N, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    state, xs = like(1, cell.initial_state(params, (N,))), like(2, jnp.zeros((N, N, N)))
    found = rx.flow.jacobians(cell, params, state, xs)
    one = jax.tree.map(lambda leaf: leaf[0], state)
    assert_close(found[:, 0], rx.flow.jacobians(cell, params, one, xs[:, 0]), rtol=1e-9)
