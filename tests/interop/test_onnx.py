"""Models of ONNX, against what onnxruntime computed (tests/golden/make_onnx.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import recurrax as rx

GOLDEN = Path(__file__).parents[1] / "golden"
WANTED = np.load(GOLDEN / "onnx.npz")
CELLS = {
    "after": rx.cells.gru(3, 4),
    "before": rx.cells.gru_reset_before(3, 4),
    "tanh": rx.cells.elman(3, 4),
    "relu": rx.cells.elman(3, 4, activation="relu"),
    "back": rx.cells.lstm(3, 4),
}


@pytest.mark.parametrize("name", CELLS)
def test_each_kind_of_node(name):
    backwards = {"reverse": True} if name == "back" else {}
    cell, params = rx.interop.from_onnx(GOLDEN / "cells.onnx", prefix=name, **backwards)
    assert cell == CELLS[name]
    _, ys = rx.unroll(cell, params, None, WANTED["x"], **backwards)
    np.testing.assert_allclose(ys, WANTED[f"{name}.Y.flat"], rtol=0, atol=1e-6)


def test_nodes_that_feed_each_other_are_layers_of_one_model():
    (found,) = rx.interop.find(GOLDEN / "deep_lstm.onnx")
    assert found == ("below", "onnx", "lstm", 3, 4, 2, 2)
    cell, params = rx.interop.from_onnx(GOLDEN / "deep_lstm.onnx")
    _, ys = rx.unroll(cell, params, None, WANTED["x"])
    np.testing.assert_allclose(ys, WANTED["above.Y.flat"], rtol=0, atol=1e-6)


def model(kind="LSTM", gates=4, inputs=(), **said):
    """One node with weights of ones, and what is said of it."""
    shapes = {"W": (1, gates * 2, 3), "R": (1, gates * 2, 2), "B": (1, 2 * gates * 2)}
    weights = [numpy_helper.from_array(np.ones(s, "f4"), k) for k, s in shapes.items()]
    weights += [numpy_helper.from_array(np.ones((1, 3 * 2), "f4"), "P")]
    node = helper.make_node(kind, ["x", *shapes, *inputs], ["y"], "rnn", hidden_size=2, **said)
    return helper.make_model(helper.make_graph([node], "g", [], [], weights))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
            "rnn has the activations hardsigmoid, tanh, tanh; the LSTM here has sigmoid, tanh, "
            "tanh",
        ),
        ({"inputs": ("", "", "", "P")}, r"rnn has peepholes \(P\), which no cell here has"),
        ({"clip": 3.0}, r"rnn clips its activations \(clip = 3\), which no cell here does"),
        ({"input_forget": 1}, "rnn couples its gates"),
        (
            {"direction": "reverse"},
            r"rnn reads from the last step to the first: rx.unroll\(..., reverse=True\) does that "
            "with the converted cell. Say that you will with reverse=True",
        ),
        (
            {"kind": "GRU"},
            r"W should have shape \[1, 6, 3\] among B \[1, 16\], R \[1, 8, 2\], W \[1, 8, 3\]",
        ),
    ],
)
def test_what_no_cell_computes_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        rx.interop.from_onnx(model(**given))


def test_weights_that_the_graph_computes_are_refused():
    given = model()
    del given.graph.initializer[0]
    with pytest.raises(ValueError, match="the weight 'W' of rnn is no constant of the graph"):
        rx.interop.from_onnx(given)


def test_damaged_nodes_are_refused():
    cut = model()
    del cut.graph.node[0].input[2:]
    flat, whole = model(), model()
    flat.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((), "f4"), "R"))
    whole.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((1, 8, 3), int), "W"))
    for given, message in (
        (cut, "rnn is damaged: an LSTM has the inputs X, W and R at least, and it has 2"),
        (flat, r"'R' of rnn should have three axes .* got shape \[\]"),
        (whole, "W holds int64, expected floating point"),
    ):
        with pytest.raises(ValueError, match=message):
            rx.interop.from_onnx(given)


def test_a_model_without_recurrence_says_what_it_holds():
    weight = numpy_helper.from_array(np.ones((3, 2), "f4"), "head.weight")
    node = helper.make_node("MatMul", ["x", "head.weight"], ["y"])
    given = helper.make_model(helper.make_graph([node], "g", [], [], [weight]))
    assert isinstance(given, onnx.ModelProto)
    with pytest.raises(ValueError, match=r"no recurrent layer. It holds head.weight \[3, 2\]"):
        rx.interop.from_onnx(given)
