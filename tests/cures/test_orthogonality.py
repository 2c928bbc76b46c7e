"""The distance of recurrent weights from orthogonal ones, against NumPy's singular values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import says
from contract import make_case

import recurrax as rx

orthogonality = rx.cures.orthogonality


def by_singular_values(w_rec):
    w_rec = np.asarray(w_rec, np.float64)
    blocks = np.split(w_rec, w_rec.shape[1] // w_rec.shape[0], -1)
    sigmas = np.concatenate([np.linalg.svd(block, compute_uv=False) for block in blocks])
    return np.sum((sigmas**2 - 1) ** 2)


@pytest.mark.parametrize("name", ["elman_tanh", "lstm", "gru"])
def test_value_of_params_and_of_their_matrix(name):
    _, params, _, _ = make_case(name, "float32")
    expected = by_singular_values(params.w_rec)
    np.testing.assert_allclose(orthogonality(params), expected, rtol=1e-5)
    np.testing.assert_allclose(orthogonality(params.w_rec), expected, rtol=1e-5)


def test_a_stack_is_the_sum_of_its_cells():
    _, params, _, _ = make_case("stack", "float32")
    each = [float(orthogonality(own)) for own in params]
    np.testing.assert_allclose(orthogonality(params), sum(each), rtol=1e-6)


def test_gradient_by_differences(x64):
    w = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6)))
    slope = jax.grad(orthogonality)(w)
    for place in np.ndindex(3, 6):
        sides = [float(orthogonality(w.at[place].add(e))) for e in (1e-6, -1e-6)]
        np.testing.assert_allclose(slope[place], (sides[0] - sides[1]) / 2e-6, rtol=1e-6)


def test_orthogonal_zero_and_one_by_one(key):
    whole = rx.cures.init.orthogonal(gates=3)(key, (8, 24))
    np.testing.assert_allclose(orthogonality(whole), 0, atol=1e-10)
    assert float(orthogonality(jnp.zeros((4, 8)))) == 8  # one for each direction of each gate
    assert not jax.grad(orthogonality)(jnp.zeros((4, 8))).any()
    assert float(orthogonality(jnp.array([[2.0, -1.0]]))) == 9


def test_bfloat16_is_measured_in_float32(key):
    w = rx.cures.init.orthogonal()(key, (8, 8), jnp.bfloat16)
    value = orthogonality(w)
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, by_singular_values(w), rtol=1e-4)


def test_mistakes():
    with says(
        ValueError,
        "params must be square blocks side by side, [H, G*H], got shape (3, 8). It is for "
        "recurrent weights: w_rec, not w_in.",
    ):
        orthogonality(jnp.ones((3, 8)))
    with says(
        TypeError,
        "params must be a floating-point matrix [H, G*H], or params with one as w_rec, got int32",
    ):
        orthogonality(jnp.ones((3, 3), jnp.int32))
    with says(
        TypeError,
        "params must be a floating-point matrix [H, G*H], or params with one as w_rec, got "
        "NormParams",
    ):
        orthogonality(make_case("own_plain", "float32").params)
    with says(
        ValueError,
        "params.w_rec (2, 20) of a cell with a projection has no square blocks that could be "
        "orthogonal",
    ):
        orthogonality(make_case("lstm_projection", "float32").params)
