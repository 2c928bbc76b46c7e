"""A step's derivative applied to rows, against the matrix of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import make_case

import recurrax as rx
from recurrax.flow.pairs.row_products import push_rows
from recurrax.flow.steps.jacobian import FEW, linear_maps


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
        np.testing.assert_allclose(push_rows(first, jnp.asarray(few)), few @ a.T, atol=1e-12)
