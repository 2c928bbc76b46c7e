"""Exponents are right by default: the interval between eliminations costs none of their digits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.volume import ikeda, lozi, standard
from brute_force import chosen

import recurrax as rx
from recurrax.flow.steps.growth import detour

lyapunov = rx.flow.lyapunov

# By which the sum of all exponents may miss the mean of log |det A_t|, at default settings.
WITHIN = {"float64": 1e-9, "float32": 1e-5}


@pytest.fixture(params=WITHIN)
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def misses(found, expected):
    """The error of the sum, relative to the sum of the exponents' sizes where that is above 1."""
    exponents = np.asarray(found.exponents, np.float64)
    return abs(exponents.sum() - expected) / max(1, np.abs(exponents).sum())


# --- maps whose determinant is the same everywhere -----------------------------------------------


@pytest.mark.parametrize(
    ("step", "number", "log_det", "starts", "length"),
    [
        (standard, 1.0, 0.0, 12, 20_000),  # quiet for long, then stretching
        (standard, 6.5, 0.0, 4, 1_000),
        (lozi, 0.5, np.log(0.5), 4, 2_000),
        (ikeda, 0.9, 2 * np.log(0.9), 4, 2_000),
    ],
)
def test_maps_keep_their_volume(dtype, step, number, log_det, starts, length):
    """At any start, and with room: a block is not accepted with an error that could add up."""
    high = 2 * np.pi if step is standard else 0.4
    for start in np.random.default_rng(3).uniform(0, high, (starts, 2)):
        found = lyapunov(step, number, tuple(jnp.asarray(start, dtype)), length=length)
        assert misses(found, log_det) < WITHIN[dtype]
        assert found.condition * jnp.finfo(dtype).eps < 2 * jnp.finfo(dtype).eps ** 0.5


# --- networks ------------------------------------------------------------------------------------


def test_an_lstm_that_remembers_keeps_its_volume(dtype):
    cell = rx.cells.lstm(4, 8, forget_bias=5.0, dtype=dtype)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (640, 4), dtype)
    found = lyapunov(cell, params, None, xs)
    matrices = np.asarray(rx.flow.jacobians(cell, params, None, xs), np.float64)
    expected = np.linalg.slogdet(matrices[64:])[1].mean()
    assert misses(found, expected) < WITHIN[dtype]
    assert np.max(found.every) > 1  # it was not simply an elimination at every step


def test_a_network_that_is_quiet_and_then_kicked_keeps_its_volume(dtype):
    """Hardly anything happens, until every 37 steps three kicks stretch a hundredfold."""
    draw = np.random.default_rng(0).standard_normal((4, 5, 5))
    quiet, *kicks = np.eye(5) + draw * np.array([0.01, 100, 100, 100])[:, None, None]
    which = np.maximum(np.arange(1110) % 37 - 33, 0)
    ws = np.stack([quiet, *kicks])
    found = lyapunov(chosen, jnp.asarray(ws, dtype), jnp.zeros(5, dtype), jnp.asarray(which))
    expected = np.linalg.slogdet(ws.astype(dtype).astype(float))[1][which[111:]].mean()
    assert misses(found, expected) < WITHIN[dtype]
    assert np.max(found.every) > 1


def undone(stretch, steps, dtype):
    """Matrices that stretch along one direction for some steps, and then undo it, and wait."""
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))[0]
    still = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    pull = turn @ np.diag([stretch, 1.0, 1 / stretch]) @ turn.T
    which = np.zeros(1920, int)
    for start in range(40, 1900, 60):
        which[start : start + steps] = 1
        which[start + steps : start + 2 * steps] = 2
    weights = np.stack([still, pull, np.linalg.inv(pull)])
    return jnp.asarray(np.swapaxes(weights, 1, 2), dtype), jnp.asarray(which)


@pytest.mark.usefixtures("x64")
def test_a_stretch_that_is_undone_within_an_interval_is_seen():
    """At its end nothing shows; in between, the weakest direction was e^-32 of the strongest."""
    ws, xs = undone(10.0, 7, "float64")
    found = lyapunov(chosen, ws, jnp.zeros(3), xs)
    assert misses(found, 0) < 1e-9


