"""The decay is differentiable: its gradient against finite differences in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
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
    """`[2]`: both norms at T, summed over the batch."""

    def f(params):
        decay = rx.flow.decay(cell, params, state, xs, **options)
        return jnp.stack([jnp.sum(decay.log_norm[-1]), jnp.sum(decay.log_frobenius[-1])])

    return f


def finite_difference(f, params, direction, step=1e-5):
    ahead, back = (
        f(jax.tree.map(lambda p, d, s=s: p + s * step * d, params, direction)) for s in (1, -1)
    )
    return (ahead - back) / (2 * step)


def along(jacobian, direction):
    """The directional derivative, from a Jacobian whose leaves have one more axis in front."""
    pairs = zip(jax.tree.leaves(jacobian), jax.tree.leaves(direction), strict=True)
    return sum(jnp.tensordot(j, d, d.ndim) for j, d in pairs)


@pytest.mark.parametrize("name", CELLS)
def test_gradient_by_params(name):
    cell, params, state, xs = posed(name)
    f = jax.jit(last(cell, state, xs))
    jacobian = jax.jit(jax.jacrev(f))(params)
    for seed in (4, 5):
        direction = like(seed, params)
        expected = finite_difference(f, params, direction)
        assert (abs(expected) > 1e-2).all()
        np.testing.assert_allclose(along(jacobian, direction), expected, rtol=2e-6)


def test_forward_and_reverse_derivatives_agree():
    cell, params, state, xs = posed("lstm, N = 32")
    f, direction = last(cell, state, xs), like(4, params)
    _, tangent = jax.jit(lambda p: jax.jvp(f, (p,), (direction,)))(params)
    reverse = along(jax.jit(jax.jacrev(f))(params), direction)
    assert_close(tangent, reverse, rtol=1e-10)


def test_gradient_of_a_batch_is_the_sum_over_its_examples():
    cell, params, state, xs = posed("lstm, N = 32", (2,))
    whole = jax.jit(jax.jacrev(last(cell, state, xs)))(params)

    def one(b):
        return jax.jit(jax.jacrev(last(cell, jax.tree.map(lambda a: a[b], state), xs[:, b])))(params)

    total = jax.tree.map(jnp.add, one(0), one(1))
    assert_close(whole, total, rtol=1e-7, atol=1e-8)


def test_gradient_is_finite_where_the_norm_is_not_a_float32():
    """The norm itself is e^-700; its log moves by T / w with a scalar weight w."""
    slope = jax.grad(
        lambda w: rx.flow.decay(
            lambda w, h, x: (w * h, h), w, jnp.float32(1), jnp.zeros((1000, 1), "f4")
        ).log_norm[-1]
    )(jnp.float32(0.5))
    np.testing.assert_allclose(slope, 2000, rtol=1e-5)


def test_gradient_of_the_probed_frobenius_norm():
    """The random directions are constants, so the estimate has its own derivative."""
    cell, params, state, xs = posed("lstm, N = 32")
    f = jax.jit(last(cell, state, xs, probes=6))
    direction = like(4, params)
    got = along(jax.jit(jax.jacrev(f))(params), direction)
    expected = finite_difference(f, params, direction)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-6)
    assert bool(jnp.isfinite(got[0]))
