"""The decay, exact, against brute force, closed forms and the laws of norms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import batch_jacobians, chosen, example, linear, log_norms, products
from close import assert_close, says
from contract import B, like, make_case

import recurrax as rx

SOME = ("elman_tanh", "lstm_forget_bias", "own_gated", "stack", "own_plain")


def lstm_of(hidden, dtype, seed=1):
    """A cell, its params and a state that is not zero; N = 2 hidden."""
    cell = rx.cells.lstm(3, hidden, dtype=dtype)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    params = like(seed, params, 1.5 / hidden**0.5)
    return cell, params, like(2, cell.initial_state(params), 0.5)


# --- brute force --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOME)
def test_is_the_norm_of_the_product(name, x64):
    case = make_case(name, "float64", T=20)
    got = rx.flow.decay(*case)
    spectral, frobenius = log_norms(products(batch_jacobians(*case)))
    np.testing.assert_allclose(got.log_norm, spectral, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.log_frobenius, frobenius, rtol=0, atol=1e-12)


def test_is_the_norm_of_the_product_above_the_dense_size(x64):
    cell, params, state = lstm_of(20, jnp.float64)
    xs = like(3, jnp.zeros((40, 3)))
    got = rx.flow.decay(cell, params, state, xs)
    matrices = np.asarray(rx.flow.jacobians(cell, params, state, xs))
    spectral, frobenius = log_norms(products(matrices))
    np.testing.assert_allclose(got.log_norm, spectral, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.log_frobenius, frobenius, rtol=0, atol=1e-12)


MATRICES = np.random.default_rng(5).standard_normal((3, 4, 4)) + np.triu(np.ones((4, 4)), 1)


def test_order_of_three_different_non_normal_matrices(x64):
    """`h @ W_t`, so A_t = W_t^T and the product is W_3^T W_2^T W_1^T, not the other way round."""
    ws, h = jnp.asarray(MATRICES), jnp.zeros(4)
    got = rx.flow.decay(chosen, ws, h, jnp.arange(30) % 3)
    matrices = MATRICES.transpose(0, 2, 1)[np.arange(30) % 3]
    spectral, frobenius = log_norms(products(matrices))
    np.testing.assert_allclose(got.log_norm, spectral, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.log_frobenius, frobenius, rtol=0, atol=1e-12)
    wrong, _ = log_norms(products(matrices[::-1]))
    assert abs(wrong - spectral).max() > 0.1  # the test sees the order
    wrong, _ = log_norms(products(MATRICES[np.arange(30) % 3]))
    assert abs(wrong - spectral).max() > 0.1  # and the transpose


def test_long_run_rate_is_that_of_the_eigenvalues_of_the_period(x64):
    ws, h = jnp.asarray(MATRICES), jnp.zeros(4)
    got = rx.flow.decay(chosen, ws, h, jnp.arange(6000) % 3)
    a, b, c = MATRICES.transpose(0, 2, 1)
    top = np.log(abs(np.linalg.eigvals(c @ b @ a)).max()) / 3
    np.testing.assert_allclose(rx.flow.rate(got), top, atol=2e-3)


# --- closed forms -------------------------------------------------------------------------------


def test_one_step_of_a_linear_network_is_its_singular_values(x64):
    w = jnp.asarray(MATRICES[0])
    got = rx.flow.decay(linear, w, jnp.zeros(4), jnp.zeros((1, 4)))
    values = np.linalg.svd(MATRICES[0], compute_uv=False)
    np.testing.assert_allclose(got.log_norm, [np.log(values[0])], rtol=1e-13)
    np.testing.assert_allclose(got.log_frobenius, [np.log((values**2).sum()) / 2], rtol=1e-13)


@pytest.mark.parametrize("size", [8, 40])
def test_orthogonal_weights_hold_every_norm(size):
    w = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0], "f4")
    got = rx.flow.decay(linear, w, jnp.zeros(size), jnp.zeros((200, size)))
    np.testing.assert_allclose(got.log_norm, 0, atol=1e-4)  # 200 steps of some rounding
    np.testing.assert_allclose(got.log_frobenius, np.log(size) / 2, atol=1e-4)


@pytest.mark.parametrize("w", [0.9, 1.1, -0.3])
def test_a_scalar_is_w_to_the_t(w, x64):
    got = rx.flow.decay(linear, jnp.full((1, 1), w), jnp.zeros(1), jnp.zeros((100, 1)))
    expected = np.arange(1, 101) * np.log(abs(w))
    np.testing.assert_allclose(got.log_norm, expected, rtol=1e-12)
    np.testing.assert_allclose(got.log_frobenius, expected, rtol=1e-12)


def test_a_state_without_axes(x64):
    got = rx.flow.decay(lambda w, h, x: (w * h, h), 0.5, 1.0, jnp.zeros((4, 1)))
    np.testing.assert_allclose(got.log_norm, np.arange(1, 5) * np.log(0.5), rtol=1e-12)


def test_exactly_zero_is_minus_infinity():
    """A nilpotent matrix: the square is zero."""
    w = jnp.asarray([[0.0, 1.0], [0.0, 0.0]])
    got = rx.flow.decay(linear, w, jnp.zeros(2), jnp.zeros((3, 2)))
    for norm in (got.log_norm, got.log_frobenius):
        np.testing.assert_allclose(norm, [0.0, -np.inf, -np.inf], atol=1e-6)


# --- laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "gru", "own_plain"])
def test_volume_identity(name, x64):
    """log |det| of the product is the sum of those of the steps, and bounds both norms below."""
    case = make_case(name, "float64", T=20)
    matrices = np.asarray(rx.flow.jacobians(*case))
    size = matrices.shape[-1]
    volume = np.cumsum(np.linalg.slogdet(matrices)[1], axis=0)
    if name != "own_plain":  # whose norm projects the state: its volume is zero to rounding
        values = np.linalg.svd(products(matrices)[:6], compute_uv=False)
        np.testing.assert_allclose(np.log(values).sum(-1), volume[:6], rtol=1e-5)
    got = rx.flow.decay(*case)
    assert (got.log_norm >= volume / size - 1e-12).all()
    # The mean of the squared singular values is at least their geometric mean.
    assert (got.log_frobenius - np.log(size) / 2 >= volume / size - 1e-12).all()


@pytest.mark.parametrize("name", SOME)
def test_spectral_and_frobenius_norm_are_within_the_root_of_the_rank(name, x64):
    case = make_case(name, "float64", T=20)
    got = rx.flow.decay(*case)
    size = sum(leaf[0].size for leaf in jax.tree.leaves(case.state))
    assert (got.log_norm <= got.log_frobenius + 1e-13).all()
    assert (got.log_frobenius <= got.log_norm + np.log(size) / 2 + 1e-13).all()


def test_submultiplicative(x64):
    """What a stretch of time does is at most the product of what its two parts do."""
    case = make_case("own_gated", "float64", T=20)
    cell, params, state, xs = case
    middle, _ = rx.unroll(cell, params, state, xs[:10])
    whole = rx.flow.decay(*case).log_norm
    first, second = whole[9], rx.flow.decay(cell, params, middle, xs[10:]).log_norm
    assert (whole[10:] <= first + second + 1e-13).all()
    assert float((first + second - whole[10:]).max()) > 1e-2


# --- a hundred thousand steps in float32 --------------------------------------------------------

LONG = 100_000
SCALES = {"contracting": np.float32(0.60653), "expanding": np.float32(1.5)}


def long_log_norm(scale, t):
    """`[[a, 1], [0, a]]^t = a^t [[1, t / a], [0, 1]]`, whose norm is known."""
    scale = np.float64(scale)
    k = t / scale
    return t * np.log(scale) + np.arcsinh(k / 2), t * np.log(scale) + np.log(2 + k * k) / 2


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("form", ["gated", "bare"])
def test_a_hundred_thousand_steps_in_float32(kind, form):
    a = SCALES[kind]
    w = jnp.asarray([[a, 1], [0, a]], jnp.float32)
    cell = rx.cells.elman(1, 2)  # at h = 0 the slope of tanh is 1, so A_t = w^T
    params = cell.init(jax.random.key(0))._replace(w_rec=w)
    run = (cell, params, cell.initial_state(params), jnp.zeros((LONG, 1)))
    if form == "bare":
        run = (linear, w, jnp.zeros(2), jnp.zeros((LONG, 2)))
    got = rx.flow.decay(*run)
    spectral, frobenius = long_log_norm(a, np.arange(1, LONG + 1))
    assert abs(spectral[-1]) > 40_000
    np.testing.assert_allclose(got.log_norm[99:], spectral[99:], rtol=1e-5)
    np.testing.assert_allclose(got.log_frobenius[99:], frobenius[99:], rtol=1e-5)


def test_float32_is_right_above_the_dense_size():
    """N = 32, out of the range of float32 after a hundred of two thousand steps."""
    w = 0.5 * jnp.eye(32, dtype=jnp.float32)[:, ::-1]
    got = rx.flow.decay(linear, w, jnp.zeros(32), jnp.zeros((2000, 32)))
    expected = np.arange(1, 2001) * np.log(0.5)
    np.testing.assert_allclose(got.log_norm, expected, rtol=1e-5)
    np.testing.assert_allclose(got.log_frobenius, expected + np.log(32) / 2, rtol=1e-5)


# --- leaves -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "wrt", "rows", "columns"),
    [
        ("c", "c", slice(4, 8), slice(4, 8)),
        ("h", "c", slice(0, 4), slice(4, 8)),
        ("c", None, slice(4, 8), slice(0, 8)),
        (None, "h", slice(0, 8), slice(0, 4)),
        (("c", "h"), ("h",), slice(0, 8), slice(0, 4)),
    ],
)
def test_blocks_of_the_product(of, wrt, rows, columns, x64):
    case = make_case("lstm", "float64", T=20)
    got = rx.flow.decay(*case, of=of, wrt=wrt)
    blocks = products(batch_jacobians(*case))[..., rows, columns]
    spectral, frobenius = log_norms(blocks)
    np.testing.assert_allclose(got.log_norm, spectral, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.log_frobenius, frobenius, rtol=0, atol=1e-12)


def test_leaves_of_a_stack_by_path_or_by_name(x64):
    case = make_case("stack", "float64", T=10)  # LSTM h 4, c 4, then GRU h 5
    whole = products(batch_jacobians(*case))
    for of, wrt, block in (
        ("[1].h", "[0].c", whole[..., 8:, 4:8]),
        ("h", "c", whole[..., [0, 1, 2, 3, 8, 9, 10, 11, 12], 4:8]),
    ):
        got = rx.flow.decay(*case, of=of, wrt=wrt)
        np.testing.assert_allclose(got.log_norm, log_norms(block)[0], rtol=0, atol=1e-12)


def test_leaves_that_do_not_meet_are_at_minus_infinity(x64):
    """The lower cell of a stack does not feel the upper one."""
    case = make_case("stack", "float64", T=10)
    got = rx.flow.decay(*case, of="[0].h", wrt="[1].h")
    assert (got.log_norm == -np.inf).all()
    assert (got.log_frobenius == -np.inf).all()


@pytest.mark.parametrize(
    ("name", "of", "text"),
    [
        ("lstm", "x", "of must name leaves of the state ('h', 'c'), got 'x'"),
        ("lstm", ("h", "cell"), "of must name leaves of the state ('h', 'c'), got 'cell'"),
        ("lstm", (), "of must name leaves of the state ('h', 'c'), got ()"),
        ("stack", "n", "of must name leaves of the state ('[0].h', '[0].c', '[1].h'), got 'n'"),
    ],
)
def test_unknown_leaf(name, of, text):
    with says(ValueError, text):
        rx.flow.decay(*make_case(name, "float32"), of=of)
    with says(ValueError, "wrt" + text[2:]):
        rx.flow.decay(*make_case(name, "float32"), wrt=of)


# --- transformations ----------------------------------------------------------------------------


def test_a_batch_is_each_example_by_itself(x64):
    cell, params, state, xs = make_case("lstm", "float64", T=20)
    got = rx.flow.decay(cell, params, state, xs)
    assert got.log_norm.shape == got.log_frobenius.shape == (20, B)
    for b in range(B):
        one = rx.flow.decay(cell, params, example(state, b), xs[:, b])
        assert_close(one.log_norm, got.log_norm[:, b], rtol=0, atol=1e-13)
        assert_close(one.log_frobenius, got.log_frobenius[:, b], rtol=0, atol=1e-13)


def test_two_batch_axes(x64):
    cell, params, state, xs = make_case("lstm", "float64", T=20)
    got = rx.flow.decay(
        cell, params, jax.tree.map(lambda a: jnp.stack([a, 2 * a]), state), jnp.stack([xs, xs], 1)
    )
    assert got.log_norm.shape == (20, 2, B)
    expected = rx.flow.decay(cell, params, state, xs)
    assert_close(got.log_norm[:, 0], expected.log_norm, rtol=0, atol=1e-13)
    assert abs(got.log_norm[:, 1] - expected.log_norm).max() > 1e-3


@pytest.mark.parametrize("hidden", [4, 16])
def test_jit_and_vmap_around_it(hidden, x64):
    """Params may be closed over or passed; N = 32 takes the batched path of the norm."""
    cell, params, state = lstm_of(hidden, jnp.float64)
    xs = like(3, jnp.zeros((12, B, 3)))
    states = jax.tree.map(lambda a: jnp.stack([a, -a, 2 * a]), state)
    expected = rx.flow.decay(cell, params, states, xs)
    closed = jax.jit(lambda s, x: rx.flow.decay(cell, params, s, x))(states, xs)
    over = jax.vmap(lambda p, s, x: rx.flow.decay(cell, p, s, x), (None, 0, 1), 1)
    mapped = jax.jit(over)(params, states, xs)
    for got in (closed, mapped):
        assert_close(got.log_norm, expected.log_norm, rtol=0, atol=1e-12)
        assert_close(got.log_frobenius, expected.log_frobenius, rtol=0, atol=1e-12)


def test_an_equal_cell_compiles_nothing_new():
    traced = []

    def pointwise(unit, z_in, z_rec, state):
        traced.append(1)
        return state._replace(h=jnp.tanh(z_in[0] + z_rec[0]))

    state_class = type(make_case("elman_tanh", "float32").state)
    build = {"gates": 1, "state": state_class, "input_size": 3, "hidden_size": 4}
    _, params, state, xs = make_case("elman_tanh", "float32")
    counts = []
    for _ in range(2):
        cell = rx.gated_cell(pointwise, **build)
        before = len(traced)
        rx.flow.decay(cell, params, state, xs)
        counts.append(len(traced) - before)
    # The second time only the checks trace one step abstractly; nothing is compiled.
    assert counts[0] > counts[1]
    assert counts[1] <= 1
