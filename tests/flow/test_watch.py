"""A record inside the training step is what the single questions say of the same weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import linear
from close import says
from contract import make_case
from ragged import MASK, ragged

import recurrax as rx


def test_says_what_the_single_questions_say():
    cell, params, state, xs = make_case("lstm", "float32")
    found = rx.flow.watch(cell, params, state, xs, step=0, probes=2, examples=2)
    few = (cell, params, jax.tree.map(lambda leaf: leaf[:2], state), xs[:, :2])
    decay = rx.flow.decay(*few, probes=2)
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(found.log_norm, np.median(decay.log_norm[-1]), **close)
    np.testing.assert_allclose(found.log_frobenius, np.median(decay.log_frobenius[-1]), **close)
    np.testing.assert_allclose(found.rate, np.median(rx.flow.rate(decay)), **close)
    np.testing.assert_allclose(found.horizon, np.median(rx.flow.horizon(decay).steps), **close)
    sigma = rx.flow.bounds(cell, params).largest_singular_value.max()
    np.testing.assert_allclose(found.largest_singular_value, sigma, rtol=1e-5)
    gates = rx.flow.paths(*few).gates
    for g, name in enumerate(gates.names):
        np.testing.assert_allclose(found.gates[name], np.mean(gates.mean[..., g]), **close)
        ends = np.mean(gates.low[..., g] + gates.high[..., g])
        np.testing.assert_allclose(found.saturated[name], ends, **close)


def test_every_so_many_steps_of_a_scan():
    cell, params, state, xs = make_case("elman_tanh", "float32")
    args = (state, xs)

    def measure(params, step, last, every=3):
        return rx.flow.watch(cell, params, *args, step=step, last=last, every=every)

    @jax.jit
    def train(params):
        def update(carry, step):
            params, record = carry
            params = params._replace(w_rec=0.9 * params.w_rec)
            record = measure(params, step, record)
            return (params, record), (record, measure(params, step, None))

        first = measure(params, 0, None)
        return jax.lax.scan(update, (params, first), jnp.arange(1, 8))[1]

    kept, blank = train(params)
    assert kept.step.tolist() == [0, 0, 3, 3, 3, 6, 6]
    assert blank.step.tolist() == [-1, -1, 3, -1, -1, 6, -1]
    assert np.isnan(blank.log_norm).tolist() == [True, True, False, True, True, False, True]
    sigma = np.asarray(kept.largest_singular_value)
    np.testing.assert_allclose(sigma[2] / sigma[0], 0.9**3, rtol=1e-5)
    np.testing.assert_allclose(sigma[5] / sigma[0], 0.9**6, rtol=1e-5)
    alone = measure(params._replace(w_rec=0.9**6 * params.w_rec), 6, None)
    np.testing.assert_allclose(kept.log_norm[-1], alone.log_norm, rtol=1e-4)


def test_nothing_is_measured_in_between():
    """The measurement stands behind a branch: a step between two runs none of it."""
    cell, params, state, xs = make_case("elman_tanh", "float32")

    def seen(step):
        return rx.flow.watch(cell, params, state, xs, step=step)

    jaxpr = jax.make_jaxpr(seen)(jnp.int32(0)).jaxpr
    (inner,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("jit", "pjit")][-1:]
    outside = {eqn.primitive.name for eqn in inner.params["jaxpr"].jaxpr.eqns}
    assert "cond" in outside
    assert not outside & {"scan", "while", "dot_general", "custom_vmap_call"}


def test_a_step_that_is_not_gated_and_one_sequence():
    found = rx.flow.watch(linear, 0.5 * jnp.eye(2), jnp.ones(2), jnp.zeros((9, 2)), step=0)
    np.testing.assert_allclose(found.log_norm, 9 * np.log(0.5), rtol=1e-5)
    np.testing.assert_allclose(found.rate, np.log(0.5), rtol=1e-5)
    assert found.horizon == 5  # .5^5 is below .05
    assert found.largest_singular_value is None
    assert found.gates == found.saturated == {}


def test_a_network_that_has_diverged():
    cell, params, state, xs = make_case("gru", "float32")
    params = params._replace(w_rec=jnp.nan * params.w_rec)
    found = rx.flow.watch(cell, params, state, xs, step=0)
    assert found.step == 0
    assert all(np.isnan(leaf) for leaf in jax.tree.leaves(found._replace(step=jnp.nan)))


def test_one_infinite_weight():
    """LAPACK never returns from some infinities."""
    cell = rx.cells.elman(1, 8)
    params = cell.init(jax.random.key(0))
    params = params._replace(w_rec=params.w_rec.at[0, 0].set(jnp.inf))
    found = rx.flow.watch(cell, params, None, jnp.zeros((20, 1)), step=0)
    assert np.isnan(found.log_norm)
    assert np.isnan(found.largest_singular_value)


@pytest.mark.parametrize("size", [1e-25, 1e20])
def test_weights_whose_square_has_no_place_in_float32(size):
    cell = rx.cells.elman(1, 26)
    params = cell.init(jax.random.key(0))
    params = params._replace(w_rec=size * params.w_rec)
    found = rx.flow.watch(cell, params, None, jnp.zeros((2, 1)), step=0)
    np.testing.assert_allclose(found.largest_singular_value, size, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"every": 0}, ValueError, "every must be a positive integer, got 0"),
        ({"examples": 0.5}, TypeError, "examples must be a positive integer, got 0.5"),
        (
            {"step": 1.5},
            TypeError,
            "step must be the number of the training step, an integer, got 1.5. Carry a counter: "
            "jnp.int32(0), and one more each step.",
        ),
        (
            {"last": 1.0},
            TypeError,
            "last must be the record that flow.watch returned for this cell the step before, got "
            "float32[]; expected Watched(step=int32[], log_norm=float32[], log_frobenius="
            "float32[], rate=float32[], horizon=float32[], largest_singular_value=float32[], "
            "gates={'h': float32[]}, saturated={'h': float32[]}). Begin with last=None.",
        ),
    ],
)
def test_bad_options(options, kind, text):
    case = make_case("elman_tanh", "float32")
    with says(kind, text):
        rx.flow.watch(*case, **({"step": 0} | options))


def test_only_the_steps_that_count_are_watched(x64):
    cell, params, state, xs = ragged("gated").args
    empty = jnp.asarray(MASK.T * np.array([[1], [1], [1], [0]], bool)).T  # and no such row
    options = {"step": 0, "examples": 4, "probes": 6}
    found = rx.flow.watch(cell, params, state, xs, mask=empty, **options)
    rows = (cell, params, jax.tree.map(lambda leaf: leaf[:3], state), xs[:, :3])
    decay = rx.flow.decay(*rows, mask=MASK[:, :3])
    for got, expected in (
        (found.log_norm, decay.log_norm[-1]),
        (found.rate, rx.flow.rate(decay)),
        (found.horizon, rx.flow.horizon(decay).steps),
    ):
        np.testing.assert_allclose(got, np.median(expected), rtol=1e-9)
    gates = rx.flow.paths(*rows, mask=MASK[:, :3]).gates
    for g, name in enumerate(gates.names):
        np.testing.assert_allclose(found.gates[name], np.nanmean(gates.mean[..., g]), rtol=1e-9)
    resets = jnp.zeros_like(empty).at[3, 0:2].set(True)
    assert np.isneginf(
        rx.flow.watch(cell, params, state, xs, mask=empty, resets=resets, **options).log_norm
    )
    nothing = rx.flow.watch(cell, params, state, xs, mask=jnp.zeros_like(empty), **options)
    assert np.isnan([nothing.log_norm, nothing.rate, nothing.horizon, nothing.gates["f"]]).all()
    with says(
        TypeError,
        "mask must be a bool array [T, B], got float64. Lengths become a mask with "
        "rx.length_mask(lengths, T); numbers with mask.astype(bool).",
    ):
        rx.flow.watch(cell, params, state, xs, mask=jnp.ones(MASK.shape), **options)
