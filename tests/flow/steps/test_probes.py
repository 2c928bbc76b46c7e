"""The decay of a large state from a few directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import says
from contract import like, make_case

import recurrax as rx
from recurrax import keys
from recurrax.flow.steps.probes import target_times

T, B = 70, 2


def problem(name):
    """Four cells, from N = 20 to 40; all that is not gated goes through jvp and vjp."""
    cell = {
        "elman": rx.cells.elman(3, 20),
        "lstm": rx.cells.lstm(3, 20),
        "plain": rx.residual(rx.cells.gru(24, 24)),
    }[name]
    params = jax.eval_shape(cell.init, jax.random.key(0))
    params = like(1, params, 1 / params.w_rec.shape[0] ** 0.5)
    state = like(2, cell.initial_state(params, (B,)), 0.5)
    return cell, params, state, like(3, jnp.zeros((T, B, params.w_in.shape[0])))


@pytest.mark.parametrize("name", ["lstm", "plain"])
def test_a_lower_bound_that_is_close_and_an_estimate(name):
    case = problem(name)
    exact, probed = rx.flow.decay(*case), rx.flow.decay(*case, probes=6)
    assert probed.log_norm.shape == (T, B)
    rounding = 2e-6 * abs(exact.log_norm) + 2e-6
    assert (probed.log_norm <= exact.log_norm + rounding).all()
    missing = exact.log_norm - probed.log_norm
    assert float(missing.max()) < 0.5
    targets = np.asarray([t for t in target_times(T) if t >= 16]) - 1
    assert float(missing[targets].max()) < 0.05
    # Six directions of N: two standard deviations of the log are about sqrt(2 / 6) at most.
    assert float(abs(probed.log_frobenius - exact.log_frobenius).max()) < 1.2
    # Where it is a lower bound of the spectral norm, it is one of the Frobenius norm too.
    assert (probed.log_norm <= exact.log_frobenius + rounding).all()


@pytest.mark.parametrize("probes", [20, 1000])
def test_exact_with_as_many_directions_as_there_are(probes):
    case = problem("elman")
    exact, probed = rx.flow.decay(*case), rx.flow.decay(*case, probes=probes)
    np.testing.assert_allclose(probed.log_norm, exact.log_norm, rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(probed.log_frobenius, exact.log_frobenius, rtol=3e-5, atol=3e-5)


def test_one_step_is_enough():
    cell, params, state, xs = problem("elman")
    exact = rx.flow.decay(cell, params, state, xs[:1])
    probed = rx.flow.decay(cell, params, state, xs[:1], probes=20)
    np.testing.assert_allclose(probed.log_norm, exact.log_norm, rtol=3e-5, atol=3e-5)


def test_the_square_is_unbiased():
    """Mean over 200 keys of the ratio of the squares: 1 within five standard errors."""
    cell, params, state, xs = problem("elman")
    one = (jax.tree.map(lambda a: a[0], state), xs[:12, 0])
    exact = rx.flow.decay(cell, params, *one).log_frobenius

    @jax.jit
    @jax.vmap
    def probed(key):
        return rx.flow.decay(cell, params, *one, probes=4, key=key).log_frobenius

    ratio = np.exp(2 * np.asarray(probed(jax.random.split(jax.random.key(7), 200)) - exact))
    error = ratio.std(0) / 200**0.5
    assert error.max() < 0.06  # the test has power
    assert (abs(ratio.mean(0) - 1) < 5 * error).all()


def test_another_key_gives_another_estimate_and_the_same_key_the_same():
    case = problem("elman")
    first, again, other = (
        rx.flow.decay(*case, probes=3, key=jax.random.key(seed)).log_frobenius for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()
    usual = rx.flow.decay(*case, probes=3).log_frobenius
    own = rx.flow.decay(*case, probes=3, key=keys.own(keys.DIRECTIONS)).log_frobenius
    assert (usual == own).all()
    assert (usual != first).any()  # key 0 is the user's


def test_leaves():
    """From c to h: the directions are chosen for the rows that are asked for."""
    case = problem("lstm")
    exact = rx.flow.decay(*case, of="h", wrt="c")
    probed = rx.flow.decay(*case, of="h", wrt="c", probes=5)
    missing = exact.log_norm - probed.log_norm
    rounding = 3e-6 * abs(exact.log_norm) + 3e-6
    assert (missing >= -rounding).all()
    targets = np.asarray(target_times(T)) - 1
    assert float(missing[targets].max()) < 0.3  # whatever the directions that were drawn
    # All 20 directions of c are exact, though h and c together are 40.
    probed = rx.flow.decay(*case, of="h", wrt="c", probes=20)
    assert (abs(exact.log_norm - probed.log_norm) <= rounding).all()


def test_small_rows_are_found():
    """The rows asked for are a thousandth of the rest: directions for the rest would miss them."""

    def step(w, state, x):
        big = state["big"] * 1.0
        return {"big": big, "small": 1e-3 * (state["big"] @ w)}, big

    # Every big unit keeps its gradient; only one direction of them reaches the small ones.
    direction = like(0, jnp.zeros(30))
    w = direction[:, None] * jnp.ones((1, 2)) / jnp.linalg.norm(direction)
    state = {"big": jnp.zeros(30), "small": jnp.zeros(2)}
    options = {"of": "['small']", "wrt": "['big']"}
    exact = rx.flow.decay(step, w, state, jnp.zeros((3, 1)), **options)
    probed = rx.flow.decay(step, w, state, jnp.zeros((3, 1)), probes=2, **options)
    np.testing.assert_allclose(exact.log_norm, np.log(1e-3 * 2**0.5), rtol=1e-5)
    np.testing.assert_allclose(probed.log_norm, exact.log_norm, rtol=1e-4)


@pytest.mark.parametrize(
    ("probes", "kind", "text"),
    [
        (0, ValueError, "probes must be a positive integer, got 0"),
        (-2, ValueError, "probes must be a positive integer, got -2"),
        (True, ValueError, "probes must be a positive integer, got True"),
        (2.5, TypeError, "probes must be a positive integer, got 2.5"),
    ],
)
def test_how_many(probes, kind, text):
    with says(kind, text):
        rx.flow.decay(*make_case("gru", "float32"), probes=probes)


def test_target_times():
    assert target_times(1) == (1,)
    assert target_times(2) == (1, 2)
    assert target_times(64) == (1, 4, 16, 64)
    assert target_times(100) == (1, 4, 16, 64, 100)
