"""torch, Keras and onnxruntime themselves, where they are installed: there and back.

An extra step of CI installs them. The layers are those of torch_libraries.py and
keras_libraries.py, of which golden files hold the numbers for everybody else.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
from interop_golden import GOLDEN, assert_same_model, outputs_and_gradients, part

import recurrax as rx
from recurrax.interop import convert, find, from_keras, from_onnx, from_torch, to_keras, to_torch

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
ROUNDING = {"rtol": 1e-6, "atol": 1e-6}
# What Keras does to its own variables.
ITS_OWN = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name", ["deep LSTM", "projected LSTM", "GRU", "GRU without bias", "relu RNN", "normed LSTM"]
)
def test_torch_there_and_back(name, tmp_path):
    """From a module and from a file of torch.save; back with load_state_dict."""
    torch = pytest.importorskip("torch")
    from torch_libraries import computed, made

    module = made(name, 7)
    found = computed(module, 8)
    cell, params = from_torch(module)
    ys, _, d_x = outputs_and_gradients(cell, params, found)
    assert_close((ys, d_x), (jnp.asarray(found["y"]), jnp.asarray(found["d_x"])), **CLOSE)
    options = {"activation": "relu"} if "RNN" in name else {}
    torch.save({"model": module.state_dict()}, tmp_path / "model.pt")
    from_file = convert(tmp_path / "model.pt", **options)
    assert_close(rx.unroll(*from_file, None, found["x"])[1], ys, **CLOSE)
    if "normed" in name:
        return
    written = to_torch(cell, params, bias=module.bias)
    other = made(name, 9)
    other.load_state_dict({key: torch.from_numpy(array) for key, array in written.items()})
    again = other(torch.from_numpy(found["x"]))[0].detach().numpy()
    np.testing.assert_allclose(again, found["y"], **CLOSE)


def test_the_golden_file_of_torch():
    """The same weights as the .safetensors that the other tests read, below other things."""
    pytest.importorskip("torch")
    expected = from_torch(GOLDEN / "torch_gru.safetensors")
    assert_same_model(from_torch(GOLDEN / "torch_gru.pt", prefix="model"), expected)


def test_a_model_of_torch():
    """Every layer is found, in a half-precision model as well."""
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict({"a": torch.nn.LSTM(2, 3), "b": torch.nn.GRUCell(3, 2)}).bfloat16()
    assert [one.prefix for one in find(model)] == ["a", "b"]
    params = from_torch(model, prefix="b")[1]
    assert params.w_in.dtype == jnp.bfloat16
    theirs = model["b"].weight_ih.detach().float().numpy().T
    np.testing.assert_array_equal(np.asarray(params.w_in, np.float32), theirs)


@ITS_OWN
@pytest.mark.parametrize("name", ["GRU", "GRU before", "relu RNN", "summed GRU", "RNN of a cell"])
def test_keras_there_and_back(name):
    pytest.importorskip("keras")
    from keras_libraries import computed, made

    layer = made(name, 7)
    found = computed(layer, 8)
    cell, params = from_keras(layer)
    ys, d_params, _ = outputs_and_gradients(cell, params, found)
    assert_close(ys, jnp.asarray(found["y"]), **ROUNDING)
    d_kernel = to_keras(cell, d_params)[0]
    np.testing.assert_allclose(d_kernel, part(found, "d/")["0"], rtol=1e-5, atol=5e-6)
    other = made(name, 9)
    other.set_weights(to_keras(cell, params))
    again = np.asarray(other(found["x"].swapaxes(0, 1))).swapaxes(0, 1)
    np.testing.assert_allclose(again, found["y"], **ROUNDING)


@ITS_OWN
def test_a_model_of_keras(tmp_path):
    """From the object and from its three files, whose names for it are the same."""
    keras = pytest.importorskip("keras")
    from keras_libraries import drawn, model

    made = drawn(model(), 3)
    made.save(tmp_path / "m.keras")
    made.save_weights(tmp_path / "m.weights.h5")
    prefixes = ["reader", "writer"]
    loaded = keras.models.load_model(tmp_path / "m.keras")  # whose weights have shorter paths
    for source in (made, loaded, tmp_path / "m.keras", tmp_path / "m.weights.h5"):
        assert [one.prefix for one in find(source)] == prefixes
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("f")
    reader, writer = (from_keras(made, prefix=name) for name in prefixes)
    ys = rx.unroll(*writer, None, rx.unroll(*reader, None, x)[1])[1]
    expected = np.asarray(made.layers[1](made.layers[0](x.swapaxes(0, 1)))).swapaxes(0, 1)
    np.testing.assert_allclose(ys, expected, **ROUNDING)


def test_onnxruntime():
    """The installed version computes the same."""
    onnxruntime = pytest.importorskip("onnxruntime")
    with np.load(GOLDEN / "onnx.npz") as wanted:
        x = wanted["x"]
    session = onnxruntime.InferenceSession(GOLDEN / "deep_lstm.onnx")
    (expected,) = session.run(None, {"x": x})
    ys = rx.unroll(*from_onnx(GOLDEN / "deep_lstm.onnx"), None, x)[1]
    np.testing.assert_allclose(ys, expected, **ROUNDING)
