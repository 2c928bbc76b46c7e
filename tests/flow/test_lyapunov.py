"""Lyapunov exponents against mathematics, published data, and others' code."""

from __future__ import annotations

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import batch_jacobians, chosen, example, jacobians, linear
from close import says
from contract import make_case

import recurrax as rx
from recurrax.flow.steps.growth import first_basis

lyapunov = rx.flow.lyapunov


# --- systems that the literature knows -----------------------------------------------------------


def henon(_, s, x):
    s = jnp.stack([1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]])
    return s, s


def logistic(r, s, x):
    s = r * s * (1 - s)
    return s, s


def cat(matrix, s, x):
    s = (matrix @ s) % 1.0
    return s, s


def lorenz(dt, s, x):
    """One Runge-Kutta step of Lorenz's equations at sigma 10, rho 28, beta 8/3."""

    def rhs(s):
        x, y, z = s
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    k1 = rhs(s)
    k2 = rhs(s + dt / 2 * k1)
    k3 = rhs(s + dt / 2 * k2)
    k4 = rhs(s + dt * k3)
    s = s + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return s, s


def rate_network(weights, s, x):
    """`x' = J tanh x`."""
    s = weights @ jnp.tanh(s)
    return s, s


def random_network(size, gain, seed=0):
    draw = np.random.default_rng(seed)
    weights = jnp.asarray(gain * draw.standard_normal((size, size)) / size**0.5)
    return weights, jnp.asarray(draw.standard_normal(size))


@pytest.mark.usefixtures("x64")
def test_henon():
    """Published exponents; the sum is log 0.3 at any length, since the determinant is -0.3.

    Another rounding is another orbit, whose exponents differ by some standard errors of 1.8e-3.
    """
    found = lyapunov(henon, None, jnp.array([0.1, 0.1]), length=55_000, burn_in=5_000)
    np.testing.assert_allclose(found.exponents, [0.41922, -1.62319], atol=1.2e-2)
    np.testing.assert_allclose(found.exponents.sum(), np.log(0.3), atol=1e-9)
    np.testing.assert_allclose(found.dimension, 1.258, atol=6e-3)
    np.testing.assert_allclose(found.entropy, found.exponents[0])
    assert abs(found.exponents[0] - 0.41922) < 8 * found.standard_errors[0]
    assert 2e-4 < found.standard_errors[0] < 6e-3
    short = lyapunov(henon, None, jnp.array([0.1, 0.1]), length=77, burn_in=0)
    np.testing.assert_allclose(short.exponents.sum(), np.log(0.3), atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_logistic_map_at_four():
    found = lyapunov(logistic, 4.0, jnp.array([0.2]), length=20_000)
    np.testing.assert_allclose(found.exponents, [np.log(2)], atol=5e-3)


@pytest.mark.usefixtures("x64")
def test_arnolds_cat():
    matrix = jnp.array([[2.0, 1.0], [1.0, 1.0]])
    found = lyapunov(cat, matrix, jnp.array([0.1, 0.3]), length=1000)
    np.testing.assert_allclose(found.exponents, [0.9624237, -0.9624237], atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_lorenz():
    dt = 0.01
    found = lyapunov(lorenz, dt, jnp.array([1.0, 2.0, 20.0]), length=40_000)
    rates = found.exponents / dt
    np.testing.assert_allclose(rates[0], 0.9056, atol=6e-2)  # 360 time units: +- 9e-3 by the orbit
    np.testing.assert_allclose(rates[1], 0, atol=2e-2)
    np.testing.assert_allclose(rates[2], -14.5723, atol=6e-2)
    np.testing.assert_allclose(rates.sum(), -13.6667, atol=1e-2)


# --- linear systems ------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_one_matrix_gives_its_eigenvalues():
    w = jnp.asarray(np.random.default_rng(3).standard_normal((4, 4)))
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(w))))[::-1]
    found = lyapunov(linear, w, jnp.zeros(4), jnp.zeros((4000, 4)))
    np.testing.assert_allclose(found.exponents, expected, atol=1e-3)


