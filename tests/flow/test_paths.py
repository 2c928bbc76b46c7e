"""The direct path and the detour, against brute force, closed forms and measured tables."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import batch_jacobians, example, linear, products
from close import says
from contract import B, like, make_case
from jax.flatten_util import ravel_pytree

import recurrax as rx


def direct_jacobians(cell, params, state, xs):
    """`[T, B, N, N]` in NumPy: the derivative of the step with `h @ w_rec` held fixed."""
    rows = []
    for b in range(xs.shape[1]):
        now, found = example(state, b), []
        for x in np.asarray(xs)[:, b]:
            jacobian, now = direct_and_next(cell.step, params, now, x)
            found.append(np.asarray(jacobian))
        rows.append(np.stack(found))
    return np.stack(rows, 1)


@functools.partial(jax.jit, static_argnums=0)
def direct_and_next(step, params, state, x):
    vector, unravel = ravel_pytree(state)
    z_rec = step.split(state.h @ params.w_rec)

    def advance(vector):
        z_in = step.split(x @ params.w_in + params.b)
        return ravel_pytree(step.pointwise(params.unit, z_in, z_rec, unravel(vector)))[0]

    return jax.jacfwd(advance)(vector), unravel(advance(vector))


def log_norm(block):
    with np.errstate(divide="ignore"):
        return np.log(np.linalg.norm(block, axis=(-2, -1)))


# --- brute force ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "of", "wrt", "rows", "columns"),
    [
        ("lstm", None, None, slice(4, 8), slice(4, 8)),
        ("lstm", "h", "c", slice(0, 4), slice(4, 8)),
        ("lstm", ("h", "c"), "h", slice(0, 8), slice(0, 4)),
        ("gru", None, None, slice(0, 4), slice(0, 4)),
        ("own_gated", None, None, slice(5, 10), slice(5, 10)),
        ("own_gated", "h", ("h", "trace"), slice(0, 5), slice(0, 10)),
    ],
)
def test_are_the_products_of_their_matrices(name, of, wrt, rows, columns, x64):
    case = make_case(name, "float64", T=20)
    got = rx.flow.paths(*case, of=of, wrt=wrt)
    total = products(batch_jacobians(*case))[..., rows, columns]
    direct = products(direct_jacobians(*case))[..., rows, columns]
    assert got.log_total.shape == got.share.shape == (20, B)
    tolerance = {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(got.log_total, log_norm(total), **tolerance)
    np.testing.assert_allclose(got.log_direct, log_norm(direct), **tolerance)
    # Brute force subtracts, and so is right to the rounding of the total.
    detour = np.linalg.norm(total - direct, axis=(-2, -1))
    whole = np.linalg.norm(total, axis=(-2, -1))
    np.testing.assert_allclose(got.share, detour / whole, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.exp(got.log_detour - got.log_total), got.share, rtol=1e-11)


def test_total_is_the_decay_of_the_same_block():
    case = make_case("lstm", "float32", T=30)
    got = rx.flow.paths(*case).log_total
    decay = rx.flow.decay(*case, of="c", wrt="c")
    np.testing.assert_allclose(got, decay.log_frobenius, rtol=1e-5, atol=1e-5)


# --- closed forms --------------------------------------------------------------------------------


def gates_of_constants(forget, hidden=3):
    """An LSTM without weights: its forget gate is a constant, unit by unit."""
    cell = rx.cells.lstm(1, hidden)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    logits = np.log(forget / (1 - forget))
    return cell, params._replace(b=params.b.at[hidden : 2 * hidden].set(jnp.asarray(logits)))


def test_without_weights_all_is_direct_at_any_length():
    forget = np.asarray([0.9, 0.5, 0.2])
    cell, params = gates_of_constants(forget)
    got = rx.flow.paths(cell, params, None, jnp.zeros((30_000, 1)))
    steps = np.arange(1, 30_001)
    np.testing.assert_allclose(got.log_total[99::7_000], steps[99::7_000] * np.log(0.9), rtol=1e-5)
    np.testing.assert_allclose(got.log_direct, got.log_total, rtol=1e-5)
    assert (got.log_detour == -np.inf).all()
    assert (got.share == 0).all()
    first = np.log(np.linalg.norm(forget))
    np.testing.assert_allclose(got.log_total[0], first, rtol=1e-6)


def test_detour_is_zero_at_first_and_direct_never_grows():
    case = make_case("lstm_forget_bias", "float32", T=30)
    got = rx.flow.paths(*case)
    assert (got.share[0] == 0).all()
    assert (got.log_detour[0] == -np.inf).all()
    assert (got.share[1:] > 0).all()
    assert (np.diff(got.log_direct, axis=0) < 0).all()


def test_fields_that_hold_each_other():
    """An oscillator's position and velocity: a path to itself by way of the other."""

    class State(NamedTuple):
        h: jax.Array
        v: jax.Array

    def swap(unit, z_in, z_rec, state):
        return State(h=2 * state.v, v=jnp.tanh(z_rec[0] + z_in[0]) + 0.125 * state.h)

    cell = rx.gated_cell(swap, gates=1, state=State, input_size=1, hidden_size=2)
    params = cell.init(jax.random.key(0))
    params = params._replace(w_rec=jnp.zeros((2, 2)))
    got = rx.flow.paths(cell, params, None, jnp.zeros((4, 1)))
    expected = 0.5 * np.log([2 * (4 + 1 / 64), 2 * 2 / 16, 2 * (4 + 1 / 64) / 16, 2 * 2 / 256])
    np.testing.assert_allclose(got.log_direct, expected, rtol=1e-6)


