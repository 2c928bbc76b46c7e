"""Cells of linen and nnx, against what Flax computed (golden/make_interop_jax.py)."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_same, says
from contract import like
from jax_golden import CLOSE, assert_leaves, flat, golden, our_gradient

import recurrax as rx
from recurrax.interop import find, from_flax, to_flax

pytestmark = pytest.mark.usefixtures("x64")

# By name of the golden layer: options of from_flax, and of to_flax.
LAYERS = {
    "linen LSTM": ({}, {"prefix": "cell"}),
    "linen GRU": ({}, {"prefix": "cell"}),
    "linen vanilla": ({"activation": "tanh"}, {"prefix": "cell"}),
    "linen relu": ({"activation": "relu"}, {"prefix": "cell"}),
    "linen deep": (
        {"prefix": (("GRUCell_0", "GRUCell_1"), "GRUCell_2")},
        {},  # these are the names that linen gives
    ),
    "nnx LSTM": ({}, {"api": "nnx", "optimized": False}),
    "nnx optimized LSTM": ({}, {"api": "nnx"}),
    "nnx GRU": ({}, {"api": "nnx"}),
    "nnx vanilla": ({}, {"api": "nnx"}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_gradients_and_the_way_back(name):
    expected, (reads, writes) = golden(f"flax {name}"), LAYERS[name]
    cell, params = from_flax(expected.weights, **reads)
    gradient = our_gradient(cell, params, expected)
    if name == "nnx GRU":  # has no b_n, so there is no gradient by it
        gradient = gradient._replace(unit=jax.tree.map(jnp.zeros_like, gradient.unit))
    assert_leaves(to_flax(cell, gradient, **writes), expected.gradients, **CLOSE)
    assert_leaves(to_flax(cell, params, **writes), expected.weights, rtol=0, atol=0)


def test_a_residual_cell_is_one_with_the_identity_in_w_rec():
    """Which only the user knows: the leaves are those of a cell without."""
    expected = golden("flax linen residual")
    cell, params = from_flax(expected.weights, residual=True)
    gradient = our_gradient(cell, params, expected)
    assert_leaves(to_flax(cell, gradient, prefix="cell"), expected.gradients, **CLOSE)
    plain = from_flax(expected.weights)[1]
    np.testing.assert_array_equal(params.w_rec, plain.w_rec + np.eye(4))


def test_the_scan_of_purejaxrl():
    """Its cell is called `GRUCell_1`: found by its leaves, beside a dense layer."""
    expected = golden("flax linen scanned")
    (found,) = find({"params": expected.weights})
    assert found == ("params/ScannedRNN_0/GRUCell_1", "flax", "gru", 3, 4, 1, 1)
    below, weights = [expected.weights[f"Dense_0/{leaf}"] for leaf in ("kernel", "bias")], None
    cell, params = from_flax(expected.weights)
    gradient = our_gradient(cell, params, expected._replace(xs=expected.xs @ below[0] + below[1]))
    weights = {n: g for n, g in expected.gradients.items() if not n.startswith("Dense")}
    assert_leaves(to_flax(cell, gradient, prefix="ScannedRNN_0/GRUCell_1"), weights, **CLOSE)


def test_every_kind_is_told_by_its_leaves():
    kinds = {name: [f.kind for f in find(golden(f"flax {name}").weights)] for name in LAYERS}
    assert kinds == {
        name: ["lstm" if "LSTM" in name else "gru" if "GRU" in name else "elman"]
        for name in LAYERS
        if name != "linen deep"
    } | {"linen deep": ["gru"] * 3}


def test_files_and_dots(tmp_path):
    weights = golden("flax linen GRU").weights
    expected = from_flax(weights)[1]
    np.savez(tmp_path / "slashes.npz", **weights)
    np.savez(tmp_path / "dots.npz", **{n.replace("/", "."): a for n, a in weights.items()})
    for name in ("slashes", "dots"):
        assert_same(from_flax(tmp_path / f"{name}.npz", prefix="cell")[1], expected)
    nested = to_flax(*from_flax(weights))
    assert_same(from_flax(nested)[1], expected)
    assert set(flat(nested)) == {name.removeprefix("cell/") for name in weights}


def noise(cell):
    return like(1, jax.eval_shape(cell.init, jax.random.key(0)))


def test_a_gru_of_nnx_has_no_bias_inside_its_reset():
    cell = rx.cells.gru(3, 4)
    params = noise(cell)
    with says(
        ValueError,
        "nnx.GRUCell has no bias inside its reset, but unit.b_n is not zero, so that no weights "
        'of that cell compute the same. linen\'s has one: api="linen"',
    ):
        to_flax(cell, params, api="nnx")
    without = params._replace(unit=rx.cells.GRUUnit(jnp.zeros(4)))
    assert_same(from_flax(to_flax(cell, without, api="nnx"))[1], without)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (
            rx.cells.gru_reset_before(3, 4),
            "Flax cannot hold a cell gru-reset-before: its GRUCell resets after the recurrent "
            "product, another function",
        ),
        (
            rx.cells.lstm_projection(3, 4),
            "Flax cannot hold a cell lstm-projection: its LSTMCell has no projection",
        ),
    ],
)
def test_what_flax_cannot_hold(cell, why):
    with says(ValueError, why):
        to_flax(cell, noise(cell))


def test_an_mgu_is_refused():
    leaves = {f"cell/i{gate}/bias": (4,) for gate in "fn"}
    leaves |= {f"cell/i{gate}/kernel": (3, 4) for gate in "fn"}
    leaves |= {f"cell/h{gate}/kernel": (4, 4) for gate in "fn"} | {"cell/hn/bias": (4,)}
    with pytest.raises(ValueError, match=r"^'cell' is an MGUCell of Flax, which is none of rx\.c"):
        from_flax({name: np.ones(shape) for name, shape in leaves.items()})


def test_messages():
    deep = golden("flax linen deep").weights
    with pytest.raises(ValueError, match=r"holds 3 recurrent layers; name .*'GRUCell_1': gru of f"):
        from_flax(deep)
    with pytest.raises(ValueError, match=r"no recurrent layer under prefix 'GRUCell_3'"):
        from_flax(deep, prefix=("GRUCell_0", "GRUCell_3"))
    with pytest.raises(ValueError, match=r"^where prefix has a pair, it names the cell of the for"):
        from_flax(deep, prefix=(("GRUCell_0", "GRUCell_1", "GRUCell_2"),))
    for prefix in (3, (), (("GRUCell_0", 1),)):
        with pytest.raises(TypeError, match=r"^prefix must be the path of a layer, or a tuple of"):
            from_flax(deep, prefix=prefix)
    with pytest.raises(ValueError, match=r"^residual says nothing of 'GRUCell_0': gru of flax"):
        from_flax(deep, prefix="GRUCell_0", residual=True)
    with says(ValueError, "activation must be one of 'tanh', 'relu'; got 'gelu'"):
        from_flax(golden("flax nnx vanilla").weights, activation="gelu")
    with says(ValueError, "api must be one of 'linen', 'nnx'; got 'flax'"):
        to_flax(rx.cells.gru(3, 4), noise(rx.cells.gru(3, 4)), api="flax")
    cell = rx.stack(rx.cells.gru(3, 4), rx.cells.gru(4, 4))
    with says(
        ValueError,
        "to_flax does not know what a module of nnx calls its cells: name each with prefix=, such "
        'as ("cells/0", "cells/1")',
    ):
        to_flax(cell, noise(cell), api="nnx")
    with says(
        ValueError,
        "prefix of to_flax must be the path of each of the 2 layers, from bottom to top, and a "
        "pair (forward, backward) where it has both directions; got 'GRUCell_0'",
    ):
        to_flax(cell, noise(cell), prefix="GRUCell_0")


def test_cells_of_one_class_are_counted_together():
    cell = rx.stack(rx.cells.elman(3, 4), rx.cells.elman(4, 4, activation="relu"))
    assert set(to_flax(cell, noise(cell))) == {"SimpleCell_0", "SimpleCell_1"}


def test_numbers_in_the_paths_of_nnx():
    cell = rx.stack(rx.cells.lstm(3, 4), rx.cells.lstm(4, 4))
    tree = to_flax(cell, params := noise(cell), api="nnx", prefix=("cells/0", "cells/1"))
    assert set(tree["cells"]) == {0, 1}
    assert_same(from_flax(tree, prefix=("cells/0", "cells/1"))[1], params)


@pytest.mark.parametrize(
    ("leaf", "shape", "text"),
    [
        ("cell/hi/kernel", (4, 5), "cell/hi/kernel should have shape [4, 4] among "),
        ("cell/io/kernel", (2, 4), "cell/io/kernel should have shape [3, 4] among "),
        ("cell/hf/bias", (3,), "cell/hf/bias should have shape [4] among "),
    ],
)
def test_shapes_that_contradict_each_other(leaf, shape, text):
    weights = golden("flax linen LSTM").weights | {leaf: np.zeros(shape)}
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        from_flax(weights)


def test_a_number_that_is_none():
    weights = golden("flax linen LSTM").weights
    bad = weights["cell/hf/bias"].copy()
    bad[1] = np.nan
    with pytest.raises(ValueError, match=r"^cell/hf/bias is not finite: nan at index \(1,\)"):
        from_flax(weights | {"cell/hf/bias": bad})