def test_orthogonal_weights_hold_everything():
    w = jax.random.orthogonal(jax.random.key(0), 6)
    found = lyapunov(linear, w, jnp.zeros(6), jnp.zeros((2000, 6)))
    np.testing.assert_allclose(found.exponents, 0, atol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("every", [None, 1, 3])
def test_three_matrices_in_the_order_of_time(every):
    """`log |eig(C B A)| / 3`: the product in another order has other eigenvalues."""
    draw = np.random.default_rng(1)
    ws = jnp.asarray(np.triu(draw.standard_normal((3, 3, 3))) + draw.standard_normal((3, 3, 3)))
    a, b, c = np.swapaxes(ws, 1, 2)  # rows are vectors
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(c @ b @ a))))[::-1] / 3
    found = lyapunov(chosen, ws, jnp.zeros(3), jnp.arange(3000) % 3, every=every)
    np.testing.assert_allclose(found.exponents, expected, atol=2e-3)
    wrong = np.sort(np.log(np.abs(np.linalg.eigvals(a.T @ b @ c))))[::-1] / 3
    assert np.abs(wrong - expected).max() > 0.05


# --- identities for any cell ---------------------------------------------------------------------


# The own gated cell's h is a function of its trace; the own plain cell takes a mean away.
SINGULAR = ("own_gated", "own_plain")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lstm", "stack", *SINGULAR])
def test_the_sum_is_the_mean_log_determinant(name):
    """The volume identity, per example of a batch; every cell's maps are in test_jacobians.py."""
    cell, params, state, xs = make_case(name, "float64")
    found = lyapunov(cell, params, state, xs, burn_in=2)
    matrices = batch_jacobians(cell, params, state, xs)[2:]
    _, logs = np.linalg.slogdet(matrices)
    if name in SINGULAR:
        # Gone, or what the Jacobian's own entries hold of rounding: log eps is -36.
        assert (found.exponents[..., -1] < -30).all()
        assert not any(np.isnan(leaf).any() for leaf in found)
    else:
        np.testing.assert_allclose(found.exponents.sum(-1), logs.mean(0), rtol=1e-5)
    assert found.exponents.shape == found.standard_errors.shape


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("count", [1, 3])
def test_growth_is_that_of_gram_schmidt(count):
    """Against whole products in NumPy: the diagonal of R of `P V` for the same first V."""
    cell, params, state, xs = make_case("lstm", "float64")
    found = lyapunov(cell, params, example(state, 1), xs[:, 1], k=count, burn_in=0)
    product = first_basis(8, count, jnp.float64)
    for matrix in jacobians(cell, params, example(state, 1), xs[:, 1]):
        product = matrix @ product
    r = np.abs(np.diag(np.linalg.qr(product)[1]))
    np.testing.assert_allclose(found.exponents, np.sort(np.log(r))[::-1] / len(xs), rtol=1e-9)
    np.testing.assert_allclose(found.history[-1], found.exponents)


@pytest.mark.usefixtures("x64")
def test_float32_agrees_with_float64():
    weights, state = random_network(8, 1.2)
    wide = lyapunov(rate_network, weights, state, length=300)
    narrow = lyapunov(
        rate_network, weights.astype(jnp.float32), state.astype(jnp.float32), length=300
    )
    assert narrow.exponents.dtype == jnp.float32
    np.testing.assert_allclose(narrow.exponents, wide.exponents, atol=2e-2)


def test_a_long_product_in_float32():
    """0.5^100000 is e^-69315; half the directions grow to e^69315."""
    w = jnp.diag(jnp.array([0.5, 2.0]))
    found = lyapunov(linear, w, jnp.zeros(2), jnp.zeros((100_000, 2)))
    np.testing.assert_allclose(found.exponents, [np.log(2), -np.log(2)], rtol=1e-5)


def test_no_batch_one_unit_one_step():
    cell = rx.cells.elman(1, 1)
    params = cell.init(jax.random.key(0))._replace(w_rec=jnp.array([[0.7]]))
    found = lyapunov(cell, params, cell.initial_state(params), jnp.zeros((1, 1)))
    np.testing.assert_allclose(found.exponents, [np.log(0.7)], rtol=1e-6)
    assert found.history.shape == (1, 1)
    np.testing.assert_array_equal(found.standard_errors, [np.inf])
    assert found.dimension == 0


def test_an_autonomous_gated_cell_is_given_zeros():
    cell, params, state, xs = make_case("gru", "float32")
    free = lyapunov(cell, params, state, length=len(xs))
    given = lyapunov(cell, params, state, jnp.zeros_like(xs))
    np.testing.assert_allclose(free.exponents, given.exponents, rtol=1e-5)


