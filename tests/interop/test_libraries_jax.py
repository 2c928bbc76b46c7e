"""Flax, Haiku and Equinox themselves, where they are installed: there and back with their loaders.

An extra step of CI installs them. The layers are those of jax_libraries.py, of which the golden
file holds the numbers for everybody else.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
from jax_golden import CLOSE, assert_leaves, flat, golden
from jax_libraries import LAYERS, OTHERS, B, I, T

import recurrax as rx
from recurrax.interop import (
    find,
    from_equinox,
    from_flax,
    from_haiku,
    to_equinox,
    to_flax,
    to_haiku,
)

pytestmark = pytest.mark.usefixtures("x64")

XS = np.random.default_rng(5).standard_normal((T, B, I))
DEEP = (("GRUCell_0", "GRUCell_1"), "GRUCell_2")

# By name of the layer: how its weights are read, and written for its own loader.
WAYS = {
    "flax linen LSTM": ({}, {"prefix": "cell"}),
    "flax linen optimized LSTM": ({}, {"prefix": "cell"}),
    "flax linen GRU": ({}, {"prefix": "cell"}),
    "flax linen vanilla": ({}, {"prefix": "cell"}),
    "flax linen relu": ({"activation": "relu"}, {"prefix": "cell"}),
    "flax linen deep": ({"prefix": DEEP}, {}),
    "flax nnx LSTM": ({}, {"api": "nnx", "optimized": False}),
    "flax nnx optimized LSTM": ({}, {"api": "nnx"}),
    "flax nnx GRU": ({}, {"api": "nnx"}),
    "flax nnx vanilla": ({}, {"api": "nnx"}),
    "haiku LSTM": ({}, {}),
    "haiku deep LSTM": ({"prefix": ("lstm", "lstm_1")}, {}),
    "haiku GRU": ({}, {}),
    "haiku vanilla": ({}, {}),
    "haiku one bias": ({}, {"double_bias": False}),
    "equinox LSTM": ({}, {}),
    "equinox GRU": ({}, {}),
    "equinox GRU without bias": ({}, {}),
    "equinox deep": ({"prefix": ("0", "1")}, {"prefix": ("0", "1")}),
}


def layer(name):
    library = name.partition(" ")[0]
    pytest.importorskip(library)
    return library, (LAYERS | OTHERS)[name]()


@pytest.mark.parametrize("name", WAYS)
def test_there_and_back(name):
    library, theirs = layer(name)
    reads, writes = WAYS[name]
    read = {"flax": from_flax, "haiku": from_haiku, "equinox": from_equinox}[library]
    cell, params = read(theirs.weights, **reads)
    if "linen" in name:
        assert_close(read({"params": theirs.weights}, **_under_params(reads))[1], params)
    expected = theirs.run(theirs.weights, XS)
    assert_close(rx.unroll(cell, params, None, XS)[1], expected, **CLOSE)

    if library == "equinox":
        blank = jax.tree.map(jnp.zeros_like, theirs.weights)
        made = to_equinox(cell, params, blank, **writes)
    else:
        made = {"flax": to_flax, "haiku": to_haiku}[library](cell, params, **writes)
    assert_close(jnp.asarray(theirs.run(made, XS)), expected, **CLOSE)


def _under_params(reads):
    if "prefix" not in reads:
        return reads
    pair, top = reads["prefix"]
    return reads | {"prefix": (tuple(f"params/{one}" for one in pair), f"params/{top}")}


@pytest.mark.parametrize("name", LAYERS)
def test_the_golden_file_is_what_the_library_computes(name):
    _, theirs = layer(name)
    expected = golden(name)
    assert_leaves(theirs.weights, expected.weights, rtol=0, atol=0)
    assert_close(theirs.run(theirs.weights, expected.xs), expected.ys, **CLOSE)


def test_an_mgu_is_told_and_refused():
    _, theirs = layer("flax linen MGU")
    assert [found.kind for found in find(theirs.weights)] == ["mgu"]
    with pytest.raises(ValueError, match="is an MGUCell of Flax"):
        from_flax(theirs.weights)


def test_objects_of_nnx_are_read_as_they_are():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.below = nnx.RNN(nnx.GRUCell(I, 4, rngs=rngs), rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

    model = Model(nnx.Rngs(0))
    expected = from_flax(nnx.to_pure_dict(nnx.state(model, nnx.Param)))[1]
    for source in (model, nnx.state(model)):
        (found,) = find(source)
        assert (found.prefix, found.kind) == ("below/cell", "gru")
        assert_leaves(from_flax(source)[1], flat(expected), rtol=0, atol=0)


def test_a_model_of_equinox_is_read_as_it_is():
    eqx = pytest.importorskip("equinox")

    class Model(eqx.Module):
        cells: list
        head: eqx.nn.Linear

        def __init__(self, key):
            self.cells = [eqx.nn.GRUCell(3, 4, key=key), eqx.nn.LSTMCell(4, 5, key=key)]
            self.head = eqx.nn.Linear(5, 1, key=key)

    model, places = Model(jax.random.key(0)), ("cells/0", "cells/1")
    assert [found.prefix for found in find(model)] == list(places)
    cell, params = from_equinox(model, prefix=places)
    made = to_equinox(cell, jax.tree.map(jnp.ones_like, params), model, prefix=places)
    assert isinstance(made, Model)
    assert bool((made.cells[1].weight_hh == 1).all())
    assert made.head is not None
    assert bool((made.head.weight == model.head.weight).all())
