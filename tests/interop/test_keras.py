"""Keras' layers: values and gradients as Keras has them, its three files, and what is refused.

golden/interop_keras.npz and the models beside it were written by golden/make_interop.py.
"""

from __future__ import annotations

import json
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from interop_golden import GOLDEN, assert_same_model, golden, outputs_and_gradients, part

import recurrax as rx
from recurrax.interop import find, from_keras, to_keras
from recurrax.interop.keras import recognise_keras

CLOSE = {"rtol": 1e-6, "atol": 1e-6}
LSTM, GRU, BEFORE = rx.cells.lstm, rx.cells.gru, rx.cells.gru_reset_before
# By layer: what it is here, and what get_weights() does not say.
LAYERS = {
    "LSTM": (LSTM(3, 4), {}),
    "GRU": (GRU(3, 4), {}),
    "GRU before": (BEFORE(3, 4), {}),
    "GRU without bias": (GRU(3, 4), {"reset_after": True}),
    "relu RNN": (rx.cells.elman(3, 4, activation="relu"), {"activation": "relu"}),
    "backwards": (LSTM(3, 4), {"go_backwards": False}),
    "summed GRU": (rx.bidirectional(GRU(3, 4), merge="sum"), {"merge_mode": "sum"}),
    "multiplied LSTM": (rx.bidirectional(LSTM(3, 4), merge="mul"), {"merge_mode": "mul"}),
    "joined GRU": (rx.bidirectional(BEFORE(3, 4)), {}),
    "RNN of a cell": (GRU(3, 4), {}),
}


def listed(found, begin):
    row = part(found, begin)
    return [row[str(i)] for i in range(len(row))]


def merged(theirs):
    """Keras' gradients, those of the recurrent biases that are added to others left out."""
    return [
        np.stack([g[0], np.where(np.arange(12) < 8, 0, g[1])]) if g.shape == (2, 12) else g
        for g in theirs
    ]


@pytest.mark.parametrize("name", LAYERS)
def test_values_gradients_and_the_way_back(name):
    found, (expected, options) = golden("keras", name), LAYERS[name]
    cell, params = from_keras(listed(found, "w/"), **options)
    assert cell == expected
    flip = name == "backwards"
    ys, d_params, _ = outputs_and_gradients(cell, params, found, flip)
    assert_close(ys, jnp.asarray(found["y"]), **CLOSE)
    written = to_keras(cell, params, use_bias="without" not in name)
    assert [w.shape for w in written] == [w.shape for w in listed(found, "w/")]
    assert_same_model(from_keras(written, **options), (cell, params))
    theirs = merged(listed(found, "d/"))
    assert_close(to_keras(cell, d_params)[: len(theirs)], theirs, rtol=1e-5, atol=5e-6)


def test_the_one_of_a_forget_bias_is_in_the_bias():
    """Keras draws it there (unit_forget_bias), so nothing is to be added: unlike Haiku's."""
    bias = np.repeat([0.0, 1, 0, 0], 4).astype("f")
    _, params = from_keras([np.ones((3, 16), "f"), np.ones((4, 16), "f"), bias])
    assert_same(params.b, jnp.asarray(bias))


MODELS = [
    ("keras_model.keras", {}, {}),
    ("keras_model.h5", {}, {}),
    ("keras_model.weights.h5", {"merge_mode": "ave"}, {"activation": "relu"}),
]


@pytest.mark.parametrize(("file", "below", "above"), MODELS)
def test_files(file, below, above):
    """A model of two layers and a head, its configuration read where the file has it."""
    path = GOLDEN / file
    reader = from_keras(path, prefix="reader", **below)
    writer = from_keras(path, prefix="writer", **above)
    assert reader[0] == rx.bidirectional(BEFORE(3, 4), merge="ave")
    assert writer[0] == rx.cells.elman(4, 3, activation="relu")
    with np.load(GOLDEN / "keras_model.npz") as wanted:
        ys = rx.unroll(*writer, None, rx.unroll(*reader, None, wanted["x"])[1])[1]
        np.testing.assert_allclose(ys @ wanted["kernel"] + wanted["bias"], wanted["y"], atol=1e-6)
    if not above:
        assert from_keras(path, prefix=("reader", "writer"))[0] == rx.stack(reader[0], writer[0])
    found = {one.prefix: (one.kind, *one[3:]) for one in find(path)}
    kind = "elman" if above else "elman-relu"
    assert found == {
        "reader": ("gru-reset-before", 3, 4, 1, 2),
        "writer": (kind, 4, 3, 1, 1),
    }