def test_a_detour_counts_twice():
    steps = np.arange(12.0)
    straight = jnp.asarray(3 * steps), jnp.asarray(3 * steps + 3)
    live = jnp.ones(12, bool)
    assert detour(*straight, jnp.int32(5), live) == 1
    before, after = np.zeros(12), np.zeros(12)
    after[6] = before[7] = 11  # of the interval from 5 to 9
    assert detour(jnp.asarray(before), jnp.asarray(after), jnp.int32(5), live) == 2.0**20
    assert detour(jnp.asarray(before), jnp.asarray(after), jnp.int32(1), live) == 1
    idle = live.at[:7].set(False).at[9:].set(False)  # it goes straight down, and stays there
    after[9:] = -9
    assert detour(jnp.asarray(before), jnp.asarray(after), jnp.int32(5), idle) == 1


# --- one step that is nearly singular ------------------------------------------------------------


def test_one_nearly_singular_step_loses_no_exponent():
    """Its growth counts as the most that rounding can hide, and the condition tells."""
    draw = np.random.default_rng(0)
    usual = draw.standard_normal((3, 3))
    left, right = np.linalg.qr(draw.standard_normal((2, 3, 3)))[0]
    xs = np.zeros(1500, int)
    xs[700] = 1
    found = []
    for smallest in (0.5, 1e-9):
        ws = np.stack([usual, left @ np.diag([1.0, 0.8, smallest]) @ right])
        ws = jnp.asarray(ws, jnp.float32)
        found.append(lyapunov(chosen, ws, jnp.zeros(3), jnp.asarray(xs)))
    plain, near = found
    np.testing.assert_allclose(near.exponents, plain.exponents, atol=0.02)
    # log(0.5 / 1e-9) / 1350 is 0.015, of which rounding lets be seen what is above 1e-7 or so.
    assert 0.008 < plain.exponents.sum() - near.exponents.sum() < 0.015
    assert near.condition * jnp.finfo(jnp.float32).eps > 0.05
    assert not any(np.isnan(leaf).any() for leaf in near)


def test_a_step_that_is_exactly_singular_loses_one():
    ws = jnp.stack([jnp.eye(2), jnp.diag(jnp.array([1.0, 0.0]))])
    xs = jnp.zeros(200, int).at[150].set(1)
    np.testing.assert_allclose(
        lyapunov(chosen, ws, jnp.zeros(2), xs).exponents, [0, -jnp.inf], atol=0.02
    )


# --- what stands on the same factors ------------------------------------------------------------


def test_covariant_vectors_keep_the_volume(dtype):
    """`A_t ... A_s V_s = V_t diag(growth)`, and the determinants of the standard map are 1."""
    start = tuple(jnp.asarray([3.0, 0.4], dtype))
    found = rx.flow.covariant_vectors(standard, 1.5, start, length=2000)
    grown = np.asarray(found.exponents, np.float64).sum() * (found.times[-1] - found.times[0])
    ends = np.asarray(found.vectors[jnp.array([0, -1])], np.float64)
    first, last = np.linalg.slogdet(ends)[1]
    assert abs(grown + last - first) / 1200 < WITHIN[dtype]


def test_a_wide_interval_of_covariant_vectors_is_told():
    w = jnp.array([[1.0, 0.4], [0.0, np.exp(-1.0)]], jnp.float32)
    with pytest.warns(UserWarning, match="every=10 lets the condition grow to .* Take a smaller"):
        rx.flow.covariant_vectors(chosen, w[None], jnp.zeros(2), jnp.zeros(100, int), every=10)


def test_flossing_takes_the_same_exponents(dtype):
    """All of them, of a network that is quiet and then kicked: their mean square."""
    draw = np.random.default_rng(0).standard_normal((2, 4, 4))
    ws = jnp.asarray(np.eye(4) + draw * np.array([0.01, 100])[:, None, None], dtype)
    which = jnp.arange(900) // 30 % 30 // 29
    penalty = rx.cures.flossing(chosen, ws, jnp.zeros(4, dtype), which, k=4)
    each = lyapunov(chosen, ws, jnp.zeros(4, dtype), which, burn_in=0, every=1).exponents
    np.testing.assert_allclose(penalty, np.mean(np.square(each)), rtol=100 * WITHIN[dtype])
