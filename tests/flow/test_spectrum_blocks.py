"""Blocks of the state that never meet, and a spectrum that treats each of them alone."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import chosen

import recurrax as rx
from recurrax.flow.spectrum import follow
from recurrax.flow.steps.jacobian import linear_map

pytestmark = pytest.mark.usefixtures("x64")
WITHIN = {"float32": 1e-2, "float64": 1e-6}


def leak(_, c, log_gate):
    c = jnp.exp(log_gate) * c
    return c, c


def shut_in_turn(size, steps, order=None):
    """Log gates of which all but one are shut, unit i open for i + 1 times so many steps."""
    rows = [np.where(np.arange(size) == i, 0, -0.5) for i in range(size)]
    logs = np.repeat(rows, steps * (1 + np.arange(size)), axis=0)
    return logs[:, order] if order is not None else logs


def descending(logs):
    return -np.sort(-np.asarray(logs), -1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units_whose_gates_shut_in_turn(dtype):
    """The values are the products of the gates; float32 alone would be 100 nats off."""
    orders = ([0, 1, 2, 3, 4], [3, 0, 4, 1, 2])
    logs = np.stack([shut_in_turn(5, 60, order) for order in orders], 1)
    found = rx.flow.spectrum(
        leak, None, jnp.zeros((2, 5), dtype), jnp.asarray(logs, dtype), at=(300, len(logs))
    )
    for k, t in enumerate((300, len(logs))):
        expected = descending(logs[:t].sum(0))
        np.testing.assert_allclose(found.log_singular_values[k], expected, atol=WITHIN[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_that_change_places(dtype):
    """Scaled rotations of three planes whose coordinates are dealt out anew at every step."""
    logs = shut_in_turn(3, 80)

    @jax.vmap
    def found(ws):  # traced, so the blocks are found when it runs
        nothing = jnp.zeros(6, dtype)
        return rx.flow.spectrum(chosen, ws, nothing, jnp.arange(len(logs))).log_singular_values[0]

    ws = np.stack([dealt_out(logs, seed) for seed in (0, 1)])
    expected = descending(np.repeat(logs.sum(0), 2))
    for got in jax.jit(found)(jnp.asarray(ws, dtype)):
        np.testing.assert_allclose(got, expected, atol=WITHIN[dtype])


def dealt_out(logs, seed):
    draw = np.random.default_rng(seed)
    seats, ws = draw.permutation(6), []
    for angle, rates in zip(draw.uniform(1, 2, len(logs)), np.exp(logs), strict=True):
        before, seats = seats, draw.permutation(6)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        a = np.zeros((6, 6))
        for i, rate in enumerate(rates):
            pair = slice(2 * i, 2 * i + 2)
            a[np.ix_(seats[pair], before[pair])] = rate * turn
        ws.append(a.T)  # rows are vectors
    return np.stack(ws)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_of_units_whose_gates_shut_in_turn(dtype):
    """What is the largest at last was far below the range of the dtype beside another unit."""
    logs = shut_in_turn(3, 100) * {"float32": 1, "float64": 8}[dtype]
    case = (leak, None, jnp.zeros(3, dtype), jnp.asarray(logs, dtype))
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(logs, 0)])
    decay, found = rx.flow.decay(*case), rx.flow.gradient_map(*case, every=100)
    np.testing.assert_allclose(decay.log_norm, sums[1:].max(1), atol=1e-3)
    t, s = found.targets, found.sources
    expected = (sums[t][:, None] - sums[s][None]).max(2)
    for norm, most in ((found.log_norm, 0), (found.log_frobenius, 0.5 * np.log(3))):
        error = np.where(t[:, None] > s, norm - expected, 0)
        assert error.min() > -1e-3
        assert error.max() < most + 1e-3


def own_units(hidden, w_rec):
    """An LSTM whose units read the input for their forget gate, and themselves alone."""
    cell = rx.cells.lstm(hidden, hidden)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), cell.init(jax.random.key(0)))
    gates = params.w_in.reshape(hidden, 4, hidden).copy()
    gates[:, 1] = np.eye(hidden)
    recurrent = w_rec * np.tile(np.eye(hidden), 4)
    b = np.linspace(-1, 1, 4 * hidden)
    return cell, params._replace(w_in=gates.reshape(params.w_in.shape), w_rec=recurrent, b=b)


def forget(size, steps):
    """What makes a forget gate of zero bias be open at .95, and .6 where it is shut."""
    return np.where(shut_in_turn(size, steps) == 0, 3.0, 0.4)


def test_an_lstm_without_recurrent_weights():
    """What reaches h and c of a unit is the product of its forget gates; h_0 reaches nothing."""
    cell, params = own_units(4, 0.0)
    xs = forget(4, 60)
    found = rx.flow.spectrum(cell, params, None, jnp.asarray(xs)).log_singular_values[0]
    a = rx.flow.jacobians(cell, params, None, jnp.asarray(xs))[:, :, 4:]
    own = np.einsum("tii->ti", a[:, 4:])
    last = 0.5 * np.log1p((np.diagonal(a[-1, :4]) / own[-1]) ** 2)
    np.testing.assert_allclose(found[:4], descending(np.log(own).sum(0) + last), atol=1e-6)
    np.testing.assert_array_equal(found[4:], -np.inf)


def test_networks_side_by_side_are_each_itself():
    """Units that feed back to themselves only, against each unit as a network of its own."""
    xs = forget(3, 90)
    cell, params = own_units(3, 0.4)
    whole = rx.flow.spectrum(cell, params, None, jnp.asarray(xs)).log_singular_values[0]
    one = rx.cells.lstm(1, 1)

    def alone(i):
        gates = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], 4, 3), params[:3])
        w_in, w_rec, b = (leaf[..., i] for leaf in gates)
        own = params._replace(w_in=w_in[i : i + 1], w_rec=w_rec[i : i + 1], b=b)
        return rx.flow.spectrum(one, own, None, jnp.asarray(xs[:, i : i + 1]))

    parts = [alone(i).log_singular_values[0] for i in range(3)]
    np.testing.assert_allclose(whole, descending(np.concatenate(parts)), atol=1e-6)


def test_blocks_that_meet_later():
    """Until then they are apart, even if a later time is asked for with it."""
    logs, draw = shut_in_turn(4, 50), np.random.default_rng(0)
    ws = np.stack([*map(np.diag, np.exp(logs)), draw.standard_normal((4, 4))])
    case = (chosen, jnp.asarray(ws), jnp.zeros(4), jnp.arange(len(ws)))
    found = rx.flow.spectrum(*case, at=(200, len(logs), len(ws))).log_singular_values
    np.testing.assert_allclose(found[0], descending(logs[:200].sum(0)), atol=1e-6)
    np.testing.assert_allclose(found[1], descending(logs.sum(0)), atol=1e-6)
    volume = logs.sum() + np.linalg.slogdet(ws[-1])[1]
    np.testing.assert_allclose(found[2].sum(), volume, atol=1e-6)


def together(blocks):
    """The sets of tracks of one number."""
    return {frozenset(np.flatnonzero(blocks == block).tolist()) for block in blocks}


def followed(*matrices):
    size = len(matrices[0])
    ws = jnp.asarray(np.swapaxes(matrices, 1, 2), float)
    maps = partial(linear_map, chosen, ws)
    befores = jnp.zeros((len(ws), size))
    tracks, blocks = jax.jit(lambda: follow(maps, (befores, jnp.arange(len(ws))), size))()
    return np.asarray(tracks), [together(row) for row in np.asarray(blocks)]


def test_tracks_of_a_cycle():
    cycle = np.roll(np.eye(4), 1, axis=0)
    tracks, blocks = followed(cycle, cycle)
    assert tracks.tolist() == [[0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1]]
    assert blocks[2] == {frozenset([i]) for i in range(4)}


def test_blocks_grow_and_never_part():
    pair = np.eye(4)
    pair[3, 0] = 1
    chain = np.eye(4) + np.eye(4, k=1)
    _, blocks = followed(pair, np.eye(4), chain)
    assert blocks[0] == {frozenset([i]) for i in range(4)}
    assert blocks[1] == blocks[2] == {frozenset([0, 3]), frozenset([1]), frozenset([2])}
    assert blocks[3] == {frozenset(range(4))}


def test_a_singular_step_keeps_blocks_square():
    """Unit 1 is erased; 2 and 3 both come from 3, so 2 stays with them; then nothing is left."""
    step = np.diag([1.0, 0, 0, 1])
    step[2, 3] = 1
    tracks, blocks = followed(step, np.zeros((4, 4)), step)
    apart = {frozenset([0]), frozenset([1]), frozenset([2, 3])}
    assert blocks[1] == blocks[2] == blocks[3] == apart
    for row in tracks:
        assert sorted(row) == [0, 1, 2, 3]
