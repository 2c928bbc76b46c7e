"""What can be diagnosed, on what, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.diagnosis import records
from recurrax.diagnosis.remedies import CURES

KEY = jax.random.key(0)
LSTM = rx.cells.lstm(3, 6)
PARAMS = LSTM.init(KEY)
XS = jax.random.normal(KEY, (20, 4, 3))


def own_step(params, h, x):
    h = jnp.tanh(x @ params["a"] + h @ params["w"])
    return h, h


OWN = rx.Cell(
    init=lambda key: {"a": jnp.ones((3, 6)) / 3, "w": 0.1 * jnp.eye(6)},
    initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 6)),
    step=own_step,
)


def test_one_example_is_a_batch_of_one():
    alone = rx.diagnose(LSTM, PARAMS, XS[:, 0])
    assert alone.layers[0].decay.log_norm.shape == (20, 1)
    decay = rx.flow.decay(LSTM, PARAMS, None, XS[:, 0])
    np.testing.assert_allclose(alone.layers[0].decay.log_norm[:, 0], decay.log_norm, atol=1e-4)
    assert alone.data == "the data given [20, 1, 3]; measured on 1 sequence of 20 steps"


def test_integers_are_numbers_and_noise_is_drawn_from_the_key():
    counted = rx.diagnose(LSTM, PARAMS, np.ones((20, 4, 3), int)).layers[0]
    real = rx.diagnose(LSTM, PARAMS, np.ones((20, 4, 3), np.float32)).layers[0]
    assert counted.rate == real.rate
    rates = [
        rx.diagnose(LSTM, PARAMS, length=20, key=jax.random.key(seed)).layers[0].rate
        for seed in (1, 1, 2)
    ]
    assert rates[0] == rates[1] != rates[2]


def test_a_cell_of_ones_own():
    layer = rx.diagnose(OWN, OWN.init(KEY), XS).layers[0]
    assert (layer.kind, layer.input_size, layer.hidden_size) == ("own", 3, 6)
    assert layer.cause == records.GAIN_SMALL
    assert layer.findings[0].cure == "begin with larger recurrent weights"
    assert np.isnan(layer.input_share)
    assert layer.spectral_radius == {}
    loud = rx.diagnose(OWN, OWN.init(KEY), 100 * XS).layers[0]
    assert loud.cause == records.LARGE_INPUTS
    assert loud.findings[0].after.saturated < 0.5 < loud.findings[0].before.saturated


def test_plain_cells_of_the_library_tell_their_gates():
    for cell, gate in (
        (rx.cells.gru_reset_before(3, 6), "z"),
        (rx.cells.lstm_projection(3, 6, 4), "f"),
    ):
        params = cell.init(KEY)
        shut = params._replace(b=params.b.at[6:12].set(-4.0))
        layer = rx.diagnose(cell, shut, XS).layers[0]
        cause = records.FORGET_SHUT if gate == "f" else records.UPDATE_OPEN
        assert layer.cause == cause
        assert {g.name: g.median for g in layer.gates}[gate] < 0.1
        assert set(layer.spectral_radius) == set(layer.largest_singular_value)
        assert layer.findings[0].after.horizon > 3 * layer.findings[0].before.horizon


def test_a_state_that_overflows_is_measured_up_to_there():
    cell = rx.cells.elman(3, 6, activation="relu")
    params = cell.init(KEY)
    params = params._replace(w_rec=1e3 * params.w_rec)
    layer = rx.diagnose(cell, params, XS).layers[0]
    _, ys = rx.unroll(cell, params, None, XS)
    first = int(np.argmin(np.isfinite(ys).all((1, 2))))
    assert layer.verdict == "overflows"
    assert layer.cause == records.GAIN_LARGE
    assert f"the state overflows at step {first + 1}, and before" in str(layer.findings[0])
    assert len(layer.decay.log_norm) == first
    large = params._replace(w_in=jnp.full_like(params.w_in, 3e38))
    with pytest.raises(ValueError, match=r"\Athe state of layer0 overflows at the first step"):
        rx.diagnose(cell, large, XS)


def test_a_cause_without_a_cure_that_helps(monkeypatch):
    """It says so, and comes after one that a cure bears out."""
    params = PARAMS._replace(b=jnp.full_like(PARAMS.b, -6.0))
    causes = [f.cause for f in rx.diagnose(LSTM, params, XS).layers[0].findings]
    assert causes == [records.BIAS_PINS, records.FORGET_SHUT]
    monkeypatch.setitem(CURES, records.BIAS_PINS, lambda layer, found: iter(()))
    findings = rx.diagnose(LSTM, params, XS).layers[0].findings
    assert [finding.cause for finding in findings] == causes[::-1]
    assert str(findings[1]).endswith("; no usual cure helped when it was tried on a copy.")


def test_one_step_is_no_explosion():
    layer = rx.diagnose(LSTM, PARAMS, XS[:1]).layers[0]
    assert layer.rate > 0
    assert layer.healthy


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((LSTM, PARAMS, XS[..., :2]), {}, ValueError, "xs has 2 features, but layer0 of lstm(3, 6"),
        ((LSTM, PARAMS, XS[:0]), {}, ValueError, "xs has no time steps (T = 0)"),
        ((LSTM, PARAMS, XS[None]), {}, ValueError, "xs must be [T, B, I], or [T, I] of one"),
        ((LSTM, PARAMS, [1.0, 2.0]), {}, TypeError, "xs must be an array [T, ...], got a list"),
        ((LSTM, PARAMS, {"x": XS}), {}, TypeError, "xs must be one array [T, B, I] or [T, I], got"),
        ((LSTM, PARAMS, XS.at[1, 2, 0].set(jnp.nan)), {}, ValueError, "xs is not finite: nan at"),
        ((LSTM, PARAMS._replace(b=PARAMS.b * jnp.inf), XS), {}, ValueError, "params.b is not fin"),
        ((LSTM, None, XS), {}, TypeError, "params are missing: rx.diagnose(cell, params, xs)"),
        ((own_step, OWN.init(KEY), XS), {}, TypeError, "rx.diagnose takes a rx.Cell, got function"),
        ((OWN, OWN.init(KEY)), {}, ValueError, "xs is needed: a cell of your own does not tell"),
        ((LSTM, PARAMS), {"mask": XS[..., 0] > 0}, ValueError, "mask belongs to data: give xs"),
        ((LSTM, PARAMS, XS), {"prefix": "rnn"}, TypeError, "prefix is for weights that are conv"),
        ((LSTM, PARAMS, XS), {"activation": "relu"}, TypeError, "activation is for weights that"),
        ((LSTM, PARAMS), {"length": 0}, ValueError, "length must be a positive integer"),
        ((LSTM, PARAMS), {"key": 3}, TypeError, "key must be a JAX random key"),
        (({"w": np.ones(3)}, PARAMS), {}, TypeError, "params are for a cell; weights hold their"),
        (({"w": np.ones(3)},), {}, ValueError, "holds no recurrent layer"),
    ],
)
def test_what_is_refused(arguments, options, error, message):
    with pytest.raises(error) as told:
        rx.diagnose(*arguments, **options)
    assert message in str(told.value)


def test_several_layers_of_a_source_are_fed_one_by_the_other_or_noise():
    """Two layers that chain, and one that takes as many features as neither gives."""
    cells = {"a": LSTM, "b": rx.cells.lstm(6, 5), "c": rx.cells.lstm(2, 6)}
    weights = {}
    for name, cell in cells.items():
        weights |= rx.interop.to_torch(cell, cell.init(KEY), prefix=name)
    found = rx.diagnose(weights, xs=XS)
    assert [layer.name for layer in found.layers] == ["a/layer0", "b/layer0", "c/layer0"]
    assert [layer.input_size for layer in found.layers] == [3, 6, 2]
    assert found.data.startswith(
        "the data given [20, 4, 3] to a; the outputs of a [20, 4, 6] to b; unit normal noise "
        "[20, 4, 2] to c; measured on"
    )
    picked = rx.diagnose(weights, xs=XS, prefix="a").layers
    assert [layer.name for layer in picked] == ["layer0"]
    with pytest.raises(ValueError, match=r"\Axs has 4 features, but a/layer0 of lstm\(3, 6"):
        rx.diagnose(weights, xs=jnp.ones((20, 4, 4)))
    state = LSTM.initial_state(PARAMS, (4,))
    with pytest.raises(ValueError, match="state is that of one model, and there are 'a', 'b', 'c'"):
        rx.diagnose(weights, xs=XS, state=state)


def test_an_option_is_for_the_layers_that_it_is_about():
    lstm, rnn = rx.cells.lstm(2, 4), rx.cells.elman(2, 4)
    weights = {
        **rx.interop.to_torch(lstm, lstm.init(jax.random.key(0)), prefix="first"),
        **rx.interop.to_torch(rnn, rnn.init(jax.random.key(1)), prefix="second"),
    }
    found = rx.diagnose(weights, length=8, activation="tanh")
    assert [layer.kind for layer in found.layers] == ["lstm", "elman"]
    weights = {name: array for name, array in weights.items() if name.startswith("first")}
    with pytest.raises(ValueError, match="activation says nothing of 'first'"):
        rx.diagnose(weights, length=8, activation="tanh")
