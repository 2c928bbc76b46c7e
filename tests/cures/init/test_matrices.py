"""Sizes of recurrent weights, against NumPy's eigenvalues and singular values."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_same, says

import recurrax as rx
from recurrax.cures import init


def radius(matrix):
    return np.abs(np.linalg.eigvals(np.asarray(matrix, np.float64))).max()


def sigma(matrix):
    return np.linalg.norm(np.asarray(matrix, np.float64), 2)


def given(matrix):
    """An initialiser that draws nothing."""
    return lambda key, shape, dtype=jnp.float32: jnp.asarray(matrix, dtype)


# --- orthogonal ---------------------------------------------------------------------------------


def test_orthogonal_is_the_cells_default(key):
    cell = rx.cells.lstm(3, 8, recurrent_init=init.orthogonal())
    assert_same(cell.init(key), rx.cells.lstm(3, 8).init(key))


def test_orthogonal_by_gate_has_its_gain_in_each(key):
    whole = init.orthogonal(0.7, gates=4)(key, (16, 64))
    for block in np.split(np.asarray(whole, np.float64), 4, -1):
        np.testing.assert_allclose(block.T @ block, 0.49 * np.eye(16), atol=1e-5)
    joint = init.orthogonal()(key, (16, 64))  # orthonormal rows: a gain of 1/2 in each gate
    gains = [np.linalg.norm(block) / 4 for block in np.split(np.asarray(joint), 4, -1)]
    np.testing.assert_allclose(gains, 0.5, atol=0.1)


def test_orthogonal_of_other_shapes(key):
    wide, tall = init.orthogonal()(key, (3, 8)), init.orthogonal()(key, (8, 3))
    np.testing.assert_allclose(wide @ wide.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(tall.T @ tall, np.eye(3), atol=1e-5)
    assert abs(float(init.orthogonal(2.0)(key, (1, 1))[0, 0])) == 2.0
    assert not init.orthogonal(0.0)(key, (3, 3)).any()


# --- identity -----------------------------------------------------------------------------------


def test_an_irnn_holds_its_gradient(key):
    cell = rx.cells.elman(2, 5, activation="relu", recurrent_init=init.identity())
    params, xs = cell.init(key), jnp.ones((50, 2))
    params = params._replace(w_in=jnp.abs(params.w_in))  # no unit is cut off
    decay = rx.flow.decay(cell, params, None, xs)
    np.testing.assert_allclose(decay.log_norm, 0, atol=1e-5)


def test_a_scaled_identity_by_gate(key):
    assert_same(init.identity(0.5, gates=2)(key, (3, 6)), 0.5 * jnp.tile(jnp.eye(3), (1, 2)))


# --- spectral radius ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 40])
@pytest.mark.parametrize("rho", [0.0, 1e-3, 0.95, 30.0])
def test_spectral_radius(size, rho, key):
    made = init.spectral_radius(rho)(key, (size, size))
    np.testing.assert_allclose(radius(made), rho, rtol=3e-5)
    base = np.asarray(jax.nn.initializers.lecun_normal()(key, (size, size)))
    np.testing.assert_allclose(made, base * (rho / radius(base)), rtol=3e-5, atol=1e-6 * rho)


@pytest.mark.parametrize(
    "matrix",
    [
        [[0.0, -2.0], [3.0, 0.0]],  # a pair +-i sqrt(6), whose powers turn
        [[1.0, 0.0], [0.0, -1.0]],  # two of the same size
        [[0.5, 1e4], [0.0, 0.5]],  # defective, and far from normal
        [[1e-30, 0.0], [0.0, 1e-32]],
        [[1e30, 0.0], [0.0, 1e32]],
    ],
)
def test_spectral_radius_of_matrices_that_are_hard(matrix, key):
    made = init.spectral_radius(0.9, base=given(matrix))(key, (2, 2))
    scale = 0.9 / radius(matrix)
    np.testing.assert_allclose(made, np.asarray(matrix) * scale, rtol=3e-5)


def test_spectral_radius_in_float64(x64):
    made = init.spectral_radius(0.9)(jax.random.key(0), (30, 30), jnp.float64)
    assert made.dtype == "float64"
    np.testing.assert_allclose(radius(made), 0.9, rtol=1e-12)


def test_a_radius_of_zero_cannot_be_scaled(key):
    nilpotent = [[0.0, 2.0], [0.0, 0.0]]
    assert_same(init.spectral_radius(0.9, base=given(nilpotent))(key, (2, 2)), jnp.array(nilpotent))
    for make in (init.spectral_radius, init.largest_singular_value):
        zeros = make(0.9, base=jax.nn.initializers.zeros)(key, (3, 3))
        assert_same(zeros, jnp.zeros((3, 3)))


# --- largest singular value ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (40, 40), (3, 8)])
@pytest.mark.parametrize("size", [0.0, 0.95, 30.0])
def test_largest_singular_value(shape, size, key):
    made = init.largest_singular_value(size)(key, shape)
    np.testing.assert_allclose(sigma(made), size, rtol=2e-5)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_largest_singular_value_of_tiny_and_huge_weights(size, key):
    base = given(size * np.array([[3.0, 4.0], [-4.0, 3.0]]))
    made = init.largest_singular_value(0.5, base=base)(key, (2, 2))
    np.testing.assert_allclose(made, [[0.3, 0.4], [-0.4, 0.3]], rtol=1e-6)


def test_scaled_alike_in_and_out_of_jit(key):
    for make in (init.spectral_radius(0.9), init.largest_singular_value(0.9)):
        inside = jax.jit(lambda key, make=make: make(key, (6, 6)))(key)
        np.testing.assert_allclose(inside, make(key, (6, 6)), rtol=1e-5)


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: init.orthogonal(-1.0), ValueError, "gain must not be negative, got -1.0"),
        (lambda: init.orthogonal("1"), TypeError, "gain must be a number, got '1'"),
        (
            lambda: init.orthogonal(gates=0),
            ValueError,
            "gates must be a positive integer, got 0",
        ),
        (lambda: init.identity(np.inf), ValueError, "scale must be finite, got inf"),
        (lambda: init.spectral_radius(-1), ValueError, "rho must not be negative, got -1"),
        (
            lambda: init.largest_singular_value(-1),
            ValueError,
            "sigma must not be negative, got -1",
        ),
        (
            lambda: init.spectral_radius(1.0, base=3),
            TypeError,
            "base must be an initialiser (key, shape, dtype) -> array, such as "
            "jax.nn.initializers.lecun_normal(), got 3",
        ),
    ],
)
def test_bad_arguments(make, kind, text):
    with says(kind, text):
        make()


def test_shapes_that_are_no_blocks(key):
    with says(
        ValueError,
        "orthogonal with gates=1 makes a matrix [rows, 1 * columns], got shape (8,). Give it as "
        "recurrent_init, not as bias_init; a cell asks for one gate at a time, so there leave "
        "gates at 1.",
    ):
        rx.cells.elman(3, 8, bias_init=init.orthogonal()).init(key)
    with pytest.raises(ValueError, match=re.escape("makes a matrix [rows, 3 * columns], got")):
        init.orthogonal(gates=3)(key, (8, 8))
    with says(
        ValueError,
        "identity makes square blocks [H, H], got (3, 8) from shape (3, 8) with gates=1. Give it "
        "as recurrent_init; a whole [H, G*H] takes gates=G.",
    ):
        rx.cells.elman(3, 8, input_init=init.identity()).init(key)


def test_a_base_that_returns_another_shape(key):
    with pytest.raises(ValueError, match=r"returned float32\[3\] where an array of shape \(2, 2\)"):
        init.spectral_radius(1.0, base=given([1.0, 2.0, 3.0]))(key, (2, 2))