def test_a_state_of_any_structure():
    def step(w, state, x):
        state = {"a": state["b"] * w, "b": (state["a"], jnp.int32(0))[0]}
        return state, x

    start = {"a": jnp.ones(()), "b": jnp.ones(())}
    found = lyapunov(step, 0.25, start, length=40)
    np.testing.assert_allclose(found.exponents, np.log(0.25) / 2, rtol=1e-5)


# --- singular, zero, saturated -------------------------------------------------------------------


@pytest.mark.parametrize("every", [None, 1])
def test_zero_weights_have_no_finite_exponent(every):
    cell = rx.cells.elman(2, 3)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    found = lyapunov(cell, params, cell.initial_state(params), jnp.ones((70, 2)), every=every)
    np.testing.assert_array_equal(found.exponents, -np.inf)
    assert found.dimension == 0
    assert found.entropy == 0
    assert not any(np.isnan(leaf).any() for leaf in found)


def test_every_step_is_no_interval_to_refuse():
    """Half of the exponents of a zero LSTM are gone, which no smaller interval would mend."""
    cell = rx.cells.lstm(2, 3)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    found = lyapunov(cell, params, None, jnp.zeros((40, 2)), every=1)
    np.testing.assert_allclose(found.exponents[:3], -np.log(2), rtol=1e-5)
    np.testing.assert_array_equal(found.exponents[3:], -np.inf)


def test_the_first_exponents_are_the_same_for_any_number():
    """Over a finite time an exponent depends on the direction it began with."""
    cell = rx.cells.lstm(2, 8)
    params = cell.init(jax.random.key(1))
    xs = jax.random.normal(jax.random.key(2), (60, 2))
    few, all_of_them = (lyapunov(cell, params, None, xs, k=k).exponents for k in (1, None))
    np.testing.assert_allclose(few[0], all_of_them[0], rtol=1e-5)


def test_a_singular_jacobian_loses_one_exponent():
    """Rank N - 1 by its numbers, not by zeros: the last exponent is -inf, the others are right."""
    draw = np.random.default_rng(2)
    left, right = draw.standard_normal((2, 4, 3))
    w = jnp.asarray(left @ right.T / 4, jnp.float32)
    found = lyapunov(linear, w, jnp.zeros(4), jnp.zeros((2000, 4)), burn_in=1)
    eigenvalues = np.sort(np.log(np.abs(np.linalg.eigvals(w.astype(float)))))[::-1]
    np.testing.assert_allclose(found.exponents[:3], eigenvalues[:3], atol=2e-3)
    assert found.exponents[3] == -np.inf
    assert not any(np.isnan(leaf).any() for leaf in found)


# --- gated cells ---------------------------------------------------------------------------------


def torch_like_lstm(forget_bias, hidden=64, features=8, seed=0):
    """Uniform weights and two such biases, as torch draws them."""
    draw = np.random.default_rng(seed)
    bound = hidden**-0.5

    def uniform(*shape):
        return draw.uniform(-bound, bound, shape)

    b = uniform(4 * hidden) + uniform(4 * hidden)
    b[hidden : 2 * hidden] += forget_bias
    params = rx.cells.LSTMParams(
        *(
            jnp.asarray(leaf, jnp.float32)
            for leaf in (uniform(features, 4 * hidden), uniform(hidden, 4 * hidden), b)
        )
    )
    xs = jnp.asarray(draw.standard_normal((3000, features)), jnp.float32)
    return params, xs


@pytest.mark.parametrize(
    ("forget_bias", "expected", "within"),
    [(0, -0.44, 0.03), (1, -0.145, 0.015), (3, 0.0, 0.006), (5, 0.003, 0.003)],
)
def test_lstm_by_forget_bias(forget_bias, expected, within):
    """The joint (h, c) exponent, measured independently; the h block alone is far off."""
    params, xs = torch_like_lstm(forget_bias)
    state = rx.cells.LSTMState(jnp.zeros(64), jnp.zeros(64))
    found = lyapunov(rx.cells.lstm_step, params, state, xs, k=1, burn_in=500)
    assert abs(float(found.exponents[0]) - expected) < within
    assert found.exponents[0] > -1  # the h block with c held fixed would say -1.7 to -2


@pytest.mark.usefixtures("x64")
def test_random_network_against_theory():
    """g = 3: the limit is .310249, at N = 200 .297 +- .005; the mean -2.272805."""
    weights, state = random_network(200, 3.0)
    top = lyapunov(rate_network, weights, state, length=3000, k=2)
    assert abs(float(top.exponents[0]) - 0.297) < 3 * 0.005
    whole = lyapunov(rate_network, weights, state, length=150, burn_in=50)
    np.testing.assert_allclose(whole.exponents.mean(), -2.272805, atol=0.05)


