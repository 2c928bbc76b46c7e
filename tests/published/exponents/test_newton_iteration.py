"""Newton's method over all steps, against a matrix of the whole problem."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.published.exponents.newton_iteration import solve

T, N = 12, 3


def step(weights, state, x):
    return weights @ jnp.tanh(state) + x


def problem():
    keys = jax.random.split(jax.random.key(0), 4)
    weights = jax.random.normal(keys[0], (N, N)) / 2
    start = jax.random.normal(keys[1], (N,))
    xs, guess = (jax.random.normal(key, (T, N)) for key in keys[2:])
    return weights, start, xs, guess


def by_matrices(weights, start, xs, guess):
    """One Newton step of the residual of all states, by a dense linear system."""

    def residual(flat):
        states = flat.reshape(T, N)
        before = jnp.concatenate([start[None], states[:-1]])
        return (states - jax.vmap(lambda s, x: step(weights, s, x))(before, xs)).ravel()

    flat = guess.ravel()
    return (flat - jnp.linalg.solve(jax.jacobian(residual)(flat), residual(flat))).reshape(T, N)


def test_a_step_is_newtons():
    with jax.enable_x64(True):
        weights, start, xs, guess = problem()
        for count in (1, 2):
            found = solve(step, weights, start, xs, guess, 0.0, count)
            assert int(found.steps) == count
            expected = guess
            for _ in range(count):
                expected = by_matrices(weights, start, xs, expected)
            np.testing.assert_allclose(found.states, expected, rtol=1e-9, atol=1e-12)


def test_it_ends_at_the_forward_pass_one_step_after_the_tolerance_is_met():
    with jax.enable_x64(True):
        weights, start, xs, guess = problem()
        _, states = jax.lax.scan(lambda s, x: 2 * (step(weights, s, x),), start, xs)
        found = solve(step, weights, start, xs, guess, 1e-10, T)
        np.testing.assert_allclose(found.states, states, atol=1e-9)
        # So many as it takes, by the states before each: those within the tolerance are not left.
        for count in range(int(found.steps)):
            left = solve(step, weights, start, xs, guess, 0.0, count).states
            before = np.concatenate([start[None], left[:-1]])
            images = np.stack([step(weights, s, x) for s, x in zip(before, xs, strict=True)])
            merit = 0.5 * np.sum((left - images) ** 2) / T
            assert (merit <= 1e-10) == (count == int(found.steps) - 1), count


def test_a_linear_recurrence_takes_one_step_and_one_that_sees_it():
    found = solve(lambda w, s, x: w @ s + x, *problem(), 1e-10, T)
    assert int(found.steps) == 2
    assert int(solve(lambda w, s, x: w @ s + x, *problem(), jnp.inf, T).steps) == 0


def test_what_is_not_a_number_is_no_end():
    """Far states overflow at first; each step makes right at least one more from the start on."""
    far = jnp.full((6, 1), 1e30)
    arguments = None, jnp.ones(1), jnp.zeros((6, 1)), far, 1e-10
    found = solve(lambda _, s, x: s**3 / (1 + s), *arguments, 50)
    assert 3 < int(found.steps) <= 9
    np.testing.assert_allclose(found.states[:2, 0], [1 / 2, 1 / 12], rtol=1e-6)
