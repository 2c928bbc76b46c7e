"""What is measured of a layer is what the single questions say, and plain NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import make_case

import recurrax as rx
from recurrax.diagnosis.measure import Layer, felt_by_the_last_output, measure, of_jacobians


@pytest.fixture(scope="module")
def layer():
    return Layer("layer0", "lstm", *make_case("lstm", "float32"))


@pytest.fixture(scope="module")
def found(layer):
    return measure(layer)


def test_flow_is_what_the_questions_say(layer, found):
    decay = rx.flow.decay(*layer[2:])
    np.testing.assert_allclose(found.decay.log_norm, decay.log_norm, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.flow.rate, np.median(rx.flow.rate(decay)), rtol=1e-5)
    np.testing.assert_allclose(found.flow.horizon, np.median(rx.flow.horizon(decay).steps))
    assert found.verdict == rx.flow.verdict(decay)


def test_the_exponent_is_the_growth_after_a_tenth():
    """Of a map that turns and shrinks, exactly."""
    angle = 0.3
    turn = 0.9 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cell = rx.Cell(
        init=lambda key: jnp.asarray(turn, jnp.float32),
        initial_state=lambda w, batch_shape=(): jnp.ones((*batch_shape, 2)),
        step=lambda w, h, x: (h @ w + x, h @ w + x),
    )
    params = cell.init(None)
    xs = jnp.zeros((40, 2, 2))
    found = measure(Layer("", "own", cell, params, cell.initial_state(params, (2,)), xs))
    np.testing.assert_allclose(found.exponent, np.log(0.9), rtol=1e-4)
    np.testing.assert_allclose(found.flow.rate, np.log(0.9), rtol=1e-4)


def test_the_loss_is_one_on_the_last_output(layer):
    """Against the gradient by a state that is put in, step by step."""
    _, kind, cell, params, state, xs = layer
    felt = felt_by_the_last_output(layer)
    states = rx.unroll_states(cell, params, state, xs)
    for t in (0, len(xs) - 2):
        now = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        loss = lambda s, t=t: rx.unroll(cell, params, s, xs[t + 1 :])[1][-1].sum()  # noqa: E731
        grads = jax.grad(loss)(now)
        norms = np.sqrt(sum(np.sum(np.square(leaf), -1) for leaf in grads))
        np.testing.assert_allclose(felt[t], np.log(norms), rtol=1e-4, atol=1e-4)
    assert kind == "lstm"


def test_jacobians_are_those_of_flow(layer):
    every = np.asarray(rx.flow.jacobians(*layer[2:]))[:, 0]
    places = np.unique(np.linspace(0, len(every) - 1, 8).round().astype(int))
    radius, norm = of_jacobians(layer)
    wanted = np.median([np.abs(np.linalg.eigvals(every[t])).max() for t in places])
    np.testing.assert_allclose(radius, wanted, rtol=1e-4)
    np.testing.assert_allclose(norm, np.median(np.linalg.norm(every[places], 2, (1, 2))), rtol=1e-4)


def test_gates_and_what_drives_them(layer, found):
    """By a loop over the steps in NumPy."""
    params, state = (jax.tree.map(np.float64, tree) for tree in layer[3:5])
    h, c = state.h, state.c
    drives, values = [], []
    for x in np.asarray(layer.xs, np.float64):
        three = x @ params.w_in, params.b + 0 * (h @ params.w_rec), h @ params.w_rec
        drives.append([np.mean(np.square(np.split(z, 4, -1)), (1, 2)) for z in three])
        i, f, g, o = np.split(sum(three), 4, -1)
        i, f, o = (1 / (1 + np.exp(-z)) for z in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        values.append([i, f, np.tanh(g), o])
    seen, values = found.activity, np.array(values)
    parts = np.mean(drives, 0)
    for g, name in enumerate("ifgo"):
        np.testing.assert_allclose(seen.parts[name], parts[:, g], rtol=1e-4)
        gate, own = seen.gate(name), values[:, g]
        size = abs(own) if name == "g" else own
        np.testing.assert_allclose(gate.median, np.median(size), rtol=1e-4)
        np.testing.assert_allclose(gate.open, np.mean(own > 0.9), atol=1e-6)
        slopes = 1 - own**2 if name == "g" else 4 * own * (1 - own)
        np.testing.assert_allclose(seen.flat[name], np.mean(slopes < 0.1), atol=1e-6)
    np.testing.assert_allclose(sum(seen.shares), 1)
    assert seen.memory == "f"
    assert seen.harmful["f"] == 0
