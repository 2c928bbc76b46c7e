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


# --- measured -------------------------------------------------------------------------------------


def test_measured_agrees_with_the_closed_form():
    """Of inputs of variance 1, as far as 32 units are many."""
    xs = jax.random.normal(jax.random.key(1), (60, 8, 16))
    measured = init.critical(rx.cells.elman(16, 32), xs, seeds=2)
    assert measured.gain == pytest.approx(init.critical(input_variance=1.0).gain, rel=0.06)
    assert measured.q is None


def small():
    return jax.random.normal(jax.random.key(1), (20, 4, 2))


def test_a_measured_one_is_a_value(key):
    """The mean of what `calibrate` finds for the seeds; it prints as a call that makes it again."""
    cell = rx.cells.gru(2, 4)
    made = init.critical(cell, small(), seeds=2, key=key)
    params = jax.vmap(cell.init)(jax.random.split(key, 2))
    gains = rx.cures.calibrate(cell, params, small()).adjusted
    np.testing.assert_allclose(made.gain, np.mean(gains))
    again = eval(repr(made), {"critical": init.critical})  # its own words
    assert (again, hash(again)) == (made, hash(made))
    assert init.critical(gain=2.0) != init.critical(gain=2.0, base=init.identity())
    drawn = rx.cells.gru(2, 4, recurrent_init=made).init(key)
    plain = cell.init(key)
    np.testing.assert_allclose(drawn.w_rec, made.gain * plain.w_rec, rtol=1e-5)
    np.testing.assert_array_equal(drawn.w_in, plain.w_in)


def test_gates_that_are_drawn_differently():
    row = (init.identity(), init.orthogonal(), init.orthogonal(0.5))
    made = init.critical(rx.cells.gru(2, 4, recurrent_init=row), small(), seeds=1)
    shown = [f"critical(gain={made[0].gain!r}, base={each!r})" for each in row]
    assert list(map(repr, made)) == shown
    rx.cells.gru(2, 4, recurrent_init=made)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"cell": rx.cells.gru(2, 4)},
            ValueError,
            "cell needs xs, the inputs [T, *batch, I] on which its gain is measured: "
            "critical(cell, xs)",
        ),
        (
            {"xs": 1.0},
            ValueError,
            "xs is what a cell is measured on: give the cell too, critical(cell, xs)",
        ),
        (
            {"cell": rx.cells.gru(2, 4), "xs": 1.0, "input_variance": 1.0},
            ValueError,
            "cell and input_variance are two ways to find the gain: leave one of them out",
        ),
        (
            {"gain": 1.0, "distribution": "orthogonal"},
            ValueError,
            "gain and distribution are two ways to find the gain: leave one of them out",
        ),
        (
            {"cell": rx.stack(rx.cells.gru(2, 4)), "xs": 1.0},
            TypeError,
            "critical makes the recurrent_init of one cell of rx.gated_cell or rx.cells, and "
            "stack(gru(2, 4, float32)) has none: take the cells of a stack one by one, and for "
            "params that are drawn in another way rx.cures.calibrate",
        ),
        (
            {"cell": rx.cells.gru(2, 4), "xs": 1.0, "gates": 3},
            ValueError,
            "gates must be 1 for a cell, which asks gate by gate, got 3",
        ),
        *(
            (
                {"input_variance": 1.0, name: value},
                ValueError,
                f"{name} is for a cell that is measured: leave it out, or give a cell",
            )
            for name, value in {"mask": 3, "seeds": -3, "key": jax.random.key(0)}.items()
        ),
        *(
            (
                {**options, "base": init.identity()},
                ValueError,
                "base is what a known gain is a factor of: leave it out, or give gain",
            )
            for options in ({"input_variance": 1.0}, {"cell": rx.cells.gru(2, 4), "xs": 1.0})
        ),
        ({"gain": -1.0}, ValueError, "gain must not be negative, got -1.0"),
    ],
)
def test_bad_arguments_of_a_measured_one(options, kind, text):
    with says(kind, text):
        init.critical(**options)


# --- mistakes -------------------------------------------------------------------------------------


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
