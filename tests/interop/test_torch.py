"""torch's layers: values and gradients as torch has them, there and back, and what is refused.

golden/interop_torch.npz was written by golden/make_interop.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from interop_golden import GOLDEN, assert_same_model, golden, outputs_and_gradients, part

import recurrax as rx
from recurrax.interop import find, from_torch, to_torch

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
LSTM, GRU, BOTH = rx.cells.lstm, rx.cells.gru, rx.bidirectional
X64 = {"dtype": "float64"}


def cells(name):
    """What each layer of the file is here, built by hand."""
    projected = rx.cells.lstm_projection
    return {
        "deep LSTM": lambda: rx.stack(BOTH(LSTM(2, 3, **X64)), BOTH(LSTM(6, 3, **X64))),
        "projected LSTM": lambda: rx.stack(
            BOTH(projected(2, 3, 1, **X64)), BOTH(projected(2, 3, 1, **X64))
        ),
        "GRU": lambda: GRU(2, 3, **X64),
        "GRU without bias": lambda: GRU(2, 3, **X64),
        "relu RNN": lambda: rx.stack(
            *(rx.cells.elman(i, 3, activation="relu", **X64) for i in (2, 3))
        ),
        "LSTM cell": lambda: LSTM(2, 3, **X64),
        "GRU cell": lambda: GRU(2, 3, **X64),
        "normed LSTM": lambda: LSTM(2, 3, **X64),
    }[name]()


def expected_gradients(found, ours):
    """torch's, where a recurrent bias is in the sum it is added to, but for that of a GRU's n."""
    theirs = part(found, "d/")
    for name, array in ours.items():
        if "bias_hh" in name:
            apart = array != 0  # only b_n has a gradient there
            theirs[name] = np.where(apart, theirs[name], 0)
    return theirs


NAMES = ["deep LSTM", "projected LSTM", "GRU", "GRU without bias", "relu RNN"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NAMES)
def test_values_gradients_and_the_way_back(name):
    found = golden("torch", name)
    activation = "relu" if "RNN" in name else None
    cell, params = from_torch(part(found, "w/"), activation=activation)
    assert cell == cells(name)
    ys, d_params, d_x = outputs_and_gradients(cell, params, found)
    assert_close((ys, d_x), (jnp.asarray(found["y"]), jnp.asarray(found["d_x"])), **CLOSE)
    bias = "without bias" not in name
    written = to_torch(cell, params, bias=bias)
    assert written.keys() == part(found, "w/").keys()
    assert_same_model(from_torch(written, activation=activation), (cell, params))
    ours = to_torch(cell, d_params)
    theirs = expected_gradients(found, {n: ours[n] for n in part(found, "d/")})
    assert_close({n: ours[n] for n in theirs}, theirs, **CLOSE)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["LSTM cell", "GRU cell", "normed LSTM"])
def test_cells_and_weight_norm(name):
    found = golden("torch", name)
    cell, params = from_torch(part(found, "w/"))
    assert cell == cells(name)
    assert_close(rx.unroll(cell, params, None, found["x"])[1], jnp.asarray(found["y"]), **CLOSE)


@pytest.mark.usefixtures("x64")
def test_weight_norm_under_its_older_names():
    weights = part(golden("torch", "normed LSTM"), "w/")
    older = {}
    for name, array in weights.items():
        for i, letter in enumerate("gv"):
            name = name.replace(
                f"parametrizations.weight_hh_l0.original{i}", f"weight_hh_l0_{letter}"
            )
        older[name] = array
    assert_same_model(from_torch(older), from_torch(weights))


@pytest.mark.usefixtures("x64")
def test_biases_of_a_gru_do_not_all_merge():
    """The two of n stay apart: to sum them is the classic mistake, and changes the outputs."""
    found = golden("torch", "GRU")
    weights = part(found, "w/")
    cell, params = from_torch(weights)
    assert_same(params.unit.b_n, jnp.asarray(weights["bias_hh_l0"][6:]))
    summed = params.b.at[6:].add(params.unit.b_n)
    merged = params._replace(b=summed, unit=jax.tree.map(jnp.zeros_like, params.unit))
    difference = rx.unroll(cell, merged, None, found["x"])[1] - found["y"]
    assert float(abs(difference).max()) > 1e-3


def test_files(tmp_path):
    """A .safetensors, an .npz and nested names give the same, the prefix picks, dtypes stay."""
    cell, params = from_torch(GOLDEN / "torch_gru.safetensors")
    assert cell == rx.cells.gru(2, 3, dtype="float32")
    weights = to_torch(cell, params, prefix="encoder")
    np.savez(tmp_path / "w.npz", **weights)
    assert_same_model(from_torch(tmp_path / "w.npz", prefix="encoder"), (cell, params))
    assert_same_model(from_torch({"model": weights, "epoch": 3}, prefix="model"), (cell, params))
    half = {name: array.astype(jnp.bfloat16) for name, array in weights.items()}
    assert from_torch(half)[1].w_in.dtype == jnp.bfloat16
    np.savez(tmp_path / "half.npz", **half)
    assert_same_model(from_torch(tmp_path / "half.npz"), from_torch(half))


def lstm_weights(hidden=3, size=2, **more):
    shapes = {"weight_ih_l0": (4 * hidden, size), "weight_hh_l0": (4 * hidden, hidden)}
    return {name: np.ones(shape, "f") for name, shape in shapes.items()} | more


def test_several_layers_are_listed_and_picked():
    weights = {f"a.{n}": w for n, w in lstm_weights().items()}
    weights |= {f"b.rnn.{n}": w for n, w in lstm_weights(5, 3).items()}
    a, b = find(weights)
    assert a == ("a", "torch", "lstm", 2, 3, 1, 1)
    assert b.prefix == "b.rnn"
    with says(
        ValueError,
        "the mapping holds 2 recurrent layers; name one with prefix=: 'a': lstm of torch, 2 -> 3; "
        "'b.rnn': lstm of torch, 3 -> 5",
    ):
        from_torch(weights)
    for prefix in ("b", "b.rnn", "b/rnn.", "/b/rnn"):
        assert from_torch(weights, prefix=prefix)[0] == rx.cells.lstm(3, 5)
    with says(
        ValueError,
        "the mapping holds no recurrent layer under prefix 'b.rn'; did you mean 'b.rnn'? It holds "
        "'a': lstm of torch, 2 -> 3; 'b.rnn': lstm of torch, 3 -> 5",
    ):
        from_torch(weights, prefix="b.rn")


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (
            {"head.weight": np.ones((1, 3))},
            "the mapping holds no recurrent layer. It holds head.weight [1, 3].",
        ),
        ({}, "the mapping holds no recurrent layer. It holds no array at all."),
        (
            lstm_weights() | {"weight_hh_l0": np.ones((11, 3))},
            "weight_hh_l0 should have shape [12, 3] among weight_ih_l0 [12, 2], weight_hh_l0 "
            "[11, 3]",
        ),
        (
            lstm_weights() | {"weight_ih_l0": np.ones((7, 2))},
            "weight_ih_l0 of shape [7, 2] and weight_hh_l0 of shape [12, 3] are no RNN, GRU or "
            "LSTM, whose rows are 1, 3 or 4 times the 3 hidden units",
        ),
        (
            lstm_weights(bias_ih_l0=np.ones(12)),
            "bias_hh_l0 is missing beside weight_ih_l0 [12, 2], weight_hh_l0 [12, 3], bias_ih_l0 "
            "[12]",
        ),
        (
            lstm_weights() | {"weight_hh_l0": np.where(np.eye(12, 3), np.nan, 1)},
            "weight_hh_l0 is not finite: nan at index (0, 0), 3 of 36 numbers in all. Convert "
            "weights from before the training diverged",
        ),
        (
            {name: array.astype(int) for name, array in lstm_weights().items()},
            "weight_ih_l0 holds int64, expected floating point: save the weights as float32",
        ),
        (
            lstm_weights() | {"weight_ih_l999999999": np.ones((12, 3))},
            "weight_ih_l1 is missing: there are weights of the layers 0, 999999999",
        ),
        (
            {"parametrizations.weight_hh_l0.original": np.ones((12, 3))},
            "parametrizations.weight_hh_l0.original is a weight under a parametrization that is "
            "no weight_norm: call torch.nn.utils.parametrize.remove_parametrizations(module, "
            "'weight_hh_l0') and save the state_dict again",
        ),
    ],
)
def test_weights_that_are_no_layer(weights, text):
    with says(ValueError, text):
        from_torch(weights)


@pytest.mark.parametrize("prefix", ["bias_net.rnn", "a{b}", "{}"])
def test_names_of_modules_mean_nothing(prefix):
    weights = {"weight_ih_l0": np.ones((12, 2), "f"), "weight_hh_l0": np.ones((12, 3), "f")}
    weights = {f"{prefix}.{name}": array for name, array in weights.items()}
    assert find(weights)[0].prefix == prefix
    assert from_torch(weights)[0] == rx.cells.lstm(2, 3)


def test_halves_of_two_kinds_become_what_holds_both():
    weights = {name: array.astype(np.float16) for name, array in lstm_weights().items()}
    weights["weight_hh_l0"] = weights["weight_hh_l0"].astype(jnp.bfloat16)
    assert from_torch(weights)[1].w_rec.dtype == jnp.float32


def test_what_a_state_dict_does_not_say():
    rnn = {"weight_ih_l0": np.ones((3, 2), "f"), "weight_hh_l0": np.ones((3, 3), "f")}
    with says(
        ValueError,
        "this is an RNN, and a state_dict does not say of which activation: give "
        'activation="tanh" (torch\'s default) or "relu"',
    ):
        from_torch(rnn)
    assert from_torch(rnn, activation="tanh")[0] == rx.cells.elman(2, 3)
    with says(ValueError, "activation must be one of 'tanh', 'relu'; got 'elu'"):
        from_torch(rnn, activation="elu")
    with says(ValueError, "activation says nothing of '': lstm of torch, 2 -> 3: leave it out"):
        from_torch(lstm_weights(), activation="tanh")
    with says(
        TypeError,
        "source must be a path, or hold arrays by name (a state_dict, a tree of params, "
        "get_weights(), a module); got int",
    ):
        from_torch(3)


def refused():
    both = rx.bidirectional(LSTM(2, 3), merge="sum")
    one_module = (
        "one module of torch has layers of one kind, one size and the same directions; convert "
        "each part of this stack by itself"
    )
    return [
        (
            rx.cells.gru_reset_before(2, 3),
            "torch's GRU resets after the recurrent product, so it cannot compute a "
            "gru_reset_before; write that step as a module of your own",
        ),
        (
            both,
            'torch concatenates the outputs of both directions, and has no merge="sum"',
        ),
        (rx.stack(LSTM(2, 3), GRU(3, 3)), one_module),
        (rx.stack(LSTM(2, 3), LSTM(3, 4)), one_module),
        (rx.stack(BOTH(LSTM(2, 3)), LSTM(6, 3)), one_module),
        (
            rx.residual(GRU(2, 2)),
            "to_torch takes the cells of rx.cells, and stacks and directions of them, with their "
            "params; got residual(gru(2, 2, float32)) with GRUParams",
        ),
    ]


@pytest.mark.parametrize(("cell", "text"), refused())
def test_what_torch_cannot_hold(cell, text, key):
    with says(ValueError, text):
        to_torch(cell, cell.init(key))


def test_biases_that_a_module_without_them_cannot_hold(key):
    cell = LSTM(2, 3)
    with says(ValueError, "bias=False is for a cell whose biases are all 0, and these are not"):
        to_torch(cell, cell.init(key), bias=False)
    with says(
        ValueError,
        "to_torch takes the params of its cell, for this stack a tuple of 2; got LSTMParams",
    ):
        to_torch(rx.stack(cell, LSTM(3, 3)), cell.init(key))
