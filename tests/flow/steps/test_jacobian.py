"""Derivatives of a step along a trajectory against its Jacobians."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import example, jacobians
from contract import make_case

import recurrax as rx
from recurrax.flow.steps.jacobian import FEW, linear_maps


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["own_plain", "stack"])
def test_against_whole_jacobians(name):
    cell, params, state, xs = make_case(name, "float64")
    state, xs = example(state, 0), xs[:, 0]
    states = rx.unroll_states(cell, params, state, xs)
    befores = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:-1]]), state, states)

    @jax.jit
    def found(params, befores, xs):
        rows, make = linear_maps(cell.step, params, befores, xs)
        size = sum(leaf[0].size for leaf in jax.tree.leaves(befores))

        def both(_, row):
            eye = jnp.eye(size)
            return None, (make(row).push(eye), make(row).pull(eye).T)

        return jax.lax.scan(both, None, rows)[1]

    expected = jacobians(cell, params, state, xs)
    for matrices in found(params, befores, xs):
        np.testing.assert_allclose(matrices, expected, rtol=1e-10, atol=1e-12)


def test_weights_are_not_copied_for_every_step():
    """Of a tanh network only the slopes differ from step to step."""

    def step(w, s, x):
        s = w @ jnp.tanh(s)
        return s, s

    rows, _ = linear_maps(step, jnp.ones((3, 3)), jnp.ones((7, 3)), jnp.zeros((7, 0)))
    assert rows
    assert {row.shape for row in rows} == {(7, 3)}


def test_a_step_that_ignores_its_state():
    rows, make = linear_maps(lambda w, s, x: (x, x), None, jnp.ones((4, 2)), jnp.ones((4, 2)))
    row = jax.tree.map(lambda leaf: leaf[0], rows)
    np.testing.assert_array_equal(make(row).push(jnp.eye(2)), np.zeros((2, 2)))
    np.testing.assert_array_equal(make(row).pull(jnp.eye(2)), np.zeros((2, 2)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["gru", "own_plain"])
def test_rows_are_multiplied_by_the_jacobian(name):
    case = make_case(name, "float64")
    state = jax.tree.map(lambda leaf: leaf[0], case.state)
    xs = case.xs[:, 0]
    befores = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(xs)), state)
    step = getattr(case.cell, "step", case.cell)
    parts, make_map = linear_maps(step, case.params, befores, xs)
    first = make_map(jax.tree.map(lambda leaf: leaf[0], parts))
    a = np.asarray(rx.flow.jacobians(case.cell, case.params, state, xs[:1])[0])
    rows = np.random.default_rng(0).standard_normal((FEW + 1, len(a)))
    for few in (rows, rows[:3]):
        np.testing.assert_allclose(first.push_rows(jnp.asarray(few)), few @ a.T, atol=1e-12)
