"""The edge of chaos, against integrals on a fine grid and networks at it."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from close import says

import recurrax as rx
from recurrax.cures import init


def moment(function, q):
    """E[f(u)], u normal of variance q, on a grid far finer than it needs."""
    z, step = np.linspace(-12, 12, 400_001, retstep=True)
    return np.sum(np.exp(-0.5 * z**2) * function(q**0.5 * z)) * step / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("variance", [1e-6, 1e-2, 1.0, 30.0, 1e4])
def test_the_fixed_point_and_its_slope(variance):
    """Both equations, by another grid: q is reproduced, and chi is 1."""
    made = init.critical(input_variance=0.75 * variance, bias_variance=0.25 * variance)
    square = moment(lambda u: np.tanh(u) ** 2, made.q)
    slope = moment(lambda u: (1 - np.tanh(u) ** 2) ** 2, made.q)
    np.testing.assert_allclose(made.gain**2 * square + variance, made.q, rtol=1e-9)
    np.testing.assert_allclose(made.gain**2 * slope, 1, rtol=1e-9)


def test_without_input_it_is_one():
    assert (init.critical().gain, init.critical().q) == (1.0, 0.0)
    # Near there, q is the cube root of 3 v / 4, and sigma_w is 1 + q.
    tiny = init.critical(bias_variance=1e-15)
    np.testing.assert_allclose(tiny.q, (0.75e-15) ** (1 / 3), rtol=1e-4)
    np.testing.assert_allclose(tiny.gain - 1, tiny.q, rtol=1e-4)


def test_it_rises_with_the_input():
    gains = [init.critical(input_variance=v).gain for v in (0, 1e-9, 1e-3, 1, 1e3, 1e12)]
    assert np.all(np.diff(gains) > 0)
    assert np.isfinite(gains).all()


def test_weights_have_that_size(key):
    made = init.critical(input_variance=1.0)
    normal = np.asarray(made(key, (64, 64)))
    assert abs(normal.mean()) < 4 * made.gain / 64**1.5  # four standard errors
    np.testing.assert_allclose(64 * normal.var(), made.gain**2, rtol=0.1)
    orthogonal = init.critical(input_variance=1.0, distribution="orthogonal")(key, (16, 16))
    np.testing.assert_allclose(orthogonal.T @ orthogonal, made.gain**2 * np.eye(16), atol=1e-4)


def test_mean_field_theory_of_the_microscope_agrees(key):
    """`flow.predict` follows a population of units, and knows nothing of a fixed point."""
    cell = rx.cells.elman(8, 128, recurrent_init=init.critical(input_variance=1.0))
    xs = jax.random.normal(jax.random.key(1), (30, 4, 8))
    rates = []
    for factor in (0.8, 1.0, 1.25):
        params = cell.init(key)
        params = params._replace(w_rec=factor * params.w_rec)
        rates.append(float(rx.flow.predict(cell, params, None, xs, weights="untied").rate))
    assert rates[0] < -0.1
    assert abs(rates[1]) < 0.03
    assert rates[2] > 0.1


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_a_network_at_it_holds_its_gradient(distribution, key):
    """Measured, of one network: inputs of variance 1, fresh at every step."""
    made = init.critical(input_variance=1.0, distribution=distribution)
    cell = rx.cells.elman(8, 96, recurrent_init=made)
    xs = jax.random.normal(jax.random.key(1), (30, 8))
    rates = []
    for factor in (0.7, 1.0, 1.4):
        params = cell.init(key)
        params = params._replace(w_rec=factor * params.w_rec)
        log = rx.flow.decay(cell, params, None, xs).log_frobenius
        rates.append(float(log[-1] - log[9]) / 20)
    assert rates[0] < -0.15
    assert abs(rates[1]) < 0.06
    assert rates[2] > 0.1


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"input_variance": -1.0},
            ValueError,
            "input_variance must be from 0 to 1e+12, got -1.0",
        ),
        (
            {"bias_variance": 2e12},
            ValueError,
            "bias_variance must be from 0 to 1e+12, got 2000000000000.0",
        ),
        ({"bias_variance": None}, TypeError, "bias_variance must be a number, got None"),
        (
            {"distribution": "uniform"},
            ValueError,
            "distribution must be one of 'normal', 'orthogonal'; got 'uniform'",
        ),
    ],
)
def test_bad_arguments(options, kind, text):
    with says(kind, text):
        init.critical(**options)
