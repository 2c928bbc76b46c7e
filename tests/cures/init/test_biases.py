"""Biases of the gates, in the cells that take them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says

import recurrax as rx
from recurrax.cures import init

H = 32


def lstm_biases(row, **options):
    """b_i, b_f, b_g, b_o of an LSTM."""
    cell = rx.cells.lstm(1, H, bias_init=row, **options)
    return cell.init(jax.random.key(0)).b.reshape(4, H)


def test_forget_bias_is_the_lstms_own():
    row = init.forget_bias(3.0)
    mine = rx.cells.lstm(1, H, bias_init=row)
    own = rx.cells.lstm(1, H, forget_bias=3.0)
    assert_same(mine.init(jax.random.key(0)), own.init(jax.random.key(0)))


# --- chrono -------------------------------------------------------------------------------------


def test_chrono_spreads_the_times_evenly_and_ties_the_input_gate():
    i, f, g, o = lstm_biases(init.chrono(100))
    times = np.exp(np.asarray(f, np.float64))
    np.testing.assert_allclose(np.diff(times), 98 / H, rtol=1e-3)  # U[1, 99], evenly
    np.testing.assert_allclose([times[0], times[-1]], [1 + 49 / H, 99 - 49 / H], rtol=1e-5)
    assert_same(i, -f)  # so that i = 1 - f
    assert not g.any()
    assert not o.any()


def test_a_chrono_unit_remembers_for_its_time():
    """Of a constant gate: after u + 1 steps a memory has come down to 1 / e, for u large."""
    _, f, _, _ = lstm_biases(init.chrono(1000))
    memory = jax.nn.sigmoid(f.astype(jnp.float32))
    steps = -1 / np.log(np.asarray(memory, np.float64))
    np.testing.assert_allclose(steps[1:], 0.5 + np.exp(f[1:]), rtol=2e-3)


def test_the_lstms_forget_bias_comes_on_top_if_asked():
    plain = lstm_biases(init.chrono(100))
    assert_close(plain[1], -plain[0])
    assert_close(lstm_biases(init.chrono(100), forget_bias=1.0), plain.at[1].add(1.0))


def test_chrono_for_a_gru_is_its_update_gate():
    row = init.chrono(50, gates=3, input_gate=None)
    r, z, n = rx.cells.gru(1, H, bias_init=row).init(jax.random.key(0)).b.reshape(3, H)
    assert not r.any()
    assert not n.any()
    assert_same(z, lstm_biases(init.chrono(50))[1])


def test_chrono_of_the_shortest_time_is_zero():
    assert not lstm_biases(init.chrono(2)).any()


def test_chrono_makes_the_gradient_of_the_memory_last(key):
    """d c_T / d c_0 along the forget gates alone: about (1 - 1/u)^T."""
    decays = {}
    for name, row in (("zeros", jax.nn.initializers.zeros), ("chrono", init.chrono(200))):
        cell = rx.cells.lstm(1, 8, bias_init=row, forget_bias=0.0)
        params = cell.init(key)
        decay = rx.flow.decay(cell, params, None, jnp.zeros((100, 1)), of="c", wrt="c")
        decays[name] = float(decay.log_norm[-1])
    assert decays["zeros"] < -20
    assert decays["chrono"] > -1.5


# --- uniform gates ------------------------------------------------------------------------------


def test_uniform_gates_are_uniform():
    i, f, g, o = lstm_biases(init.uniform_gate())
    values = jax.nn.sigmoid(f)
    low, width = 1 / H, (1 - 2 / H)
    np.testing.assert_allclose(values, low + width * (np.arange(H) + 0.5) / H, rtol=1e-5)
    assert not jnp.stack([i, g, o]).any()


def test_the_refine_gate_is_its_opposite():
    row = init.uniform_gate(refine_gate=3)
    _, f, _, r = lstm_biases(row)
    assert_same(r, -f)


def test_one_and_two_units_have_open_halves(key):
    for hidden in (1, 2):
        b = rx.cells.gru(1, hidden, bias_init=init.uniform_gate(gates=3)).init(key).b
        np.testing.assert_allclose(b, 0, atol=1e-7)


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: init.forget_bias(np.nan), ValueError, "value must be finite, got nan"),
        (lambda: init.chrono(1.5), ValueError, "t_max must be at least 2 steps, got 1.5"),
        (lambda: init.chrono("9"), TypeError, "t_max must be a number, got '9'"),
        (
            lambda: init.chrono(9, gates=2.5),
            TypeError,
            "gates must be a positive integer, got 2.5",
        ),
        (
            lambda: init.chrono(9, forget_gate=4),
            ValueError,
            "forget_gate must be from 0 to gates - 1 = 3, got 4",
        ),
        (
            lambda: init.uniform_gate(forget_gate="f"),
            TypeError,
            "forget_gate must be the place of a gate, 0 to 3, got 'f'",
        ),
        (
            lambda: init.chrono(9, forget_gate=0),
            ValueError,
            "forget_gate and input_gate must be two different gates, got 0 for both",
        ),
        (
            lambda: init.uniform_gate(refine_gate=1),
            ValueError,
            "forget_gate and refine_gate must be two different gates, got 1 for both",
        ),
    ],
)
def test_bad_arguments(make, kind, text):
    with says(kind, text):
        make()


def test_a_row_for_another_cell():
    with pytest.raises(ValueError, match=r"\Abias_init must be one initialiser .* of the 3 gates"):
        rx.cells.gru(1, H, bias_init=init.chrono(100))


def test_a_bias_for_weights(key):
    cell = rx.cells.lstm(1, H, recurrent_init=init.chrono(100))
    with says(
        ValueError,
        "chrono makes the biases [H] of one gate, got shape (32, 32). Give it as bias_init of a "
        "cell.",
    ):
        cell.init(key)