# --- against other people's code -----------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("system", ["henon", "network"])
def test_chaotax_and_lyapax_say_the_same(system):
    """The same map, the same first directions, the same steps: equal to 1e-6.

    So few steps of Henon's map that what two programs round otherwise is still small at their end.
    """
    chaotax = pytest.importorskip("chaotax")
    lyapax = pytest.importorskip("lyapax")
    from lyapax.core import LyapunovCheckpoint

    if system == "henon":
        step, state, steps = functools.partial(henon, None), jnp.array([0.1, 0.1]), 40
    else:
        weights, state = random_network(10, 3.0)
        step, steps = functools.partial(rate_network, weights), 200

    def one(s):
        return step(s, None)[0]

    size = len(state)
    basis = first_basis(size, size, jnp.float64)
    found = lyapunov(lambda _, s, x: (one(s), s), None, state, length=steps, burn_in=0)
    theirs = chaotax.lyapunov_spectrum(one, rollout_steps=steps, warmup_steps=0, discard_steps=0)
    np.testing.assert_allclose(found.exponents, np.sort(theirs(state, basis.T))[::-1], atol=1e-6)
    begin = LyapunovCheckpoint(state, basis, jnp.zeros(size), jnp.zeros(()), 1.0)
    theirs = lyapax.lyapunov_spectrum(one, state, 1.0, steps, resume=begin).exponents
    np.testing.assert_allclose(found.exponents, np.sort(theirs)[::-1], atol=1e-6)


# --- the interval, the history, the derivative ---------------------------------------------------


def skewed(*rates):
    """A matrix that is not normal, whose eigenvalues have these logs."""
    vectors = np.random.default_rng(5).standard_normal((len(rates), len(rates)))
    return jnp.asarray(vectors @ np.diag(np.exp(rates)) @ np.linalg.inv(vectors))


