"""Covariant vectors: carried onto each other, and known for a constant matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import chosen, linear
from close import says
from contract import make_case

import recurrax as rx

covariant = rx.flow.covariant_vectors


@pytest.mark.usefixtures("x64")
def test_of_one_matrix_they_are_its_eigenvectors():
    vectors = np.random.default_rng(5).standard_normal((3, 3))
    rates = np.array([0.2, -0.3, -1.0])
    w = jnp.asarray((vectors @ np.diag(np.exp(rates)) @ np.linalg.inv(vectors)).T)
    found = covariant(linear, w, jnp.zeros(3), jnp.zeros((300, 3)))
    vectors /= np.linalg.norm(vectors, axis=0)
    np.testing.assert_allclose(found.exponents, rates, atol=1e-8)
    np.testing.assert_allclose(jnp.abs(found.vectors[0]), np.abs(vectors), atol=1e-8)
    angle = np.arccos(np.abs(vectors[:, 0] @ vectors[:, 2]))
    np.testing.assert_allclose(found.angles[:, 0, 2], angle, atol=1e-8)
    np.testing.assert_array_equal(found.angles[:, 1, 1], 0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("every", [1, 2])
def test_carried_onto_each_other(every):
    """`A_t v_i` is along the next v_i, for matrices in the order of time."""
    draw = np.random.default_rng(1)
    ws = jnp.asarray(np.triu(draw.standard_normal((3, 3, 3))) + draw.standard_normal((3, 3, 3)))
    found = covariant(chosen, ws, jnp.zeros(3), jnp.arange(400) % 3, every=every)
    assert (np.diff(found.times) == every).all()
    for m in range(0, 20, 7):
        moved = np.asarray(found.vectors[m])
        for t in range(int(found.times[m]), int(found.times[m + 1])):
            moved = np.asarray(ws[t % 3]).T @ moved
        moved /= np.linalg.norm(moved, axis=0)
        np.testing.assert_allclose(np.abs(moved), np.abs(found.vectors[m + 1]), atol=1e-8)
    exact = rx.flow.lyapunov(chosen, ws, jnp.zeros(3), jnp.arange(3000) % 3)
    np.testing.assert_allclose(found.exponents, exact.exponents, atol=2e-2)


def tangency(a):
    """Eigenvalues 2, 1.25 and 1; the last two eigenvectors are arctan(a) apart."""
    return jnp.array([[2.0, 0, 0], [0, 1.25, 0], [0, 0.25 / a, 1.0]])  # rows are vectors


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("dtype", "angle", "within"),
    [("float64", 1e-8, 1e-6), ("float32", 1e-3, 1e-4)],
)
def test_a_near_tangency(dtype, angle, within):
    """Where a cosine is 1: the angle keeps its digits, between the first two or any two."""
    w = tangency(angle).astype(dtype)
    found = covariant(linear, w, jnp.zeros(3, dtype), jnp.zeros((500, 3), dtype))
    np.testing.assert_allclose(found.angles[0, 1, 2], angle, rtol=within)
    np.testing.assert_array_equal(found.angles, np.swapaxes(found.angles, 1, 2))
    np.testing.assert_allclose(found.angles[0, 0, 1:], np.pi / 2, rtol=1e-6)
    pair = covariant(linear, w[1:, 1:], jnp.zeros(2, dtype), jnp.zeros((500, 2), dtype))
    np.testing.assert_allclose(pair.angles[0, 0, 1], angle, rtol=within)


@pytest.mark.usefixtures("x64")
def test_the_derivative_of_an_angle():
    """Of arctan(a), through 40 steps: no NaN from the vectors' angles with themselves."""

    def angles(a):
        case = (tangency(a), jnp.zeros(3), jnp.zeros((40, 3)))
        return covariant(linear, *case, burn_in=30, burn_out=0).angles[0]

    value, slope = jax.jvp(angles, (0.3,), (1.0,))
    back = jax.grad(lambda a: angles(a).sum())(0.3)
    assert bool(jnp.isfinite(slope).all())
    np.testing.assert_allclose(slope.sum(), back, rtol=1e-9)
    step = 1e-5
    expected = (angles(0.3 + step) - angles(0.3 - step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    np.testing.assert_array_equal(jnp.diagonal(value), 0)


def test_of_a_batch():
    cell, params, state, xs = make_case("gru", "float32", T=30)
    found = covariant(cell, params, state, xs, k=2)
    count = len(found.times)
    assert found.vectors.shape == (count, 3, 4, 2)
    assert found.angles.shape == (count, 3, 2, 2)
    np.testing.assert_allclose(jnp.linalg.norm(found.vectors, axis=-2), 1, rtol=1e-5)
    assert ((found.angles >= 0) & (found.angles <= np.pi / 2 + 1e-6)).all()


def test_a_singular_step_is_refused():
    case = (linear, jnp.diag(jnp.array([1.0, 0.0])), jnp.zeros(2), jnp.zeros((20, 2)))
    with says(
        ValueError,
        "the Jacobians up to time 1 (in units of every) are singular along the 2 directions "
        "followed, to rounding, so vectors cannot be followed back through them. Take a smaller k "
        "(flow.lyapunov says how many exponents are finite), a smaller every, or float64.",
    ):
        covariant(*case)
    assert covariant(*case, k=1).vectors.shape[-1] == 1


def test_a_jacobian_singular_but_for_rounding_is_refused():
    cell = rx.cells.lstm(2, 3)  # at zero weights nothing comes back from h
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="are singular along the 6 directions followed, to round"):
        covariant(cell, params, None, jnp.zeros((40, 2)))


def test_nothing_left_to_measure():
    with says(
        ValueError,
        "burn_in=4, burn_out=4 and every=1 leave 1 of T = 8 steps to measure; expected 2 or more. "
        "Give more steps or leave out fewer.",
    ):
        covariant(linear, jnp.eye(2), jnp.zeros(2), jnp.zeros((8, 2)), burn_in=4, burn_out=4)


@pytest.mark.parametrize("options", [{}, {"every": 2, "burn_in": 3, "burn_out": 1, "k": 1}])
def test_each_row_has_its_own_vectors(options, x64):
    cell = rx.cells.elman(1, 2, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    xs = jnp.asarray(np.random.default_rng(0).standard_normal((18, 2, 1)))
    mask = np.stack([np.arange(18) % 3, np.arange(18) < 10], 1) > 0
    given = jnp.where(mask[..., None], xs, jnp.nan)
    found = covariant(cell, params, None, given, mask=mask, **options)
    for row in range(2):
        alone = covariant(cell, params, None, xs[mask[:, row], row], **options)
        count = len(alone.times)
        np.testing.assert_allclose(found.exponents[row], alone.exponents, rtol=1e-12)
        for a, b in zip(found[1:], alone[1:], strict=True):
            np.testing.assert_allclose(a[:count, row], b, rtol=1e-12, atol=1e-12)
        assert (found.times[count:, row] == -1).all()
        assert np.isnan(found.vectors[count:, row]).all()
        assert np.isnan(found.angles[count:, row]).all()
    with says(
        ValueError,
        "burn_in=4, burn_out=0 and every=1 leave 1 of a row = 4 steps to measure; expected 2 or "
        "more. Give more steps or leave out fewer.",
    ):
        covariant(cell, params, None, xs, mask=mask & (np.arange(18)[:, None] < 6), burn_in=4)
    with says(
        ValueError,
        "resets is True at t = 0, where the product of the Jacobians becomes zero: it has no "
        "vectors after that. Measure each piece between two resets on its own, from the cell's "
        "initial state.",
    ):
        covariant(cell, params, None, xs[:, 0], resets=np.arange(18) % 5 == 0)
    if not options:
        traced = jax.jit(lambda m, r: covariant(cell, params, None, xs, mask=m, resets=r))
        exponents = traced(mask & (np.arange(2) > 0), np.zeros_like(mask)).exponents
        assert np.isnan(exponents[0]).all()
        np.testing.assert_allclose(exponents[1], found.exponents[1], rtol=1e-12)
        resets = np.arange(18)[:, None] == np.array([3, 30])
        assert np.isneginf(traced(mask, resets).exponents).tolist() == [[True] * 2, [False] * 2]