def test_units_of_very_different_pace():
    """After a thousand steps one unit's product is 10^-300 of another's: both are kept."""
    cell, params = gates_of_constants(np.asarray([0.9, 0.5]), hidden=2)
    # The slow unit of h listens to nothing; the fast one's detour goes round by its own weight.
    params = params._replace(w_rec=params.w_rec.at[1, 5].set(0.5))
    got = rx.flow.paths(cell, params, None, jnp.zeros((1000, 1)))
    np.testing.assert_allclose(got.log_direct[-1], 1000 * np.log(0.9), rtol=1e-5)
    assert np.isfinite(got.log_detour[1:]).all()


# --- laws ----------------------------------------------------------------------------------------


def test_batch_is_its_examples_and_batch_shape_may_be_empty():
    cell, params, state, xs = make_case("lstm", "float32")
    whole = rx.flow.paths(cell, params, state, xs)
    one = rx.flow.paths(cell, params, jax.tree.map(lambda leaf: leaf[B - 1], state), xs[:, B - 1])
    assert one.gates.mean.shape == (len(xs), 4)
    pairs = zip((*one[:4], *one.gates[1:]), (*whole[:4], *whole.gates[1:]), strict=True)
    for got, want in pairs:
        assert got.shape[0] == len(xs)
        np.testing.assert_allclose(got, want[:, B - 1], rtol=1e-5, atol=1e-6)


def test_one_step_of_one_unit():
    cell, params = gates_of_constants(np.asarray([0.25]), hidden=1)
    got = rx.flow.paths(cell, params, None, jnp.zeros((1, 1)))
    np.testing.assert_allclose(got.log_direct, [np.log(0.25)], rtol=1e-6)
    assert got.share.tolist() == [0.0]


def test_gradient_against_finite_differences(x64):
    cell, params, state, xs = make_case("lstm", "float64")

    def value(scale):
        scaled = params._replace(w_rec=scale * params.w_rec)
        got = rx.flow.paths(cell, scaled, state, xs)
        return jnp.sum(got.log_total + got.log_direct + got.share) + jnp.sum(got.log_detour[1:])

    run, step = jax.jit(jax.value_and_grad(value)), 1e-6
    difference = (run(1 + step)[0] - run(1 - step)[0]) / (2 * step)
    np.testing.assert_allclose(run(1.0)[1], difference, rtol=1e-7)


# --- the gates -----------------------------------------------------------------------------------


def test_gate_statistics_of_known_gates():
    cell, params = gates_of_constants(np.asarray([0.95, 0.5, 0.05, 0.91]), hidden=4)
    params = params._replace(b=params.b.at[8:12].set(jnp.asarray([2.0, -2.0, 0.5, 0.0])))
    got = rx.flow.paths(cell, params, None, jnp.zeros((2, 1))).gates
    assert got.names == ("i", "f", "g", "o")
    mean = [0.5, np.mean([0.95, 0.5, 0.05, 0.91]), np.mean(np.tanh([2.0, -2.0, 0.5, 0.0])), 0.5]
    np.testing.assert_allclose(got.mean, [mean, mean], rtol=1e-6)
    assert got.low.tolist() == [[0.0, 0.25, 0.25, 0.0]] * 2
    assert got.high.tolist() == [[0.0, 0.5, 0.25, 0.0]] * 2


def test_gates_are_those_of_the_state_before_the_step():
    cell, params, state, xs = make_case("gru", "float32")
    got = rx.flow.paths(cell, params, state, xs).gates.mean
    befores = rx.unroll_states(cell, params, state, xs)
    h = jnp.concatenate([state.h[None], befores.h[:-1]])
    z = xs @ params.w_in + params.b + h @ params.w_rec
    np.testing.assert_allclose(
        got[..., :2], jax.nn.sigmoid(z[..., :8]).reshape(6, B, 2, 4).mean(-1), rtol=1e-5
    )


def test_a_cell_without_a_view_has_no_gates():
    assert rx.flow.paths(*make_case("own_gated", "float32")).gates is None


# --- measured ------------------------------------------------------------------------------------