def diagonal(*rates):
    return jnp.diag(jnp.exp(jnp.asarray(rates)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", [skewed, diagonal])
def test_the_interval_adapts_to_the_spread(make):
    xs = jnp.zeros((6400, 2))
    wide, close = (lyapunov(linear, make(*r), jnp.zeros(2), xs) for r in ([0, -6.0], [0, -0.1]))
    assert 1 < wide.every[-1] < 6
    assert close.every[-1] > 30
    np.testing.assert_allclose(wide.exponents, [0, -6], atol=2e-3)
    np.testing.assert_allclose(close.exponents, [0, -0.1], atol=2e-3)
    assert wide.condition < 100 * jnp.finfo(jnp.float64).eps ** -0.6


@pytest.mark.usefixtures("x64")
def test_the_chosen_interval_is_as_good_as_every_step():
    """An LSTM that remembers: its exponents come in two groups, far apart."""
    cell = rx.cells.lstm(2, 10, forget_bias=4.0, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (640, 2), jnp.float64)
    chosen, each = (lyapunov(cell, params, None, xs, every=every) for every in (None, 1))
    assert chosen.every[-1] > 1
    np.testing.assert_allclose(chosen.exponents, each.exponents, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_a_block_that_loses_a_direction_is_gone_through_again():
    """Calm, then a spread that the interval of calm steps cannot resolve, then calm again."""
    ws = jnp.stack([skewed(0.1, 0.0, -0.1).T, skewed(3.0, 0.0, -3.0).T])
    xs = jnp.repeat(jnp.array([0, 1, 0]), 640)
    found = lyapunov(chosen, ws, jnp.zeros(3), xs, burn_in=0)
    each = lyapunov(chosen, ws, jnp.zeros(3), xs, burn_in=0, every=1)
    np.testing.assert_allclose(found.exponents, each.exponents, atol=1e-6)
    np.testing.assert_allclose(found.exponents, [3.2 / 3, 0, -3.2 / 3], atol=2e-2)
    used = np.asarray(found.every)
    jump = int(np.argmax(np.diff(used) < 0)) + 1
    assert used[jump - 1] * 6 > -np.log(jnp.finfo(jnp.float64).eps)  # it would have been lost
    assert used[jump] == 1
    assert used[-1] == used[jump - 1]


def test_a_chosen_interval_that_loses_exponents_is_refused():
    case = (linear, skewed(0.0, -1.0).astype(jnp.float32), jnp.zeros(2), jnp.zeros((100, 2)))
    with pytest.raises(
        ValueError,
        match=r"every=40 lets the condition grow to .*, where float32 resolves 8.4e\+06: 1 of 2 "
        r"exponents are lost in it. Take every=None, which chooses, or a smaller one.",
    ):
        lyapunov(*case, every=40)
    with pytest.warns(UserWarning, match="every=10 lets the condition grow to .* may be wrong by"):
        lyapunov(*case, every=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lyapunov(*case, every=2)


def test_a_chosen_interval_that_underflows_is_told():
    w = jnp.diag(jnp.exp(jnp.array([0.0, -3.0])))
    with pytest.warns(UserWarning, match="every=60 gave exponents of -inf: the Jacobians are sing"):
        lyapunov(linear, w, jnp.zeros(2), jnp.zeros((100, 2)), every=60)


@pytest.mark.usefixtures("x64")
def test_history_and_errors():
    weights, state = random_network(5, 3.0)
    found = lyapunov(rate_network, weights, state, length=1000, burn_in=100)
    assert found.times[-1] == 900
    part = lyapunov(rate_network, weights, state, length=100 + int(found.times[9]), burn_in=100)
    mine, theirs = np.sort(found.history[9]), np.sort(part.exponents)
    np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert (np.diff(found.exponents) <= 0).all()
    assert ((found.standard_errors > 0) & (found.standard_errors < 0.2)).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["elman_tanh", "own_plain"])
def test_gradients_against_differences(name):
    cell, params, state, xs = make_case(name, "float64")
    if name == "elman_tanh":  # a batch in one of the two is enough
        state, xs = example(state, 0), xs[:, 0]

    @jax.jit
    @jax.value_and_grad
    def total(flat):
        found = lyapunov(cell, unravel(flat), state, xs, k=2, burn_in=1)
        return jnp.sum(found.exponents * jnp.array([1.0, 0.3]))

    flat, unravel = jax.flatten_util.ravel_pytree(params)
    direction = np.random.default_rng(0).standard_normal(len(flat))
    slope = total(flat)[1] @ direction
    # So near that the third derivative is not seen, which is large where a growth is nearly lost.
    ends = [total(flat + h * direction)[0] for h in (1e-6, -1e-6)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-4)


def test_under_jit_and_vmap():
    cell, params, state, xs = make_case("gru", "float32")
    state, xs = example(state, 0), xs[:, 0]

    @jax.jit
    def jitted(params):
        return lyapunov(cell, params, state, xs, k=2).exponents

    plain = lyapunov(cell, params, state, xs, k=2).exponents
    np.testing.assert_allclose(plain, jitted(params), rtol=1e-5)
    pair = jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * leaf]), params)
    np.testing.assert_allclose(jax.vmap(jitted)(pair)[0], plain, rtol=1e-4)


def test_equal_cells_compile_once():
    def run():
        cell = rx.cells.gru(2, 3)
        params = cell.init(jax.random.key(0))
        return rx.flow.lyapunov(cell, params, cell.initial_state(params), jnp.ones((5, 2)))

    from recurrax.flow import lyapunov as _  # noqa: F401
    from recurrax.flow.lyapunov import _lyapunov

    run()
    before = _lyapunov._cache_size()
    run()
    assert _lyapunov._cache_size() == before


def test_a_derivative_with_a_chosen_interval():
    """The condition is concrete there, and the exponents are traced."""

    def first(w, every):
        step = lambda w, h, x: (w * h, h)  # noqa: E731
        return lyapunov(step, w, jnp.ones(1), length=20, every=every).exponents[0]

    for every in (None, 1, 2):
        np.testing.assert_allclose(jax.grad(first)(0.5, every), 2.0, rtol=1e-5)


# --- the dimension -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exponents", "expected"),
    [
        ([0.4, -1.6], 1.25),
        ([-0.1, -0.2], 0.0),
        ([0.5, 0.0, -2.0], 2.25),
        ([0.5, -np.inf], 1.0),
        ([0.5, -0.1], 2.0),
    ],
)
def test_kaplan_yorke(exponents, expected):
    from recurrax.flow.lyapunov import kaplan_yorke

    np.testing.assert_allclose(kaplan_yorke(jnp.array(exponents), True), expected, rtol=1e-6)


