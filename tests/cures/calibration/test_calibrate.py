"""Any cell is brought to a rate: against brute force, on fresh data, or said to be impossible."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_same, says
from jax.flatten_util import ravel_pytree
from unlike_cells import UNLIKE, leaky, more_weight, own, plain_params, plain_step

import recurrax as rx

T, B, I, N = 40, 6, 4, 8


def data(key, dtype=jnp.float32, length=T, batch=B):
    return (0.5 * jax.random.normal(jax.random.key(key), (length, batch, I))).astype(dtype)


def given(name, size=N):
    """A cell of the table, params, and the state that a bare step needs."""
    cell = UNLIKE[name].make(I, size)
    if name == "plain step":
        return cell, plain_params(I, size), jnp.zeros((B, size))
    return cell, cell.init(jax.random.key(0)), None


@functools.partial(jax.jit, static_argnums=0)
def whole_jacobians(step, params, state, xs):
    """`[B, T, S, S]`."""

    def one(state, xs):
        vector, unravel = ravel_pytree(state)

        def advance(vector, x):
            return ravel_pytree(step(params, unravel(vector), x)[0])[0]

        def body(vector, x):
            return advance(vector, x), jax.jacfwd(advance)(vector, x)

        return jax.lax.scan(body, vector, xs)[1]

    return jax.vmap(one, (0, 1))(state, xs)


def by_hand(cell, params, state, xs):
    """The mean rate from whole Jacobians, multiplied in float64."""
    state = cell.initial_state(params, xs.shape[1:2]) if state is None else state
    matrices = np.asarray(whole_jacobians(getattr(cell, "step", cell), params, state, xs), float)
    product, scale, logs = np.eye(matrices.shape[-1]), 0.0, []
    for matrix in np.moveaxis(matrices, 1, 0):
        product = matrix @ product
        norm = np.linalg.norm(product, 2, axis=(-2, -1))
        product, scale = product / norm[:, None, None], scale + np.log(norm)
        logs.append(scale)
    half = len(logs) // 2
    return np.mean((logs[-1] - logs[half - 1]) / (len(logs) - half))


def measured(cell, params, state, xs, **options):
    return np.asarray(rx.flow.rate(rx.flow.decay(cell, params, state, xs, **options)))


WHOLE = [name for name in UNLIKE if name not in ("stack", "half", "leak alone")]


@pytest.mark.parametrize("name", WHOLE)
def test_unlike_cells(name):
    """By brute force the rate is the wanted one, and was on one side up to there."""
    cell, params, state = given(name, 16)
    options, xs = UNLIKE[name].options, data(1, length=80)
    found = rx.cures.calibrate(cell, params, xs, state=state, **options)
    target = np.log(0.05) / 40 if "horizon" in options else 0.0
    assert abs(found.after - target) < max(1e-3, found.error)
    assert by_hand(cell, found.params, state, xs) == pytest.approx(found.after, abs=2e-4)
    assert by_hand(cell, params, state, xs) == pytest.approx(found.before, abs=2e-4)

    def change(number):
        if name == "plain step":
            return more_weight(params, number)
        if name == "unit":
            return params._replace(unit={"tau": number * params.unit["tau"]})
        return params._replace(w_rec=number * params.w_rec)

    assert_same(found.params, jax.tree.map(jnp.asarray, change(jnp.float32(found.adjusted))))
    for number in found.adjusted ** np.array([0.2, 0.4, 0.6]):
        rate = by_hand(cell, change(jnp.float32(number)), state, xs)
        assert (rate > target) == (found.before > target)


def test_fresh_data():
    """As near as the error says, which longer or more sequences make small."""
    cell, params, _ = given("unit")

    def waves(key):
        """Of the same kind: each begins somewhere in the period."""
        start, noise = jax.random.split(jax.random.key(key))
        times = jnp.arange(100)[:, None] + jax.random.randint(start, (16,), 0, 50)
        wave = jnp.sin(2 * jnp.pi * times[..., None] / jnp.array([5, 10, 25, 50]))
        return wave + 0.1 * jax.random.normal(noise, wave.shape)

    found = rx.cures.calibrate(cell, params, waves(1), adjust="tau", horizon=40)
    fresh = measured(cell, found.params, None, waves(2))
    assert found.error < 5e-4
    assert abs(np.mean(fresh) - np.log(0.05) / 40) < 1e-3
    assert np.std(fresh) / 4 == pytest.approx(found.error, rel=0.5)


def test_half_precision_stays():
    cell, params, _ = given("half")
    xs = data(1, jnp.bfloat16)
    found = rx.cures.calibrate(cell, params, xs)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {jnp.dtype(jnp.bfloat16)}
    rate = np.mean(measured(cell, found.params, None, xs))
    assert rate == pytest.approx(found.after, abs=0.02)  # roundings differ with what is fused
    assert abs(found.after) < max(1e-3, found.error) < 0.05


def test_what_cannot_be_reached():
    """Half of the state is left after every step, whatever w_rec is."""
    cell, params, _ = given("leak alone")
    words = (
        r"no factor of params\.w_rec from 0\.015625 to 64 gives a rate of 0 a step "
        r"\(a horizon of no end\): the nearest "
    )
    with pytest.raises(ValueError, match=rf"{words}is -0\.6931, at [0-9.]+\. Give other numbers"):
        rx.cures.calibrate(cell, params, data(1))
    held = rx.cures.calibrate(cell, params, data(1), rate=float(np.log(0.5)))
    assert held.after == pytest.approx(np.log(0.5))


def test_memory_that_begins_with_a_jump():
    """Below 1 nothing of the state is kept, so that the rate is minus infinity there."""

    def step(params, h, x):
        h = h * jnp.where(params > 1, 1.5, 0.0) + x
        return h, h

    words = r"it jumps from -inf to 0\.4055 at 1, where longer or more"
    with pytest.raises(ValueError, match=words):
        rx.cures.calibrate(
            step, jnp.float32(1), data(1, length=8), state=jnp.zeros((B, I)), adjust=jnp.multiply
        )


# --- layers, directions, seeds, masks -------------------------------------------------------------


def test_a_stack_layer_by_layer():
    """As if each were calibrated by hand on the outputs of the one below, nested or both ways."""
    below, within, above = rx.cells.elman(I, N), rx.cells.elman(N, N), rx.cells.elman(2 * N, N)
    both = rx.bidirectional(rx.cells.elman(N, N))
    deep = rx.stack(rx.stack(below, within), both, above)
    params, xs = deep.init(jax.random.key(0)), data(1)
    found = rx.cures.calibrate(deep, params, xs)
    names = ["layer0/layer0", "layer0/layer1", "layer1/forward", "layer1/backward", "layer2"]
    assert list(found.adjusted) == list(found.after) == list(found.others) == names
    assert max(map(abs, found.after.values())) < 1e-3
    first = rx.cures.calibrate(below, params[0][0], xs)
    assert found.adjusted["layer0/layer0"] == first.adjusted
    ys = rx.unroll(below, first.params, None, xs)[1]
    second = rx.cures.calibrate(within, params[0][1], ys)
    assert found.adjusted["layer0/layer1"] == second.adjusted
    assert_same(found.params[0], (first.params, second.params))
    ys = rx.unroll(within, second.params, None, ys)[1]
    backward = rx.cures.calibrate(both.backward, params[1].backward, ys[::-1])
    assert found.adjusted["layer1/backward"] == backward.adjusted
    assert_same(found.params[1].backward, backward.params)
    assert type(found.params[1]) is type(params[1])


def test_params_of_several_seeds():
    cell, xs = own(leaky, I, N), data(1)
    params = jax.vmap(cell.init)(jax.random.split(jax.random.key(0), 3))
    found = rx.cures.calibrate(cell, params, xs)
    assert found.adjusted.shape == found.before.shape == found.after.shape == (3,)
    for k in range(3):
        one = rx.cures.calibrate(cell, jax.tree.map(lambda leaf, k=k: leaf[k], params), xs)
        assert (one.adjusted, one.after) == (found.adjusted[k], found.after[k])
        assert_same(jax.tree.map(lambda leaf, k=k: leaf[k], found.params), one.params)


def test_a_mask_leaves_steps_out():
    """Padding of any content, even none that is finite, is as if it were not there."""
    cell, params, xs = own(leaky, I, N), own(leaky, I, N).init(jax.random.key(0)), data(1)
    short = rx.cures.calibrate(cell, params, xs)
    padded = jnp.concatenate([xs, jnp.full((5, B, I), jnp.nan)])
    mask = rx.length_mask(jnp.full(B, T), T + 5)
    found = rx.cures.calibrate(cell, params, padded, mask=mask)
    assert found.after == pytest.approx(short.after, abs=1e-4)
    assert found.adjusted == pytest.approx(short.adjusted, rel=1e-2)


def test_one_sequence_and_a_bias_by_its_gate():
    """Open gates of an LSTM keep a gradient, at a horizon that is asked for."""
    cell = rx.cells.lstm(I, N)
    params, xs = cell.init(jax.random.key(0)), data(1)[:, 0]
    found = rx.cures.calibrate(cell, params, xs, adjust="f", horizon=30)
    assert found.after == pytest.approx(np.log(0.05) / 30, abs=1e-4)
    assert np.isnan(found.error)
    np.testing.assert_allclose(found.params.b[N : 2 * N], 1 + found.adjusted, rtol=1e-6)
    again = rx.cures.calibrate(cell, params, xs, adjust="f", horizon=30)
    assert (again.adjusted, again.after) == (found.adjusted, found.after)


def test_it_prints_in_one_line():
    found = rx.cures.Calibrated({}, {"layer0": 1.5}, np.zeros(2), -0.25, float("nan"), (2.0,))
    text = "adjusted={'layer0': 1.5}, before=float64[2], after=-0.25, error=nan, others=(2,)"
    assert repr(found) == f"Calibrated({text})"


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"horizon": 0},
            ValueError,
            "horizon must be above 0 and at most T = 40 steps, over which the rate is measured; "
            "got 0. Give longer xs for a longer one, or rate=0 for one without end.",
        ),
        (
            {"horizon": 41},
            ValueError,
            "horizon must be above 0 and at most T = 40 steps, over which the rate is measured; "
            "got 41. Give longer xs for a longer one, or rate=0 for one without end.",
        ),
        (
            {"horizon": 10, "rate": -0.1},
            ValueError,
            "horizon=10 and rate=-0.1 are two ways to say the same: give one of them",
        ),
        ({"rate": "0"}, TypeError, "rate must be a number, got '0'"),
        ({"horizon": "long"}, TypeError, "horizon must be a number, got 'long'"),
        (
            {"mask": [True] * T, "horizon": 10},
            TypeError,
            "mask must be a bool array [T, B], got list. Lengths become a mask with "
            "rx.length_mask(lengths, T); numbers with mask.astype(bool).",
        ),
        (
            {"mask": np.ones((T, B), bool) & (np.arange(B) > 0)},
            ValueError,
            "mask is False throughout for one of the sequences: without time there is no rate. "
            "Leave such rows out.",
        ),
    ],
)
def test_bad_arguments(options, kind, text):
    cell = rx.cells.elman(I, N)
    with says(kind, text):
        rx.cures.calibrate(cell, cell.init(jax.random.key(0)), data(1), **options)


def test_bad_data():
    cell = rx.cells.elman(I, N)
    params = cell.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"expected .* with I = 4 features on the last axis"):
        rx.cures.calibrate(cell, params, data(1)[..., :3])
    with pytest.raises(ValueError, match=r"xs is not finite: nan at index \(3, 0, 0\)"):
        rx.cures.calibrate(cell, params, data(1).at[3, 0, 0].set(jnp.nan))
    with says(TypeError, "calibrate searches by the values it measures: call it outside jax.jit"):
        jax.jit(lambda params: rx.cures.calibrate(cell, params, data(1)).params)(params)
    with says(TypeError, "calibrate searches by the values it measures: call it outside jax.jit"):
        jax.jit(lambda mask: rx.cures.calibrate(cell, params, data(1), mask=mask).adjusted)(True)


def test_a_mistake_says_where():
    """In which layer, and of which seed."""
    deep = rx.stack(rx.cells.elman(I, N), rx.cells.gru(N, N))
    params = jax.vmap(deep.init)(jax.random.split(jax.random.key(0), 2))
    with pytest.raises(ValueError, match="there is no gate or leaf of the params 'z'") as caught:
        rx.cures.calibrate(deep, params, data(1), adjust="z")
    notes = [f"This is about layer0 of {deep}.", "This is about the params of seed 0."]
    assert caught.value.__notes__ == notes


def test_a_bare_step_needs_its_state():
    with pytest.raises(TypeError, match="state=None stands for the initial state of a rx"):
        rx.cures.calibrate(plain_step, plain_params(I, N), data(1), adjust=more_weight)