# Forget bias, steps run before; rms of prod f, of d c_t / d c_0, and the share of the detour at
# T = 10 and 30. H = 256.
MEASURED = {
    (1, 0): ([0.0440, 9.8e-5], [0.109, 0.0053], [0.913, 0.9995]),
    (3, 200): ([0.614, 0.248], [0.73, 0.75], [0.54, 0.943]),
}
# The first two at T = 100, known to a factor of two.
MEASURED_LATER = {(0, 0): [5e-29, 2e-20], (3, 0): [0.012, 11]}


def torch_like_lstm(hidden, forget_bias, seed):
    """Weights and two biases uniform in +-1/sqrt H, as torch draws them; 8 inputs."""
    draw = np.random.default_rng(seed)
    w_in, w_rec, first, second = (
        jnp.asarray(draw.uniform(-1, 1, shape) / hidden**0.5, jnp.float32)
        for shape in ((8, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,), (4 * hidden,))
    )
    b = (first + second).at[hidden : 2 * hidden].add(forget_bias)
    return rx.cells.lstm(8, hidden), rx.cells.LSTMParams(w_in, w_rec, b)


def rms_of_both_paths_and_share(forget_bias, before, seed, length):
    cell, params = torch_like_lstm(256, forget_bias, seed)
    xs = jax.random.normal(jax.random.key(seed), (before + length, 8))
    state, _ = rx.unroll(cell, params, None, xs[:before]) if before else (None, None)
    got = rx.flow.paths(cell, params, state, xs[before:])
    assert float(got.share[0]) == 0
    root = np.log(256) / 2
    return np.stack([np.exp(got.log_direct - root), np.exp(got.log_total - root), got.share])


@pytest.mark.parametrize(("forget_bias", "before"), MEASURED)
def test_share_of_the_forget_gates_at_initialisation(forget_bias, before):
    """A single seed strays up to a tenth at T = 30; the geometric mean of ten does not."""
    found = [rms_of_both_paths_and_share(forget_bias, before, seed, 30) for seed in range(10)]
    direct, total, share = np.exp(np.log(np.stack(found)[:, :, [9, 29]]).mean(0))
    expected = MEASURED[forget_bias, before]
    np.testing.assert_allclose(direct, expected[0], rtol=0.05)
    np.testing.assert_allclose(total, expected[1], rtol=0.05)
    np.testing.assert_allclose(share, expected[2], rtol=0.02)


@pytest.mark.parametrize(("forget_bias", "before"), MEASURED_LATER)
def test_the_same_after_a_hundred_steps(forget_bias, before):
    direct, total, share = rms_of_both_paths_and_share(forget_bias, before, 0, 100)[:, -1]
    expected = MEASURED_LATER[forget_bias, before]
    assert (abs(np.log([direct, total]) - np.log(expected)) < np.log(2)).all()
    assert share > 0.99


# --- messages ------------------------------------------------------------------------------------


def test_a_cell_without_a_direct_path():
    with says(
        ValueError,
        "paths needs a field of the state with a direct path to itself, as c of an LSTM, and "
        "ElmanState(h) has none: its new state depends on the old one through h @ w_rec alone. "
        "Use flow.decay.",
    ):
        rx.flow.paths(*make_case("elman_tanh", "float32"))


def test_a_path_that_lets_no_gradient_through_is_none():
    class State(NamedTuple):
        h: jax.Array

    def held(unit, z_in, z_rec, state):
        return State(jnp.tanh(z_in[0] + z_rec[0]) + jax.lax.stop_gradient(state.h))

    cell = rx.gated_cell(held, gates=1, state=State, input_size=1, hidden_size=2)
    with pytest.raises(ValueError, match="and State\\(h\\) has none"):
        rx.flow.paths(cell, cell.init(jax.random.key(0)), None, jnp.zeros((2, 1)))


@pytest.mark.parametrize("name", ["stack", "own_plain"])
def test_a_step_that_is_not_gated(name):
    with says(
        ValueError,
        "paths needs a gated cell, whose step is an elementwise path plus one through h @ w_rec, "
        "and this step is not one. Ask about each cell of a stack by itself, or build the cell "
        "with rx.gated_cell.",
    ):
        rx.flow.paths(*make_case(name, "float32"))


def test_a_name_that_is_unknown():
    with says(ValueError, "of must name leaves of the state ('h', 'c'), got 'm'"):
        rx.flow.paths(*make_case("lstm", "float32"), of="m")


def test_inputs_that_are_not_finite_and_a_step_that_is_linear():
    cell, params, state, xs = make_case("lstm", "float32")
    with pytest.raises(ValueError, match="xs is not finite: nan at index \\(0, 0, 0\\)"):
        rx.flow.paths(cell, params, state, xs.at[0, 0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match="paths needs a gated cell"):
        rx.flow.paths(linear, jnp.eye(2), jnp.zeros(2), like(1, jnp.zeros((3, 2))))