def test_kaplan_yorke_of_too_few_exponents():
    from recurrax.flow.lyapunov import kaplan_yorke

    assert np.isnan(kaplan_yorke(jnp.array([0.5, -0.1]), False))


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"k": 9},
            ValueError,
            "k must be at most N = 8, the size of the whole state of one example, got 9",
        ),
        ({"k": 0}, ValueError, "k must be a positive integer, got 0"),
        ({"every": 7}, ValueError, "every must be at most the 6 steps that are measured, got 7"),
        ({"burn_in": 6}, ValueError, "burn_in must be from 0 to T - 1 = 5, got 6"),
        ({"burn_in": 0.5}, TypeError, "burn_in must be a number of steps, 0 or more, got 0.5"),
        (
            {"length": 6},
            ValueError,
            "length is for an autonomous system, xs=None; it is given here beside xs, whose first "
            "axis is T already. Leave one of them out.",
        ),
    ],
)
def test_bad_options(options, kind, text):
    case = make_case("lstm", "float32")
    with says(kind, text):
        lyapunov(*case, **options)


def test_neither_inputs_nor_length():
    with says(
        ValueError,
        "xs=None needs length=T, the number of steps to run an autonomous system. Pass the inputs "
        "xs [T, *batch, I], or length.",
    ):
        lyapunov(henon, None, jnp.zeros(2))


def test_an_autonomous_system_that_blows_up():
    with pytest.raises(ValueError, match=r"state at \[t, ...\] is not finite"):
        lyapunov(logistic, 5.0, jnp.array([0.3]), length=500)


# --- masks ----------------------------------------------------------------------------------------


def in_rows(length):
    """A small network, and rows of which one is whole, one has gaps, and one is short."""
    cell = rx.cells.elman(1, 2, dtype=jnp.float64)
    xs = jnp.asarray(np.random.default_rng(0).standard_normal((length, 3, 1)))
    mask = np.stack([np.ones(length), np.arange(length) % 3, np.arange(length) < 9], 1) > 0
    return cell, cell.init(jax.random.key(0)), xs, mask


@pytest.mark.parametrize(
    ("options", "rows"), [({}, (0, 1, 2)), ({"every": 3, "burn_in": 5, "k": 1}, (1,))]
)
def test_each_row_is_measured_as_it_is_alone(options, rows, x64):
    cell, params, xs, mask = in_rows(150)
    given = jnp.where(mask[..., None], xs, jnp.nan)
    found = lyapunov(cell, params, None, given, mask=mask, **options)
    for row in rows:
        alone = lyapunov(cell, params, None, xs[mask[:, row], row], **options)
        count = len(alone.times)
        for name, expected in alone._asdict().items():
            got = np.asarray(getattr(found, name))
            if name in ("history", "times", "every"):
                got, beyond = got[:count, row], got[count:, row]
                last = 0 if name == "every" else got[-1]
                np.testing.assert_allclose(beyond, np.broadcast_to(last, beyond.shape), rtol=1e-12)
            else:
                got = got[row]
            within = 1e-4 if name == "condition" else 1e-9  # a quotient of what is rounded
            np.testing.assert_allclose(got, expected, rtol=within, atol=1e-12)


def test_what_a_mask_and_resets_may_not_be(x64):
    cell, params, xs, mask = in_rows(30)
    empty = mask & (np.arange(3) != 1)
    resets = np.zeros_like(mask)
    resets[4, 2] = True
    with says(
        ValueError,
        "the mask leaves a row 0 steps that count, and burn_in=0 of them are left out: nothing is "
        "left to measure. Drop that row, or leave out fewer.",
    ):
        lyapunov(cell, params, None, xs, mask=empty)
    with says(ValueError, "every must be at most the 4 steps that are measured, got 5"):
        lyapunov(cell, params, None, xs, mask=mask, burn_in=5, every=5)
    with says(
        ValueError,
        "resets is True at t = 4 of row 2, where the product of the Jacobians becomes zero: it has "
        "no exponents after that. Measure each piece between two resets on its own, from the "
        "cell's initial state.",
    ):
        lyapunov(cell, params, None, xs, resets=resets)
    traced = jax.jit(lambda m, r: lyapunov(cell, params, None, xs, mask=m, resets=r))
    found = traced(empty, resets).exponents
    np.testing.assert_array_equal(np.isnan(found), np.array([[0, 0], [1, 1], [0, 0]], bool))
    np.testing.assert_array_equal(np.isneginf(found), np.array([[0, 0], [0, 0], [1, 1]], bool))
    plain = lyapunov(cell, params, None, xs, resets=np.zeros_like(mask))
    np.testing.assert_allclose(plain.exponents[0], found[0], rtol=1e-12)
