"""Haiku's cores, against what Haiku computed (golden/make_interop_jax.py)."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from close import assert_close, assert_same, says
from contract import like
from jax_golden import CLOSE, assert_leaves, golden, our_gradient

import recurrax as rx
from recurrax.interop import find, from_haiku, to_haiku

pytestmark = pytest.mark.usefixtures("x64")

# By name of the golden layer: the prefix of from_haiku, and options of to_haiku.
LAYERS = {
    "LSTM": (None, {}),
    "deep LSTM": (("lstm", "lstm_1"), {}),
    "GRU": (None, {}),
    "vanilla": (None, {}),
    "one bias": (None, {"double_bias": False}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_gradients_and_the_way_back(name):
    expected, (prefix, writes) = golden(f"haiku {name}"), LAYERS[name]
    cell, params = from_haiku(expected.weights, prefix=prefix)
    gradient = to_haiku(cell, our_gradient(cell, params, expected), forget_bias=0, **writes)
    weights = expected.weights
    if name == "vanilla":  # of two biases only the sum counts, which is in the first
        gradient["vanilla_rnn/linear_1"]["b"] = gradient["vanilla_rnn/linear"]["b"]
        first, second = (f"vanilla_rnn/{part}/b" for part in ("linear", "linear_1"))
        weights = weights | {first: weights[first] + weights[second], second: np.zeros(4)}
    assert_leaves(gradient, expected.gradients, **CLOSE)
    # The forget bias comes and goes with a rounding.
    exact = {"rtol": 0, "atol": 4e-16 if "LSTM" in name else 0}
    assert_leaves(to_haiku(cell, params, **writes), weights, **exact)


def test_what_the_lstm_adds_is_in_the_bias():
    weights = golden("haiku LSTM").weights
    b = np.split(weights["lstm/linear/b"], 4)  # i g f o
    for given, added in ((None, 1.0), (2.5, 2.5), (0, 0.0)):
        found = from_haiku(weights, forget_bias=given)[1].b
        assert_close(found, np.concatenate([b[0], b[2] + added, b[1], b[3]]))


def test_z_of_the_gru_is_the_other_way_round():
    """With z at 1, Haiku's state is the candidate, and ours is the old state."""
    weights = golden("haiku GRU").weights
    cell, params = from_haiku(weights)
    assert cell.step == rx.cells.gru_reset_before_step
    for leaf, ours in (("w_i", params.w_in), ("w_h", params.w_rec), ("b", params.b)):
        z, r, n = np.split(weights[f"gru/{leaf}"], 3, -1)
        np.testing.assert_array_equal(ours, np.concatenate([r, -z, n], -1))


def test_the_vanilla_network_has_a_relu():
    cell, _ = from_haiku(golden("haiku vanilla").weights)
    assert cell.step == rx.cells.elman(1, 1, activation="relu").step


def test_cells_are_found_by_leaves_and_only_where_those_say_nothing_by_name():
    weights = golden("haiku LSTM").weights
    linear = {"linear/w": np.ones((64, 128)), "linear/b": np.zeros(128)}
    model = weights | {f"mlp/{name}": array for name, array in linear.items()}
    (found,) = find(model)
    assert found == ("lstm", "haiku", "lstm", 3, 4, 1, 1)
    expected = from_haiku(weights)[1]
    assert_same(from_haiku(model)[1], expected)
    renamed = {name.replace("lstm", "memory"): array for name, array in weights.items()}
    assert find(renamed) == ()
    with pytest.raises(ValueError, match=r"holds no recurrent layer\. It holds memory/linear/"):
        from_haiku(renamed)
    assert_same(from_haiku(renamed, prefix="memory")[1], expected)
    gru = {name.replace("gru", "memory"): a for name, a in golden("haiku GRU").weights.items()}
    assert [each.kind for each in find(gru)] == ["gru-reset-before"]


def test_two_directions():
    given = golden("haiku deep LSTM").weights
    second = {n.replace("lstm", "back"): a for n, a in golden("haiku LSTM").weights.items()}
    both, params = from_haiku(given | second, prefix=(("lstm", "back"),))
    assert_same(params.forward, from_haiku(given, prefix="lstm")[1])
    assert_same(params.backward, from_haiku(second, prefix="back")[1])
    out = to_haiku(both, params, prefix=(("lstm", "back"),))
    assert_leaves(
        out, {n: a for n, a in (given | second).items() if "lstm_1" not in n}, rtol=0, atol=4e-16
    )


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (
            rx.cells.gru(3, 4),
            "gru: its GRU resets before the recurrent product, another function of the same "
            "weights",
        ),
        (rx.cells.elman(3, 4), "elman: its VanillaRNN has a relu, not a tanh"),
        (rx.cells.lstm_projection(3, 4), "lstm-projection: its LSTM has no projection"),
    ],
)
def test_what_haiku_cannot_hold(cell, why):
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)))
    with says(ValueError, f"Haiku cannot hold a cell {why}"):
        to_haiku(cell, params)


def test_messages():
    weights = golden("haiku deep LSTM").weights
    with pytest.raises(ValueError, match=r"holds 2 recurrent layers; name one .*'lstm_1': lstm of"):
        from_haiku(weights)
    with pytest.raises(ValueError, match=r"^forget_bias says nothing of 'gru': gru-reset-before o"):
        from_haiku(golden("haiku GRU").weights, forget_bias=1.0)
    with says(TypeError, "forget_bias must be a number, got 'one'"):
        from_haiku(golden("haiku LSTM").weights, forget_bias="one")
    for shape in ((7, 15), (4, 16)):
        bad = golden("haiku LSTM").weights | {"lstm/linear/w": np.ones(shape)}
        with pytest.raises(ValueError, match=r"^lstm/linear/[wb] should have shape \["):
            from_haiku(bad)
