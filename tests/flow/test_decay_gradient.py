"""The decay is differentiable: its gradient against finite differences in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import like

import recurrax as rx

pytestmark = pytest.mark.usefixtures("x64")

CELLS = {
    "gru, N = 5": rx.cells.gru(3, 5, dtype="float64"),
    "lstm, N = 32": rx.cells.lstm(3, 16, dtype="float64"),
    "plain, N = 30": rx.residual(rx.cells.elman(30, 30, dtype="float64")),
}


def posed(name, batch=()):
    cell = CELLS[name]
    params = jax.eval_shape(cell.init, jax.random.key(0))
    size, hidden = params.w_in.shape[0], params.w_rec.shape[0]
    params = like(1, params, 1 / hidden**0.5)
    state = like(2, cell.initial_state(params, batch), 0.5)
    return cell, params, state, like(3, jnp.zeros((8, *batch, size)))


def last(cell, state, xs, **options):
    """A sum of both norms at T, over the batch too, and its gradient by the params."""

    @jax.jit
    @jax.value_and_grad
    def f(params):
        decay = rx.flow.decay(cell, params, state, xs, **options)
        return jnp.sum(decay.log_norm[-1] + 0.7 * decay.log_frobenius[-1])

    return f


def finite_difference(f, params, direction, step=1e-5):
    ahead, back = (
        f(jax.tree.map(lambda p, d, s=s: np.asarray(p) + s * step * d, params, direction))
        for s in (1, -1)
    )
    return (ahead - back) / (2 * step)


def along(gradient, direction):
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    return sum(np.vdot(g, d) for g, d in pairs)


@pytest.mark.parametrize("name", CELLS)
def test_gradient_by_params(name):
    cell, params, state, xs = posed(name)
    f = last(cell, state, xs)
    gradient = f(params)[1]
    for seed in (4, 5):
        direction = like(seed, params)
        expected = finite_difference(lambda p: f(p)[0], params, direction)
        assert abs(expected) > 1e-2
        np.testing.assert_allclose(along(gradient, direction), expected, rtol=2e-6)


def test_gradient_of_each_norm_by_the_initial_state():
    """Both norms by themselves, forward and reverse, and by the state as well as by the params."""
    cell, params, state, xs = posed("gru, N = 5")

    def f(state):
        decay = rx.flow.decay(cell, params, state, xs)
        return jnp.stack([decay.log_norm[-1], decay.log_frobenius[-1]])

    direction = like(4, state)
    run = jax.jit(lambda state: jax.jvp(f, (state,), (direction,)))
    tangent = run(state)[1]
    expected = finite_difference(lambda state: run(state)[0], state, direction)
    np.testing.assert_allclose(tangent, expected, rtol=2e-6)
    reverse = jax.jit(jax.jacrev(f))(state).h @ direction.h
    np.testing.assert_allclose(reverse, tangent, rtol=1e-10)


def test_gradient_of_a_batch_is_the_sum_over_its_examples():
    cell, params, state, xs = posed("lstm, N = 32", (2,))
    f = last(cell, state, xs)
    direction = like(4, params)
    got = along(f(params)[1], direction)
    expected = finite_difference(lambda p: f(p)[0], params, direction)
    np.testing.assert_allclose(got, expected, rtol=2e-6)


def test_gradient_is_finite_where_the_norm_is_not_a_float32():
    """The norm itself is e^-700; its log moves by T / w with a scalar weight w."""
    slope = jax.grad(
        lambda w: rx.flow.decay(
            lambda w, h, x: (w * h, h), w, jnp.float32(1), jnp.zeros((1000, 1), "f4")
        ).log_norm[-1]
    )(jnp.float32(0.5))
    np.testing.assert_allclose(slope, 2000, rtol=1e-5)


def test_gradient_of_the_probed_frobenius_norm():
    """The random directions are constants, so the estimate has a derivative like any other."""
    cell, params, state, xs = posed("gru, N = 5")

    def f(params):
        decay = rx.flow.decay(cell, params, state, xs, probes=2)
        return decay.log_frobenius[-1], decay.log_norm[-1]

    direction = like(4, params)
    run = jax.jit(lambda params: jax.jvp(f, (params,), (direction,)))
    tangent, bound = run(params)[1]
    expected = finite_difference(lambda params: run(params)[0][0], params, direction)
    np.testing.assert_allclose(tangent, expected, rtol=2e-6)
    got = along(jax.jit(jax.grad(lambda params: f(params)[0]))(params), direction)
    np.testing.assert_allclose(got, tangent, rtol=2e-6)
    assert np.isfinite(bound)


@pytest.mark.parametrize("hidden", [3, 30])
@pytest.mark.parametrize("field", ["log_norm", "log_frobenius"])
def test_second_derivatives_are_refused(key, hidden, field):
    cell = rx.cells.elman(2, hidden, dtype=jnp.float64)
    params = cell.init(key)
    xs = jnp.ones((4, 2))

    def last(scale):
        scaled = params._replace(w_rec=params.w_rec * scale)
        return getattr(rx.flow.decay(cell, scaled, None, xs), field)[-1]

    for twice in (
        jax.grad(jax.grad(last)),
        jax.jacfwd(jax.grad(last)),
        jax.jacfwd(jax.jacfwd(last)),
    ):
        with pytest.raises(NotImplementedError, match=r"flow\.decay has first derivatives only"):
            twice(1.0)