def with_config(tmp_path, change):
    """The model with another configuration of its SimpleRNN."""
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(GOLDEN / "keras_model.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                model = json.loads(content)
                change(model["config"]["layers"])
                content = json.dumps(model)
            new.writestr(name, content)
    return path


def layer_of(layers, name):
    return next(one["config"] for one in layers if one["config"]["name"] == name)


@pytest.mark.parametrize(
    ("name", "said", "text"),
    [
        (
            "writer",
            {"activation": "elu"},
            "'writer' has activation='elu', but a recurrax elman has tanh or relu; write a cell of "
            "your own with rx.gated_cell",
        ),
        (
            "writer",
            {"activation": {"class_name": "function", "config": "mine"}},
            "'writer' has activation='mine', but a recurrax elman has tanh or relu; write a cell "
            "of your own with rx.gated_cell",
        ),
        (
            "forward_gru",
            {"recurrent_activation": "hard_sigmoid"},
            "'reader' has recurrent_activation='hard_sigmoid', but a recurrax "
            "gru-reset-before has sigmoid; write a cell of your own with rx.gated_cell",
        ),
        (
            "forward_gru",
            {"reset_after": True},
            "'reader' has reset_after=True, with which its bias would have 2 axes, but it "
            "has shape [12]",
        ),
        (
            "reader",
            {"merge_mode": None},
            "'reader' has merge_mode='none', but both directions are joined by \"concat\", "
            '"sum", "mul" or "ave": give one as merge_mode=',
        ),
        (
            "forward_gru",
            {"go_backwards": True},
            "the forward layer of 'reader' has go_backwards=True, so its outputs come in "
            "another order than those of the backward one: build it the other way round",
        ),
        (
            "writer",
            {"go_backwards": True},
            "'writer' reads its inputs from the last one (go_backwards=True), which is no part of "
            "a cell: give go_backwards=False and unroll it over xs[::-1]; its outputs then come in "
            "Keras' order",
        ),
    ],
)
def test_configurations_that_no_cell_has(name, said, text, tmp_path):
    def change(layers):
        outer = "reader" if name == "forward_gru" else name
        config = layer_of(layers, outer)
        if name == "forward_gru":
            config.pop("backward_layer")
            config = config["layer"]["config"]
        config |= said

    path = with_config(tmp_path, change)
    with says(ValueError, text):
        from_keras(path, prefix="writer" if name == "writer" else "reader")


def test_what_a_list_does_not_say():
    ones = [np.ones((2, 9), "f"), np.ones((3, 9), "f")]
    with says(
        ValueError,
        "'' is a GRU without bias, so its weights do not say whether it resets after the recurrent "
        "product: give reset_after=True (Keras' default) or False",
    ):
        from_keras(ones)
    assert from_keras(ones, reset_after=False)[0] == BEFORE(2, 3)
    with says(
        ValueError,
        "'' is a SimpleRNN without its configuration, and the weights do not say of which "
        'activation: give activation="tanh" (Keras\' default) or "relu"',
    ):
        from_keras([np.ones((2, 3)), np.ones((3, 3)), np.ones(3)])


def test_lists_of_a_whole_model():
    """Layers stand at the number of their first array; the head is none of them."""
    lstm = [np.ones((2, 12), "f"), np.ones((3, 12), "f"), np.ones(12, "f")]
    above = [np.ones((3, 12), "f"), np.ones((3, 12), "f"), np.ones(12, "f")]
    head = [np.ones((3, 1), "f"), np.ones(1, "f")]
    found = find([*lstm, *above, *head])
    assert [(one.prefix, one.input_size, one.directions) for one in found] == [
        ("0", 2, 1),
        ("3", 3, 1),
    ]
    (both,) = find([*lstm, *lstm, *head])
    assert both == ("0", "keras", "lstm", 2, 3, 1, 2)
    named = {"forward_layer": above, "backward_layer": above}
    assert from_keras(named)[0] == rx.bidirectional(LSTM(3, 3))


def test_cells_that_one_rnn_stacks():
    """Each is found by itself, and what its own configuration says is read."""
    shapes = {"kernel": (2, 12), "recurrent_kernel": (3, 12), "bias": (12,)}
    weights = {f"rnn/lstm_cell{i}/{n}": np.ones(s) for i in ("", "_1") for n, s in shapes.items()}
    cells = [
        {"class_name": "LSTMCell", "config": {"name": "lstm_cell", "activation": "tanh"}},
        {"class_name": "LSTMCell", "config": {"name": "lstm_cell_1", "activation": "relu"}},
    ]
    stacked = {"class_name": "StackedRNNCells", "config": {"cells": cells}}
    model = {"class_name": "RNN", "config": {"name": "rnn", "cell": stacked}}
    below, above = recognise_keras(weights, {"keras": {"model": model, "names": {}}})
    assert (below.found.prefix, above.found.prefix) == ("lstm_cell", "lstm_cell_1")
    assert below.layers()[0].forward.cell == "lstm"
    with says(
        ValueError,
        "'lstm_cell_1' has activation='relu', but a recurrax lstm has tanh; write a cell of your "
        "own with rx.gated_cell",
    ):
        above.layers()


def test_weights_by_name_that_contradict_each_other():
    weights = {"kernel": np.ones((2, 12)), "recurrent_kernel": np.ones((5, 12))}
    with says(
        ValueError,
        "kernel of shape [2, 12] and recurrent_kernel of shape [5, 12] are no SimpleRNN, GRU or "
        "LSTM, whose columns are 1, 3 or 4 times the 5 units",
    ):
        from_keras(weights)
    weights |= {"recurrent_kernel": np.ones((3, 12)), "bias": np.ones(9)}
    with says(
        ValueError,
        "bias should have shape [12] among kernel [2, 12], recurrent_kernel [3, 12], bias [9]",
    ):
        from_keras(weights)


def test_what_keras_cannot_hold(key):
    cell = rx.cells.lstm_projection(2, 3, 1)
    with says(ValueError, "Keras' LSTM has no projection, so it cannot hold an lstm_projection"):
        to_keras(cell, cell.init(key))
    with says(ValueError, "use_bias=False is for a cell whose biases are all 0, and these are not"):
        to_keras(LSTM(2, 3), LSTM(2, 3).init(key), use_bias=False)
    deep = rx.stack(LSTM(2, 3), GRU(3, 4))
    shapes = [array.shape for array in to_keras(deep, deep.init(key))]
    assert shapes == [(2, 12), (3, 12), (12,), (3, 12), (4, 12), (2, 12)]
