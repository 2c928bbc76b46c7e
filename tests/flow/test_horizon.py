"""Rate, horizon and verdict, on decays that are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import says
from hypothesis import given
from hypothesis import strategies as st

import recurrax as rx
from recurrax.flow import Decay, horizon, rate, verdict


def steady(per_step, length):
    return jnp.asarray(per_step * np.arange(1, length + 1), jnp.float32)


# --- rate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 4, 99, 100])
@pytest.mark.parametrize("per_step", [-0.25, 0.0, 0.5])
def test_rate_of_a_steady_decay(length, per_step):
    np.testing.assert_allclose(rate(steady(per_step, length)), per_step, rtol=1e-6)


@pytest.mark.parametrize(
    ("log_norm", "expected"),
    [
        ([-3.0], -3.0),  # T = 1: from log norm 0 at t = 0
        ([5.0, 4.0], -1.0),
        ([5.0, 4.0, 1.0], -2.0),  # T = 3: from t = 1 to 3
        ([9.0, 5.0, 4.0, 1.0], -2.0),  # T = 4: from t = 2 to 4
        ([1.0, -np.inf], -np.inf),
        ([-np.inf] * 4, -np.inf),
    ],
)
def test_rate_is_the_slope_of_the_second_half(log_norm, expected):
    assert float(rate(jnp.asarray(log_norm))) == expected


def test_rate_leaves_out_the_transient_growth():
    """[[a, 1], [0, a]]^t grows before it decays; over its second half the slope is nearer."""
    a, t = 0.9, np.arange(1, 201)
    log_norm = t * np.log(a) + np.arcsinh(t / a / 2)
    got = float(rate(jnp.asarray(log_norm)))
    assert abs(got - np.log(a)) < abs(log_norm[-1] / 200 - np.log(a)) / 2


def test_takes_a_decay_or_its_log_norm_and_any_batch():
    log_norm = jnp.stack([steady(-0.1, 50), steady(0.1, 50)], 1)
    decay = Decay(log_norm, log_norm + 1)
    np.testing.assert_allclose(rate(decay), [-0.1, 0.1], rtol=1e-5)
    np.testing.assert_array_equal(rate(decay), rate(log_norm))
    two = rate(jnp.stack([log_norm, 2 * log_norm], 1))
    np.testing.assert_allclose(two, [[-0.1, 0.1], [-0.2, 0.2]], rtol=1e-5)
    assert horizon(decay).steps.shape == horizon(decay).reached.shape == (2,)


# --- horizon ------------------------------------------------------------------------------------


@given(st.floats(-2, -0.01), st.sampled_from([1, 2, 7, 60]), st.floats(0.01, 0.9))
def test_horizon_of_a_steady_decay_is_the_log_over_the_rate(per_step, length, below):
    """Seen or carried on, it is the first whole step below the fraction."""
    exact = np.log(below) / per_step
    got = horizon(steady(per_step, length), below=below)
    assert exact * (1 - 1e-5) - 1e-3 <= float(got.steps) <= exact * (1 + 1e-5) + 1 + 1e-3
    if abs(length - exact) > 1.01:
        assert bool(got.reached) == (length > exact)


def test_default_is_about_three_over_the_rate():
    assert float(horizon(steady(-0.1, 100)).steps) == 30  # log 0.05 = -2.996
    assert float(horizon(steady(-0.01, 100)).steps) == 300


@pytest.mark.parametrize(
    ("log_norm", "steps", "reached"),
    [
        ([-4.0], 1, True),  # T = 1
        ([-1.0], 3, False),  # carried on: -1, -2, -3
        ([0.0], np.inf, False),
        ([1.0], np.inf, False),
        ([-1.0, -4.0, -1.0, -5.0, -6.0], 4, True),  # stays below from t = 4 on
        ([-4.0, -4.0, -1.0], np.inf, False),  # comes back, and grows
        ([-1.0, -np.inf, -np.inf], 2, True),
        ([-np.inf], 1, True),
        ([-2.0, -2.5], 3, False),
    ],
)
def test_horizon_by_hand(log_norm, steps, reached):
    got = horizon(jnp.asarray(log_norm))
    assert (float(got.steps), bool(got.reached)) == (steps, reached)


def test_horizon_of_nan_is_nan():
    got = horizon(jnp.asarray([-1.0, jnp.nan, -9.0]))
    assert np.isnan(got.steps)
    assert not bool(got.reached)


def test_below_means_strictly_below():
    """At a half to the t, the norm is at 1/4 after two steps and under it after three."""
    log_norm = jnp.asarray(np.log(0.5 ** np.arange(1, 6)), jnp.float32)
    assert float(horizon(log_norm, below=0.25).steps) == 3
    assert float(horizon(log_norm[:1], below=0.25).steps) == 3


def test_horizon_works_under_jit():
    got = jax.jit(horizon)(steady(-0.1, 100))
    assert (float(got.steps), bool(got.reached)) == (30, True)


# --- verdict ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("final", "word"),
    [
        ([-3.1], "vanishes"),
        ([-2.9], "holds"),
        ([0.0], "holds"),
        ([2.9], "holds"),
        ([3.1], "explodes"),
        ([-np.inf], "vanishes"),
        ([-9.0, 0.0, 9.0], "holds"),  # the median of the batch
        ([-9.0, -9.0, 9.0], "vanishes"),
        ([-np.inf, -np.inf], "vanishes"),
    ],
)
def test_verdict(final, word):
    """log 20 = 2.996, above or below."""
    assert verdict(jnp.asarray([[0.0] * len(final), final])) == word


def test_verdict_by_another_factor():
    assert verdict(jnp.asarray([-1.0]), factor=2) == "vanishes"
    assert verdict(jnp.asarray([-5.0]), factor=1000.0) == "holds"


def test_the_words_of_three_real_networks():
    cell = rx.cells.elman(1, 8)  # orthogonal weights
    params = cell.init(jax.random.key(0))
    still = params._replace(w_in=0 * params.w_in)
    for scale, word in ((0.5, "vanishes"), (1.0, "holds"), (2.0, "explodes")):
        now = still._replace(w_rec=scale * still.w_rec)
        state, xs = cell.initial_state(now), jnp.zeros((20, 1))
        assert verdict(rx.flow.decay(cell, now, state, xs)) == word


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("question", [rate, horizon, verdict])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_no_time_steps(question, shape):
    with says(
        ValueError,
        f"decay must be a rx.flow.Decay or its log_norm [T, *batch] with T >= 1, got shape {shape}",
    ):
        question(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("below", "kind", "text"),
    [
        (0, ValueError, "below must be between 0 and 1, got 0"),
        (1.0, ValueError, "below must be between 0 and 1, got 1.0"),
        (float("nan"), ValueError, "below must be finite, got nan"),
        ("5%", TypeError, "below must be a number, got '5%'"),
    ],
)
def test_below_that_is_no_fraction(below, kind, text):
    with says(kind, text):
        horizon(jnp.zeros(3), below=below)


@pytest.mark.parametrize(
    ("factor", "kind", "text"),
    [
        (1, ValueError, "factor must be above 1, got 1"),
        (True, TypeError, "factor must be a number, got True"),
    ],
)
def test_factor_that_is_no_factor(factor, kind, text):
    with says(kind, text):
        verdict(jnp.zeros(3), factor=factor)


def test_verdict_of_nan():
    with says(ValueError, "decay holds NaN, so there is no verdict: was the trajectory finite?"):
        verdict(jnp.asarray([0.0, jnp.nan]))


def test_verdict_of_what_is_traced():
    with says(TypeError, "verdict returns a word, which depends on values: call it outside jit"):
        jax.jit(lambda d: jnp.zeros(len(verdict(d))))(jnp.zeros(3))


@pytest.mark.parametrize("question", [rx.flow.rate, rx.flow.horizon, rx.flow.verdict])
def test_another_result_than_a_decay(question):
    """A gradient map has a `log_norm` too, but no time that leads it."""
    other = rx.flow.GradientMap(*(jnp.zeros((3, 3)),) * 4)
    for got, name in ((other, "GradientMap"), ("a", "str"), (None, "NoneType")):
        with says(
            TypeError,
            f"decay must be a rx.flow.Decay or its log_norm [T, *batch], got a {name}. "
            "rx.flow.decay(cell, params, state, xs) gives one.",
        ):
            question(got)


def test_what_follows_the_last_step_that_counts_is_no_part_of_a_row():
    """An episode ends within the padding: the row is as it would be alone."""
    alone = jnp.asarray([-1.0, -2.0])
    padded = jnp.asarray([-1.0, -2.0, -2.0, -jnp.inf])
    row = Decay(padded, padded, jnp.asarray([1, 2, 2, 2]))
    assert rate(row) == rate(alone)
    assert horizon(row).steps == horizon(alone).steps
    assert verdict(row) == verdict(alone) == "holds"


def test_a_reset_between_steps_that_count_cuts():
    logs = jnp.asarray([-1.0, -jnp.inf, -jnp.inf])
    row = Decay(logs, logs, jnp.asarray([1, 1, 2]))
    assert rate(row) == -jnp.inf
    assert horizon(row).steps == 2
    assert verdict(row) == "vanishes"
