"""The proven largest singular value, against NumPy's SVD, on matrices made to deceive it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurrax.flow.numbers.largest import (
    DENSE,
    _has_cholesky,
    first_guess,
    largest_singular_value,
)

DTYPES = ["float32", "float64"]
SIZE = 28  # the smallest multiple of four above DENSE
norm = jax.jit(largest_singular_value)


def orthogonal(seed, size=SIZE):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def with_values(values):
    """A matrix with these singular values and random singular vectors."""
    return orthogonal(0, len(values)) * np.asarray(values) @ orthogonal(1, len(values)).T


MATRICES = {
    "random": np.random.default_rng(2).standard_normal((SIZE, SIZE)) / SIZE**0.5,
    "tall": np.random.default_rng(3).standard_normal((3 * SIZE, SIZE)) / SIZE**0.5,
    "wide": np.random.default_rng(4).standard_normal((SIZE, 3 * SIZE)) / SIZE**0.5,
    "identity": np.eye(SIZE),
    "orthogonal": orthogonal(5),
    "projection": with_values([1.0] * 5 + [0.0] * (SIZE - 5)),
    "rank one": np.outer(orthogonal(6)[0], orthogonal(7)[0]),
    "one entry": np.eye(SIZE)[:, :1] @ np.eye(SIZE)[3:4],
    "two equal": with_values([1.0, 1.0] + [0.5] * (SIZE - 2)),
    "two near": with_values([1.0, 1 - 1e-6] + [0.0] * (SIZE - 2)),
    "one above many equal": with_values([1.0] + [0.5] * (SIZE - 1)),
    "cluster": with_values(1 - 1e-5 * np.arange(SIZE)),
    "wide cluster": with_values(1 - 1e-3 * np.arange(SIZE)),
    "graded values": with_values(10.0 ** -np.arange(SIZE)),
    "graded columns": orthogonal(8) * 10.0 ** -np.arange(SIZE),
    "graded rows": (orthogonal(9) * 10.0 ** -np.arange(SIZE)).T,
    "jordan": np.eye(SIZE) * 0.5 + np.eye(SIZE, k=1),
    "small side": orthogonal(10)[:, :DENSE],
}


def guesses(a):
    """Starts of every kind, from the best to the worst."""
    tall = a if a.shape[0] >= a.shape[1] else a.T
    vectors = np.linalg.svd(tall, full_matrices=False)[2]
    size = min(a.shape)
    return np.stack(
        [
            first_guess(size, np.float64),
            vectors[0],
            vectors[1],  # an exact singular vector, of a smaller value
            vectors[-1],
            -vectors[1] + vectors[-1],  # orthogonal to the top one
            np.eye(size)[0],
        ]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MATRICES)
def test_is_the_norm_from_any_start(name, dtype, x64):
    a = MATRICES[name].astype(dtype)
    expected = np.linalg.norm(a.astype(np.float64), 2)
    for start in guesses(a):
        value, vector = norm(jnp.asarray(a), jnp.asarray(start, dtype))
        slack = 16 * SIZE**0.5 * np.finfo(dtype).eps  # four of what the Cholesky proof leaves open
        np.testing.assert_allclose(value, expected, rtol=slack)
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)
        tall = a if a.shape[0] >= a.shape[1] else a.T
        reached = np.linalg.norm(tall.astype(np.float64) @ np.asarray(vector, np.float64))
        np.testing.assert_allclose(reached, expected, rtol=10 * slack)


@pytest.mark.parametrize("size", [3, SIZE])
def test_zero_has_norm_zero_and_a_derivative_of_zero(size):
    zero = jnp.zeros((size, size))
    (value, vector), pull = jax.vjp(lambda a: norm(a, first_guess(size, a.dtype)), zero)
    assert float(value) == 0
    assert bool(jnp.isfinite(vector).all())
    slope = pull((jnp.float32(1), jnp.zeros(size)))[0]
    assert not slope.any()


@pytest.mark.parametrize("size", [3, SIZE])
def test_nan_stays_nan(size):
    a = jnp.eye(size).at[1, 2].set(jnp.nan)
    assert bool(jnp.isnan(norm(a, first_guess(size, a.dtype))[0]))


def test_a_batch_is_each_matrix_by_itself():
    """Among them one that needs the dense solver, and one that is zero."""
    square = [MATRICES[n] for n in ("random", "identity", "two near", "cluster")]
    batch = jnp.asarray(np.stack([*square, np.zeros((SIZE, SIZE))]), jnp.float32)
    starts = jnp.stack([first_guess(SIZE, batch.dtype)] * len(batch))
    got = jax.jit(jax.vmap(largest_singular_value))(batch, starts)[0]
    np.testing.assert_allclose(got, np.linalg.norm(batch, 2, axis=(1, 2)), rtol=5e-6)


@pytest.mark.parametrize("shape", [(5, 5), (SIZE, SIZE), (SIZE, 40), (40, SIZE), (40, 5)])
def test_derivative_is_the_outer_product_of_the_top_vectors(shape, x64):
    a = np.random.default_rng(0).standard_normal(shape)
    start = first_guess(min(shape), jnp.float64)
    slope = jax.jit(jax.grad(lambda a: largest_singular_value(a, start)[0]))(jnp.asarray(a))
    left, _, right = np.linalg.svd(a)
    np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=1e-6)


def test_derivative_where_lanczos_gave_a_smaller_value(x64):
    """A start in an invariant subspace: the proof fails, and the dense solver gives the vector."""
    values = np.linspace(1.0, 0.1, SIZE)
    a, top = np.diag(values), np.zeros(SIZE)
    top[0] = 1
    # Cancels what `largest_singular_value` mixes in, so that Lanczos never leaves the span.
    start = jnp.asarray(np.eye(SIZE)[5] - 0.03 * np.asarray(first_guess(SIZE, jnp.float64)))
    value, slope = jax.value_and_grad(lambda a: largest_singular_value(a, start)[0])(jnp.asarray(a))
    assert abs(float(value) - 1) < 1e-13
    np.testing.assert_allclose(slope, np.outer(top, top), atol=1e-12)


@given(
    st.integers(0, 2**31),
    st.lists(st.floats(0, 1, width=32), min_size=SIZE, max_size=SIZE).filter(
        lambda v: max(v) > 0.1
    ),
)
def test_any_singular_values_in_float32(seed, values):
    a = (orthogonal(seed) * np.asarray(values) @ orthogonal(seed + 1)).astype(np.float32)
    rng = np.random.default_rng(seed)
    start = jnp.asarray(rng.standard_normal(SIZE), jnp.float32)
    value, _ = norm(jnp.asarray(a), start / jnp.linalg.norm(start))
    np.testing.assert_allclose(value, np.linalg.norm(a.astype(np.float64), 2), rtol=3e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [25, 64, 65, 150])
def test_the_proof_sees_an_eigenvalue_of_a_few_roundings(size, dtype, x64):
    """One block, a whole number of them, one row more, and a last block of another size."""
    q, eps = orthogonal(0, size), np.finfo(dtype).eps
    for smallest in (-64, -16, 16, 64):
        values = np.append(np.linspace(0.01, 1, size - 1), smallest * eps)
        matrix = (q * values @ q.T).astype(dtype)
        definite = jax.jit(_has_cholesky)(jnp.asarray((matrix + matrix.T) / 2))
        assert bool(definite) == (smallest > 0), smallest
