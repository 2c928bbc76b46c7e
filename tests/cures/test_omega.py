"""Pascanu's regulariser, against whole Jacobians in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import batch_jacobians, example, linear
from close import assert_same, says
from contract import B, T, make_case

import recurrax as rx

omega = rx.cures.omega


def everywhere(ys):
    weight = jnp.linspace(0.5, 1.5, ys.size, dtype=ys.dtype).reshape(ys.shape)
    return jnp.sum(weight * jnp.sin(2 * ys))


def in_the_middle(ys):
    return jnp.mean(ys[2] ** 3)


def held(case, loss):
    """What is held constant: the states before each step, and the errors after it, `[T, B, N]`."""
    cell, params, state, xs = case
    errors = rx.flow.loss_gradients(cell, params, state, xs, loss).gradients()
    after = rx.unroll_states(cell, params, state, xs)
    befores = jax.tree.map(lambda a, b: np.concatenate([a[None], b[:-1]]), state, after)
    flat = [np.asarray(leaf).reshape(T, B, -1) for leaf in jax.tree.leaves(errors)]
    return befores, np.concatenate(flat, -1)


def by_jacobians(cell, params, xs, befores, errors):
    """The paper's sum, step by step: `A [N, N]` at one instant from one state."""
    total = 0.0
    for t in range(T):
        at_t = example(befores, t)
        jacobians = batch_jacobians(cell, params, at_t, xs[t : t + 1])[0]
        for error, jacobian in zip(errors[t], jacobians, strict=True):
            if error.any():
                ratio = np.linalg.norm(error @ jacobian) / np.linalg.norm(error)
                total += (ratio - 1) ** 2 / B
    return total


@pytest.mark.parametrize("loss", [everywhere, in_the_middle])
@pytest.mark.parametrize("name", ["lstm", "own_gated", "stack"])
def test_value_and_gradient_by_brute_force(name, loss, x64):
    """The gradient by differences of the sum with states and errors held."""
    case = make_case(name, "float64")
    cell, params, state, xs = case
    value, slope = jax.value_and_grad(lambda p: omega(cell, p, state, xs, loss))(params)
    constants = held(case, loss)
    np.testing.assert_allclose(value, by_jacobians(cell, params, xs, *constants), rtol=1e-10)

    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), params)
    sides = [
        by_jacobians(cell, jax.tree.map(lambda p, d, e=e: p + e * d, params, way), xs, *constants)
        for e in (1e-5, -1e-5)
    ]
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), slope, way)
    along = sum(float(leaf) for leaf in jax.tree.leaves(products))
    np.testing.assert_allclose(along, (sides[0] - sides[1]) / 2e-5, rtol=1e-6)


def test_a_batch_is_the_mean_of_its_examples(x64):
    cell, params, state, xs = make_case("lstm", "float64")
    each = [
        omega(cell, params, example(state, b), xs[:, b], lambda ys: jnp.sum(ys**2))
        for b in range(B)
    ]
    whole = omega(cell, params, state, xs, lambda ys: jnp.sum(ys**2))
    np.testing.assert_allclose(whole, np.mean(each), rtol=1e-12)


def test_orthogonal_weights_of_a_linear_network_are_not_penalised(key):
    w = jax.nn.initializers.orthogonal()(key, (5, 5))
    xs = jax.random.normal(key, (7, 5))

    def penalty(scale):
        return omega(linear, scale * w, jnp.zeros(5), xs, lambda ys: jnp.sum(ys[-1] ** 2))

    np.testing.assert_allclose(penalty(1.0), 0, atol=1e-10)
    np.testing.assert_allclose(penalty(3.0), 7 * 4, rtol=1e-5)


def test_one_step():
    value = omega(linear, 3 * jnp.eye(2), jnp.zeros(2), jnp.ones((1, 2)), lambda ys: ys[0, 0])
    np.testing.assert_allclose(value, 4, rtol=1e-6)


def test_steps_without_an_error_count_nothing():
    xs = jnp.ones((9, 2))
    first_three = omega(linear, 3 * jnp.eye(2), jnp.zeros(2), xs, lambda ys: ys[2, 0])
    np.testing.assert_allclose(first_three, 3 * 4, rtol=1e-6)
    case = linear, jnp.eye(2), jnp.zeros(2), xs
    assert float(omega(*case, lambda ys: 0.0 * ys.sum())) == 0


def test_zero_weights(key):
    """Nothing passes: each step but the ones without an error counts 1, with a gradient of 0."""
    cell = rx.cells.elman(2, 3)
    params = jax.tree.map(jnp.zeros_like, cell.init(key))
    value, slope = jax.value_and_grad(
        lambda p: omega(cell, p, None, jnp.ones((4, 2)), lambda ys: jnp.sum(ys + ys**2))
    )(params)
    assert float(value) == 4
    assert_same(slope, params)


def test_errors_below_every_float_still_count():
    """After 1,000 steps the error is 2^-1000 of itself, and its share of the sum the same."""
    value, slope = jax.value_and_grad(
        lambda w: omega(linear, w, jnp.zeros(1), jnp.ones((1000, 1)), lambda ys: ys[-1, 0])
    )(jnp.array([[0.5]]))
    np.testing.assert_allclose(value, 250, rtol=1e-6)
    np.testing.assert_allclose(slope, [[-1000]], rtol=1e-6)


def test_under_jit_in_a_loss_of_its_own(key):
    """As in training: added to the loss, differentiated, compiled; descent preserves the error."""
    cell = rx.cells.elman(2, 8, recurrent_init=rx.cures.init.orthogonal(0.6))
    params, xs = cell.init(key), jax.random.normal(key, (20, 4, 2))

    @jax.jit
    def descend(params):
        value, slope = jax.value_and_grad(
            lambda p: omega(cell, p, None, xs, lambda ys: jnp.mean(ys[-1] ** 2))
        )(params)
        return value, jax.tree.map(lambda p, g: p - 0.02 * g, params, slope)

    values = []
    for _ in range(15):
        value, params = descend(params)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]


def test_bfloat16_gives_float32():
    cell, params, state, xs = make_case("elman_tanh", "bfloat16")
    value = omega(cell, params, state, xs, lambda ys: jnp.mean(ys.astype(jnp.float32)))
    assert value.dtype == "float32"
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, state, xs))
    np.testing.assert_allclose(value, omega(cell, *wide, jnp.mean), rtol=0.05)


def test_mistakes():
    case = linear, jnp.eye(2), jnp.zeros(2), jnp.ones((3, 2))
    with pytest.raises(TypeError, match=r"\Aloss must be a function of the outputs ys, got 3"):
        omega(*case, 3)
    with pytest.raises(TypeError, match=r"\Aloss must take the outputs ys and return a real sca"):
        omega(*case, lambda ys: ys)
    with says(
        ValueError,
        "xs is not finite: nan at index (0, 0), 6 such entries in all. Drop or fill those steps: "
        "one NaN spoils all later ones.",
    ):
        omega(*case[:3], jnp.full((3, 2), jnp.nan), lambda ys: ys.sum())
