"""How long chunks must be, against the lag profile of the same steps and what is known of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import recurrax as rx
from recurrax.train.loop import Carry, Program
from recurrax.train.networks.objective import Objective
from recurrax.train.truncation import chunk_length as module


def linear(weight, name="w_rec"):
    """`h <- weight h + x`, whose errors fade as weight^k."""

    def step(params, h, x):
        h = params[name] * h + x
        return h, h

    def init(key):
        return {name: jnp.full(1, weight)}

    def start(params, batch_shape=()):
        return jnp.zeros((*batch_shape, 1))

    return rx.train.network(rx.Cell(init, start, step), 1, 1)


def everywhere(outputs, batch):
    return (outputs[..., 0] * batch.weights).mean()


def the_data(key, step, index, data):
    return data


def chosen(net, params, batch, state=None):
    """With a program that draws the one batch there is."""
    program = Program(Objective(net, everywhere), the_data, None)
    carry = Carry(params, None, jax.random.key(0), jnp.int32(0), state=state)
    return module.chunk_length(program, carry, batch)


def at(steps, T=100, B=2):
    return jnp.zeros((T, B)).at[steps].set(1.0)


@pytest.mark.parametrize(
    ("weight", "weights", "expected"),
    [
        # Of ones, h is about 2, and the part of lag k is 2 * 0.5^k: 0.5^(K+1) <= 0.05 for K = 4.
        (0.5, at(slice(None)), 32),
        (0.5, at(-1), 32),
        (0.5, at(40), 32),  # nothing comes after it
        (1.0, at(-1), 100),  # never fades
        (0.97, at(-1), 100),  # not within half of the steps
        (0.5, at(slice(0)), 100),  # the loss looks at nothing
        (jnp.nan, at(-1), 100),
        (0.5, at(-1, T=20), 20),
    ],
)
def test_four_times_as_long_as_errors_must_travel(weight, weights, expected):
    net, shape = linear(weight), weights.shape
    params = net.init(jax.random.key(0))._replace(w_out=jnp.ones((1, 1)))
    batch = rx.tasks.Batch(jnp.ones((*shape, 1)), jnp.zeros((*shape, 1)), weights)
    assert chosen(net, params, batch) == expected


def test_a_cell_without_w_rec_and_with_a_clip():
    net, weights = linear(0.5, "own"), at(-1)
    clipped = rx.train.network(rx.cures.clip_state_gradient(net.cell, max_norm=0.1), 1, 1)
    params = clipped.init(jax.random.key(0))
    batch = rx.tasks.Batch(jnp.ones((100, 2, 1)), jnp.zeros((100, 2, 1)), weights)
    assert chosen(clipped, params, batch) == 32


@pytest.mark.parametrize("masked", [False, True])
def test_a_window_of_the_first_rows_of_a_long_sequence(masked, monkeypatch, key):
    monkeypatch.setattr(module, "WINDOW", 24)
    monkeypatch.setattr(module, "ROWS", 3)
    net = rx.train.network(rx.cells.gru(2, 4), 1)
    params = net.init(key)
    draws = jax.random.split(key, 4)
    xs = jax.random.normal(draws[0], (70, 5, 2))
    weights = jax.random.normal(draws[1], (70, 5)).at[50:].set(0)  # the loss looks at no later step
    mask = jax.random.bernoulli(draws[2], 0.8, (70, 5)) if masked else None
    state = jax.tree.map(lambda a: a + 0.5, net.start(params, (5,)))
    goes_on = jnp.zeros(5, bool).at[1].set(True)
    batch = rx.tasks.Batch(xs, jnp.zeros((70, 5, 1)), weights, mask, goes_on)
    found = chosen(net, params, batch, state)

    few = jax.tree.map(lambda a: a[:3].at[1].set(0), state)
    window, of_window = slice(26, 50), None if mask is None else mask[26:50, :3]
    before = None if mask is None else mask[:26, :3]
    few = rx.unroll(net.cell, params.cell, few, xs[:26, :3], mask=before)[0]

    def loss(ys):
        return (net.readout(params, ys)[..., 0] * weights[window, :3]).sum()

    part = xs[window, :3]
    profile = rx.flow.lag_profile(net.cell, params.cell, few, part, loss, mask=of_window)
    needed = int(rx.flow.truncation(profile))
    assert 0 < needed < 12
    assert 4 * (needed + 1) <= found < 8 * (needed + 1)
