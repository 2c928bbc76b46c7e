"""Gradient flossing: exponents that are known, derivatives by differences, and the cure itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from brute_force import linear
from close import assert_close, assert_finite, says
from contract import make_case

import recurrax as rx

flossing = rx.cures.flossing


def test_a_linear_network_has_the_logs_of_its_eigenvalues(x64):
    w = jnp.diag(jnp.array([2.0, 0.5, 0.1]))
    value = flossing(linear, w, jnp.zeros(3), jnp.ones((400, 3)), k=2, burn_in=300)
    np.testing.assert_allclose(value, np.log(2) ** 2, rtol=1e-6)
    target = flossing(
        linear, w, jnp.zeros(3), jnp.ones((400, 3)), k=2, burn_in=300, target=np.log(2)
    )
    np.testing.assert_allclose(target, 0.5 * np.log(4) ** 2, rtol=1e-6)


def test_it_is_the_mean_over_exponents_and_batch():
    cell, params, state, xs = make_case("gru", "float32")
    found = rx.flow.lyapunov(cell, params, state, xs, k=3, burn_in=0).exponents
    value = flossing(cell, params, state, xs, k=3, target=-0.1)
    np.testing.assert_allclose(value, np.mean((np.asarray(found) + 0.1) ** 2), rtol=1e-5)


def test_under_a_mask_it_is_the_mean_of_the_rows_alone(x64):
    cell = rx.cells.elman(1, 2, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0)), jnp.sin(jnp.arange(24.0)).reshape(12, 2, 1)
    mask = np.stack([np.arange(12) % 4, np.arange(12) < 9], 1) > 0  # nine steps each

    def penalty(params, xs, mask):
        return flossing(cell, params, None, xs, k=2, mask=mask)

    slope = jax.value_and_grad(penalty)
    found = slope(params, jnp.where(mask[..., None], xs, jnp.nan), mask)
    alone = slope(params, jnp.stack([xs[mask[:, row], row] for row in range(2)], 1), None)
    assert_close(found, alone)


def test_gradient_by_differences(x64):
    cell, params, state, xs = make_case("lstm", "float64")
    penalty = jax.jit(
        jax.value_and_grad(lambda p: flossing(cell, p, state, xs, k=2, target=-0.2, every=1))
    )
    slope = penalty(params)[1]
    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), params)
    plus, minus = (
        float(penalty(jax.tree.map(lambda p, d, e=e: p + e * d, params, way))[0])
        for e in (1e-6, -1e-6)
    )
    products = jax.tree.map(lambda g, d: float(jnp.sum(g * d)), slope, way)
    along = sum(jax.tree.leaves(products))
    np.testing.assert_allclose(along, (plus - minus) / 2e-6, rtol=1e-6)


def test_one_step_of_one_unit():
    value = flossing(linear, jnp.array([[0.5]]), jnp.zeros(1), jnp.ones((1, 1)), k=1)
    np.testing.assert_allclose(value, np.log(2) ** 2, rtol=1e-6)


def test_zero_weights_are_far_from_the_target_and_give_no_nan(key):
    """A dead network must not look cured, nor spoil the params."""
    cell = rx.cells.elman(2, 3)
    params = jax.tree.map(jnp.zeros_like, cell.init(key))
    value, slope = jax.value_and_grad(lambda p: flossing(cell, p, None, jnp.ones((5, 2)), k=2))(
        params
    )
    np.testing.assert_allclose(value, np.log(np.finfo(np.float32).tiny) ** 2, rtol=1e-5)
    assert_finite(slope)
    assert not any(leaf.any() for leaf in jax.tree.leaves(slope))


def test_two_hundred_steps_of_adam_bring_the_exponents_to_zero():
    """N = 32, k = 8, T = 60: from some 3e-2 to below 1e-6, the exponents of the reference.

    Near the minimum Adam goes on jumping, by rounding, and now and then is late: so the best of the
    last fifty steps is asked, of three starts, and one of them may be underway still.
    """
    cell = rx.cells.elman(1, 32)
    adam = optax.adam(1e-2)

    @jax.jit
    def run(params, state, xs):
        def step(carry, _):
            params, opt_state = carry
            value, slope = jax.value_and_grad(lambda p: flossing(cell, p, state, xs, k=8))(params)
            updates, opt_state = adam.update(slope, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), (value, params)

        return jax.lax.scan(step, (params, adam.init(params)), None, length=200)[1]

    found = []
    for seed in (0, 1, 3):
        first, second, third = jax.random.split(jax.random.key(seed), 3)
        params = cell.init(first)
        state = cell.initial_state(params)._replace(h=0.1 * jax.random.normal(second, (32,)))
        xs = 0.3 * jax.random.normal(third, (60, 1))
        values, along = run(params, state, xs)
        assert 1e-2 < values[0] < 1e-1
        best = 150 + int(np.argmin(values[150:]))
        params = jax.tree.map(lambda leaf, best=best: leaf[best], along)
        exponents = rx.flow.lyapunov(cell, params, state, xs, k=8, burn_in=0).exponents
        np.testing.assert_allclose(np.mean(exponents**2), values[best], rtol=1e-2, atol=1e-9)
        found.append(values[best])
    assert np.median(found) < 1e-6
    assert max(found) < 1e-3


def test_mistakes():
    case = linear, jnp.eye(2), jnp.zeros(2), jnp.ones((5, 2))
    with says(
        ValueError,
        "k must be at most N = 2, the size of the whole state of one example, got 3",
    ):
        flossing(*case, k=3)
    with says(ValueError, "k must be a positive integer, got 0"):
        flossing(*case, k=0)
    with says(TypeError, "target must be a number, got 'zero'"):
        flossing(*case, k=1, target="zero")
    with says(ValueError, "burn_in must be from 0 to T - 1 = 4, got 5"):
        flossing(*case, k=1, burn_in=5)
