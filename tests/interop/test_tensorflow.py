"""The cells of TensorFlow 1, against NumPy: the equations are those of its documentation."""

from __future__ import annotations

import numpy as np
import pytest
from close import assert_same

import recurrax as rx
from recurrax.interop import find, from_tensorflow

pytestmark = pytest.mark.usefixtures("x64")

I, H, P, T, B = 3, 4, 2, 5, 2
AT = "rnn/multi_rnn_cell/cell_0/lstm_cell"


def draw(seed, **shapes):
    random = np.random.default_rng(seed)
    return {name: 0.6 * random.standard_normal(shape) for name, shape in shapes.items()}


XS = draw(0, x=(T, B, I))["x"]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm(kernel, bias, forget_bias, projection=None):
    h, c = np.zeros((B, H if projection is None else P)), np.zeros((B, H))
    ys = []
    for x in XS:
        i, j, f, o = np.split(np.concatenate([x, h], 1) @ kernel + bias, 4, 1)
        c = sigmoid(f + forget_bias) * c + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * np.tanh(c)
        h = h if projection is None else h @ projection
        ys.append(h)
    return np.stack(ys)


def outputs(cell, params):
    return rx.unroll(cell, params, None, XS)[1]


@pytest.mark.parametrize("forget_bias", [None, 0.0, 2.0])
def test_an_lstm(forget_bias):
    w = draw(1, kernel=(I + H, 4 * H), bias=4 * H)
    source = {f"{AT}/{name}:0": array for name, array in w.items()}
    source |= {f"{AT}/kernel/Adam": w["kernel"], "dense/kernel": w["kernel"]}
    expected = lstm(**w, forget_bias=1.0 if forget_bias is None else forget_bias)
    found = outputs(*from_tensorflow(source, forget_bias=forget_bias))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_an_lstm_with_a_projection():
    w = draw(2, kernel=(I + P, 4 * H), bias=4 * H, projection=(H, P))
    source = {f"{AT}/{name}": array for name, array in w.items() if name != "projection"}
    cell, params = from_tensorflow(source | {f"{AT}/projection/kernel": w["projection"]})
    assert cell.step == rx.cells.lstm_projection_step
    expected = lstm(**w, forget_bias=1.0)
    np.testing.assert_allclose(outputs(cell, params), expected, rtol=1e-12, atol=1e-12)


def test_a_gru_resets_before_the_product():
    w = draw(3, gates=(I + H, 2 * H), b=2 * H, candidate=(I + H, H), b_n=H)
    h, ys = np.zeros((B, H)), []
    for x in XS:
        r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ w["gates"] + w["b"]), 2, 1)
        n = np.tanh(np.concatenate([x, r * h], 1) @ w["candidate"] + w["b_n"])
        h = u * h + (1 - u) * n
        ys.append(h)
    names = ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")
    source = {f"rnn/cell/{n}": a for n, a in zip(names, w.values(), strict=True)}
    found = outputs(*from_tensorflow(source))
    np.testing.assert_allclose(found, np.stack(ys), rtol=1e-12, atol=1e-12)
    assert find(source)[0][:5] == ("rnn/cell", "tensorflow", "gru-reset-before", I, H)


def test_by_name_or_by_prefix():
    """The leaves of an LSTM are those of a dense layer."""
    dense = draw(4, kernel=(I + H, 4 * H), bias=4 * H)
    source = {f"memory/{name}": array for name, array in dense.items()}
    assert find(source) == ()
    with pytest.raises(ValueError, match=r"holds no recurrent layer\. It holds memory/kernel \[7,"):
        from_tensorflow(source)
    named = {f"lstm/{name}": array for name, array in dense.items()}
    assert_same(from_tensorflow(source, prefix="memory")[1], from_tensorflow(named)[1])


def test_peepholes_are_refused():
    w = draw(5, kernel=(I + H, 4 * H), bias=4 * H, w_f_diag=H, w_i_diag=H, w_o_diag=H)
    with pytest.raises(ValueError, match=r"^'rnn/lstm_cell' has peepholes, from its c to its ga"):
        from_tensorflow({f"rnn/lstm_cell/{name}": array for name, array in w.items()})


def test_shapes_that_contradict_each_other():
    w = draw(6, kernel=(I + H, 4 * H), bias=4 * H)
    for bad in ({"bias": np.ones(3)}, {"kernel": np.ones((H, 4 * H))}):
        source = {f"{AT}/{name}": array for name, array in (w | bad).items()}
        with pytest.raises(ValueError, match=rf"^{AT}/(kernel|bias) should have shape \["):
            from_tensorflow(source)
