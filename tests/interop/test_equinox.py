"""Equinox's cells, against what Equinox computed (golden/make_interop_jax.py)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_same, says
from contract import like
from jax_golden import CLOSE, assert_leaves, golden, our_gradient

import recurrax as rx
from recurrax.interop import find, from_equinox, to_equinox

pytestmark = pytest.mark.usefixtures("x64")


class Cell(NamedTuple):
    """A module as JAX sees one: leaves by the names of attributes, and None for no bias."""

    weight_ih: jax.Array
    weight_hh: jax.Array
    bias: jax.Array | None = None
    bias_n: jax.Array | None = None


def module(weights, at=""):
    return Cell(**{name.removeprefix(at): jnp.asarray(a) for name, a in weights.items()})


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_values_gradients_and_the_way_back(name):
    expected = golden(f"equinox {name}")
    like = module(expected.weights)
    cell, params = from_equinox(like)
    gradient = our_gradient(cell, params, expected)
    blank = jax.tree.map(jnp.zeros_like, like)
    assert_leaves(to_equinox(cell, gradient, blank), expected.gradients, **CLOSE)
    made = to_equinox(cell, params, blank)
    assert isinstance(made, Cell)
    assert_same(made, like)


def test_a_cell_without_biases_has_zeros():
    expected = golden("equinox GRU without bias")
    given = module(expected.weights)
    cell, params = from_equinox(given)
    gradient = our_gradient(cell, params, expected)
    assert_same(to_equinox(cell, params, given), given)
    for name, array in (("weight_ih", gradient.w_in), ("weight_hh", gradient.w_rec)):
        np.testing.assert_allclose(array.T, expected.gradients[name], **CLOSE)
    with says(
        ValueError,
        "like, made with use_bias=False, has no bias, which the cell needs: give a cell of Equinox "
        "of the same kind, and prefix= where it stands in a model",
    ):
        to_equinox(cell, params._replace(b=params.b + 1), given)


def test_layers_of_a_model():
    expected = golden("equinox deep")
    at = [{n: a for n, a in expected.weights.items() if n.startswith(f"{i}/")} for i in (0, 1)]
    model = {"cells": [module(weights, f"{i}/") for i, weights in enumerate(at)]}
    model |= {"head": jnp.ones((2, 2)), "act": jnp.tanh}  # functions are leaves as well
    places = ("cells/0", "cells/1")
    assert [(f.prefix, f.kind) for f in find(model)] == list(
        zip(places, ("gru", "lstm"), strict=True)
    )
    cell, params = from_equinox(model, prefix=places)
    gradient = our_gradient(cell, params, expected)
    made = to_equinox(cell, gradient, model, prefix=places)
    assert made["act"] is jnp.tanh
    assert_leaves(made["cells"], expected.gradients, **CLOSE)
    assert_same(to_equinox(cell, params, model, prefix=places)["cells"], model["cells"])


@pytest.mark.parametrize(
    "cell", [rx.cells.elman(3, 4), rx.cells.gru_reset_before(3, 4), rx.cells.lstm_projection(3, 4)]
)
def test_what_equinox_cannot_hold(cell):
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)))
    with pytest.raises(ValueError, match=r"^Equinox cannot hold a cell \S+: it has an LSTMCell wi"):
        to_equinox(cell, params, Cell(jnp.ones((16, 3)), jnp.ones((16, 4)), jnp.ones(16)))


def test_messages():
    cell = rx.cells.lstm(3, 4)
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)))
    with says(
        ValueError,
        "weight_ih of like has shape [12, 3], but the cell's weights make [16, 3]: build like with "
        "the same kind and sizes",
    ):
        to_equinox(cell, params, Cell(jnp.ones((12, 3)), jnp.ones((12, 4)), jnp.ones(12)))
    with says(
        ValueError,
        "like has no rnn/weight_ih, which the cell needs: give a cell of Equinox of the same kind, "
        "and prefix= where it stands in a model",
    ):
        to_equinox(cell, params, {"mlp": jnp.ones(3)}, prefix="rnn")
    bad = Cell(jnp.ones((16, 3)), jnp.ones((15, 4)), jnp.ones(16))
    with pytest.raises(ValueError, match=r"^weight_hh should have shape \[16, 4\] among weight_ih"):
        from_equinox(bad)
