"""The factors behind Lyapunov exponents: what they multiply to, and their derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from recurrax.flow.numbers import factors

# As users meet them, inside a compiled function: op by op they take many small compilations.
eliminated, orthonormal = jax.jit(factors.eliminated), jax.jit(factors.orthonormal)

SHAPES = [(1, 1), (4, 4), (7, 3)]


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", SHAPES)
def test_factors_multiply_to_the_matrix(shape):
    v = draw(shape)
    found = jax.tree.map(np.asarray, eliminated(v))
    np.testing.assert_allclose(found.basis @ found.upper, v, atol=1e-13)
    assert np.abs(found.basis).max() <= 1
    lower = np.asarray(found.basis)[found.pivots]
    np.testing.assert_array_equal(np.triu(lower), np.eye(shape[1]))
    q, r = map(np.asarray, orthonormal(v))
    np.testing.assert_allclose(q @ r, v, atol=1e-13)
    np.testing.assert_allclose(q.T @ q, np.eye(shape[1]), atol=1e-13)
    assert (np.diagonal(r) > 0).all()
    for upper in (found.upper, r):
        np.testing.assert_array_equal(np.tril(upper, -1), 0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(4, 4), (5, 2)])
def test_derivatives_of_any_order(shape):
    check_grads(lambda v: eliminated(v)[:2], (draw(shape),), 2, eps=1e-6)
    check_grads(orthonormal, (draw(shape),), 2, eps=1e-6)


@pytest.mark.usefixtures("x64")
def test_triangular_inverse():
    matrix = np.triu(draw((4, 4)) + 4 * np.eye(4))
    inverse = np.asarray(factors.triangular_inverse(jnp.asarray(matrix)))
    np.testing.assert_allclose(inverse @ matrix, np.eye(4), atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_mapped_over_a_batch():
    vs = draw((3, 4, 2))

    def total(v):
        return jnp.sum(jnp.sin(eliminated(v).basis)) + jnp.sum(jnp.cos(orthonormal(v)[0]))

    slope = jax.jit(jax.grad(total))
    each = np.stack([slope(v) for v in vs])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(total)))(vs), each, atol=1e-13)
    together = jax.jit(jax.grad(lambda vs: jnp.sum(jax.vmap(total)(vs))))(vs)
    np.testing.assert_allclose(together, each, atol=1e-13)


def test_what_is_only_rounding_is_zero():
    rank_two = draw((6, 2), 1) @ draw((2, 6), 2)
    diagonal = np.abs(np.diagonal(eliminated(rank_two.astype(np.float32)).upper))
    assert (diagonal[:2] > 1e-2).all()
    np.testing.assert_array_equal(diagonal[2:], 0)


def test_zero_has_a_basis_and_no_nan():
    found = eliminated(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(found.upper, 0)
    np.testing.assert_array_equal(found.basis, np.eye(3, 2))
    slope = jax.jit(jax.grad(lambda v: jnp.sum(eliminated(v).upper)))(jnp.zeros((3, 2)))
    assert np.isfinite(slope).all()


@pytest.mark.usefixtures("x64")
def test_small_rows_keep_their_digits():
    """A saturated unit makes a row of 1e-6: elimination in float32 is right to float32 in it."""
    rows = np.array([1.0, 1e-6, 1e-3, 1e-9, 1.0])[:, None]
    v = (rows * draw((5, 5))).astype(np.float32)
    exact, found = eliminated(v.astype(np.float64)), eliminated(v)
    np.testing.assert_array_equal(found.pivots, exact.pivots)
    ratio = np.diagonal(found.upper) / np.diagonal(exact.upper)
    np.testing.assert_allclose(ratio, 1, rtol=1e-5)
    # The condition says so: it bounds the error that came, in units of rounding.
    eps = np.finfo(np.float32).eps
    assert (np.abs(ratio - 1) <= 5 * np.asarray(found.condition) * eps).all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (7, 1), (9, 3), (33, 32)])
def test_the_order_of_rows_is_that_of_lapacks_swaps(rows, columns):
    for seed in range(5):
        v = jax.random.normal(jax.random.key(seed), (rows, columns))
        _, swaps, order = jax.lax.linalg.lu(v)
        np.testing.assert_array_equal(factors._order(swaps, rows), order)
