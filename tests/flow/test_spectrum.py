"""Singular values over any range, against products whose values are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import batch_jacobians, chosen, linear, products
from close import says
from contract import make_case
from ragged import LIVE, T, ragged

import recurrax as rx

spectrum = rx.flow.spectrum


def turn(size, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lstm", "gru", "own_plain"])
def test_small_products_by_brute_force(name):
    cell, params, state, xs = make_case(name, "float64")
    found = spectrum(cell, params, state, xs, at=(1, 3, 6))
    whole = products(batch_jacobians(cell, params, state, xs))
    for k, t in enumerate((1, 3, 6)):
        expected = np.linalg.svd(whole[t - 1], compute_uv=False)
        got = np.exp(np.asarray(found.log_singular_values[k]))
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13)
        np.testing.assert_array_equal(found.surviving[k], (expected >= 0.05).sum(-1))
    assert found.t.tolist() == [1, 3, 6]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hundreds_of_decades(dtype):
    """`A_t = U_t D U_{t-1}^T`: the product's values are D^T, from e^20 to e^-1800."""
    rates = np.array([0.1, 0.0, -0.3, -2.0, -9.0])
    turns = [turn(5, seed) for seed in range(201)]
    steps = [turns[t + 1] @ np.diag(np.exp(rates)) @ turns[t].T for t in range(200)]
    ws = jnp.asarray(np.stack(steps).swapaxes(1, 2), dtype)  # rows are vectors
    found = spectrum(chosen, ws, jnp.zeros(5, dtype), jnp.arange(200), at=200)
    # What float32 knows of one step's weakest direction is eps e^9, and errors of steps add up.
    within = 0.2 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(found.log_singular_values[0], 200 * rates, atol=within)
    np.testing.assert_allclose(found.log_condition, 200 * 9.1, atol=within)
    assert found.surviving.tolist() == [2]


@pytest.mark.usefixtures("x64")
def test_the_order_of_time_and_the_volume():
    draw = np.random.default_rng(1)
    ws = jnp.asarray(np.triu(draw.standard_normal((3, 3, 3))) + draw.standard_normal((3, 3, 3)))
    found = spectrum(chosen, ws, jnp.zeros(3), jnp.arange(6) % 3, at=6)
    a, b, c = np.swapaxes(ws, 1, 2)
    expected = np.log(np.linalg.svd(c @ b @ a @ c @ b @ a, compute_uv=False))
    np.testing.assert_allclose(found.log_singular_values[0], expected, atol=1e-10)
    long = spectrum(chosen, ws, jnp.zeros(3), jnp.arange(900) % 3)
    volume = 300 * sum(np.linalg.slogdet(w)[1] for w in ws)
    np.testing.assert_allclose(long.log_singular_values.sum(), volume, rtol=1e-10)


def test_agrees_with_decay():
    cell, params, state, xs = make_case("lstm", "float32", T=40)
    found = spectrum(cell, params, state, xs, at=(10, 40))
    decay = rx.flow.decay(cell, params, state, xs)
    for k, t in enumerate((10, 40)):
        logs = np.asarray(found.log_singular_values[k], np.float64)
        np.testing.assert_allclose(logs[:, 0], decay.log_norm[t - 1], rtol=1e-4)
        frobenius = logs[:, 0] + 0.5 * np.log(np.exp(2 * (logs - logs[:, :1])).sum(-1))
        np.testing.assert_allclose(frobenius, decay.log_frobenius[t - 1], rtol=1e-4)


def test_singular_and_zero():
    w = jnp.asarray(np.random.default_rng(0).standard_normal((4, 2)), jnp.float32)
    rank_two = w @ w.T
    found = spectrum(linear, rank_two, jnp.zeros(4), jnp.zeros((30, 4)))
    expected = 30 * np.log(np.linalg.svd(np.asarray(rank_two, float), compute_uv=False)[:2])
    np.testing.assert_allclose(found.log_singular_values[0, :2], expected, rtol=1e-3)
    np.testing.assert_array_equal(found.log_singular_values[0, 2:], -np.inf)
    assert found.log_condition[0] == np.inf
    nothing = spectrum(linear, jnp.zeros((3, 3)), jnp.zeros(3), jnp.zeros((5, 3)))
    np.testing.assert_array_equal(nothing.log_singular_values, -np.inf)
    assert nothing.surviving.tolist() == [0]


def test_one_unit_one_step():
    found = spectrum(linear, jnp.array([[0.3]]), jnp.zeros(1), jnp.zeros((1, 1)))
    np.testing.assert_allclose(found.log_singular_values, [[np.log(0.3)]], rtol=1e-6)
    np.testing.assert_allclose(found.log_condition, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"at": 0}, ValueError, "at must lie between 1 and T = 6, got 0"),
        ({"at": (2, 7)}, ValueError, "at must lie between 1 and T = 6, got 7"),
        ({"at": 1.5}, TypeError, "at must be an integer or a tuple of integers, got 1.5"),
        ({"below": 1.0}, ValueError, "below must be between 0 and 1, got 1.0"),
    ],
)
def test_bad_options(options, kind, text):
    with says(kind, text):
        spectrum(*make_case("gru", "float32"), **options)


def test_it_has_no_derivatives():
    cell, params, state, xs = make_case("gru", "float32")
    with pytest.raises(NotImplementedError, match=r"flow\.spectrum has no derivatives"):
        jax.grad(lambda p: spectrum(cell, p, state, xs).log_singular_values.sum())(params)


@pytest.mark.parametrize("name", ["gated", "plain"])
def test_a_masked_step_is_the_identity_and_a_reset_leaves_nothing(name, x64):
    case = ragged(name)
    found = spectrum(*case.args, **case.flags, at=(T - LIVE, T - LIVE + 1, T))
    alone = spectrum(*case.alone).log_singular_values[0]
    np.testing.assert_allclose(found.log_singular_values[-1, 1:3], alone[:2], atol=1e-10)
    logs = found.log_singular_values[:, 3]
    assert np.isfinite(logs[0]).all()
    assert np.isneginf(logs[1:]).all()
    assert np.isinf(found.log_condition[1:, 3]).all()
    assert found.surviving[1:, 3].tolist() == [0, 0]
    matrices = rx.flow.jacobians(*case.args, **case.flags)[:, 2]
    expected = np.linalg.svd(products(np.asarray(matrices))[T - LIVE], compute_uv=False)
    np.testing.assert_allclose(np.exp(found.log_singular_values[1, 2]), expected, atol=1e-12)
