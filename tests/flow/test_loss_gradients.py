"""`d L / d s_t`, against `jax.grad` by a zero added to each state."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import example, linear
from close import assert_close, says
from contract import B, like, make_case

import recurrax as rx

T = 6


def by_perturbing(loss, step, output, params, state, xs):
    """`jax.grad` by eps, with `s_t = step(s_{t-1}, x_t) + eps_t` and y read off that s_t."""

    def run(eps):
        def body(state, now):
            x, nudge = now
            state = jax.tree.map(jnp.add, step(params, state, x)[0], nudge)
            return state, output(state)

        return loss(jax.lax.scan(body, state, (xs, eps))[1])

    length = len(jax.tree.leaves(xs)[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), state)
    return jax.jit(jax.value_and_grad(run))(zeros)


def everywhere(ys):
    weight = jnp.linspace(0.5, 1.5, ys.size, dtype=ys.dtype).reshape(ys.shape)
    return jnp.sum(weight * jnp.sin(2 * ys))


def at_the_end(ys):
    return jnp.mean(ys[-1] ** 3)


def joint_norm(gradients, batch_axes=1):
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradients)]
    flat = [leaf.reshape(*leaf.shape[: 1 + batch_axes], -1) for leaf in leaves]
    return np.linalg.norm(np.concatenate(flat, -1), axis=-1)


OUTPUTS = {
    "elman_relu": lambda state: state.h,
    "lstm": lambda state: state.h,
    "gru": lambda state: state.h,
    "own_gated": lambda state: state.h,
    "stack": lambda state: state[1].h,
}


@pytest.mark.parametrize("loss", [everywhere, at_the_end])
@pytest.mark.parametrize("name", OUTPUTS)
def test_is_the_gradient_by_a_perturbation_of_the_state(name, loss, x64):
    cell, params, state, xs = make_case(name, "float64")
    got = rx.flow.loss_gradients(cell, params, state, xs, loss)
    value, expected = by_perturbing(loss, cell.step, OUTPUTS[name], params, state, xs)
    assert_close(got.loss, value, rtol=1e-13)
    assert_close(got.gradients(), expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(np.exp(got.log_norm), joint_norm(expected), rtol=1e-11)
    lengths = joint_norm(got.direction)
    np.testing.assert_allclose(lengths, lengths > 0, rtol=1e-14)


def test_batched_is_one_example_at_a_time(x64):
    cell, params, state, xs = make_case("lstm", "float64")

    def one(b):
        return rx.flow.loss_gradients(
            cell, params, example(state, b), xs[:, b], lambda ys: jnp.sum(ys**2)
        )

    whole = rx.flow.loss_gradients(cell, params, state, xs, lambda ys: jnp.sum(ys**2))
    rows = [one(b) for b in range(B)]
    assert_close(whole.loss, sum(row.loss for row in rows), rtol=1e-13)
    assert_close(whole.log_norm, jnp.stack([row.log_norm for row in rows], 1), rtol=1e-12)
    stacked = jax.tree.map(lambda *a: jnp.stack(a, 1), *[row.direction for row in rows])
    assert_close(whole.direction, stacked, rtol=1e-11, atol=1e-13)


# --- bare steps ---------------------------------------------------------------------------------


class Pair(NamedTuple):
    a: jax.Array
    b: jax.Array


def crossed(w, state, x):
    """Its output is the second leaf."""
    a = jnp.tanh(state.b @ w + x)
    b = 0.5 * state.b + jnp.sin(a)
    return Pair(a, b), b


def both(w, state, x):
    """Its outputs are both leaves, in the other order."""
    new, _ = crossed(w, state, x)
    return new, (new.b, new.a)


WRAPPERS = {
    "as it is": lambda step: step,
    "jit": jax.jit,
    "jit of jit": lambda step: jax.jit(jax.jit(step)),
    "checkpoint": jax.checkpoint,
}


def pair(*batch):
    state = Pair(*(like(seed, jnp.zeros((*batch, 3))) for seed in (2, 4)))
    return like(1, jnp.zeros((3, 3))), state, like(3, jnp.zeros((T, *batch, 3)))


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_bare_step_whose_output_is_a_leaf_of_its_state(wrap, x64):
    w, state, xs = pair(B)
    got = rx.flow.loss_gradients(WRAPPERS[wrap](crossed), w, state, xs, everywhere)
    _, expected = by_perturbing(everywhere, crossed, lambda state: state.b, w, state, xs)
    assert_close(got.gradients(), expected, rtol=1e-11, atol=1e-13)
    assert float(abs(expected.b[-1]).max()) > 1e-2  # the direct part, at T


def test_output_that_is_a_pytree_of_leaves(x64):
    w, state, xs = pair()

    def loss(ys):
        return everywhere(ys[0]) + jnp.sum(ys[1] ** 2)

    got = rx.flow.loss_gradients(both, w, state, xs, loss)
    _, expected = by_perturbing(loss, both, lambda state: (state.b, state.a), w, state, xs)
    assert_close(got.gradients(), expected, rtol=1e-11, atol=1e-13)


def read_out(w, h, x):
    h = jnp.tanh(h @ w + x)
    return h, jnp.sum(h**2)


def test_output_computed_otherwise_counts_towards_the_state_before(x64):
    w, state, xs = pair()
    got = rx.flow.loss_gradients(read_out, w, state.a, xs, everywhere)

    def run(eps):
        def body(h, now):
            x, nudge = now
            h, y = read_out(w, h, x)
            return h + nudge, y

        return everywhere(jax.lax.scan(body, state.a, (xs, eps))[1])

    expected = jax.jit(jax.grad(run))(jnp.zeros((T, 3)))
    assert_close(got.gradients(), expected, rtol=1e-11, atol=1e-13)
    assert float(got.log_norm[-1]) == -np.inf  # nothing reads s_T
    assert not got.direction[-1].any()


def test_residual_output_counts_towards_the_state_before_too(x64):
    """x + h is not h itself."""
    cell, params, state, xs = make_case("residual", "float64")
    got = rx.flow.loss_gradients(cell, params, state, xs, everywhere)
    assert (got.log_norm[-1] == -np.inf).all()
    assert bool(jnp.isfinite(got.log_norm[:-1]).all())


def symbols(w, state, x):
    """An integer counter in the state, an integer among the outputs."""
    h = jnp.tanh(state["h"] @ w + x)
    return {"n": state["n"] + 1, "h": h}, {"h": h, "symbol": jnp.argmax(h)}


def test_integers_in_state_and_output_carry_no_gradient(x64):
    w, state, xs = pair()
    start = {"n": jnp.int32(0), "h": state.a}
    got = rx.flow.loss_gradients(symbols, w, start, xs, lambda ys: everywhere(ys["h"]))

    def plain(w, h, x):
        h = jnp.tanh(h @ w + x)
        return h, h

    expected = rx.flow.loss_gradients(plain, w, state.a, xs, everywhere)
    assert_close(got.log_norm, expected.log_norm, rtol=1e-13)
    assert_close(got.direction["h"], expected.direction, rtol=1e-13)
    assert got.direction["n"].tolist() == [0] * T


# --- log scale ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_log_scale_where_grad_underflows_or_overflows(scale):
    """A linear network: d L / d s_t = w^(T-t) d L / d s_T, here 2^-(T-t) or its inverse."""
    length = 2000
    w, h, xs = scale * jnp.eye(2)[::-1], jnp.zeros(2), jnp.zeros((length, 2))

    def loss(ys):
        return jnp.sum(ys[-1])

    got = rx.flow.loss_gradients(linear, w, h, xs, loss)
    left = np.arange(length - 1, -1, -1)
    expected = left * np.log(scale) + np.log(2) / 2
    np.testing.assert_allclose(got.log_norm, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.direction, 0.5**0.5, rtol=1e-6)
    _, plain = by_perturbing(loss, linear, lambda h: h, w, h, xs)
    lost = (plain[0] == 0) | ~jnp.isfinite(plain[0])
    assert bool(lost.all())  # what jax.grad makes of it


def test_a_late_loss_is_not_lost_beside_an_early_one():
    """Each step adds its own part: sum over u >= t of w^(u-t), whose limit is 1 / (1 - w)."""
    length = 500
    w, h, xs = 0.5 * jnp.eye(1), jnp.zeros(1), jnp.zeros((length, 1))
    got = rx.flow.loss_gradients(linear, w, h, xs, jnp.sum)
    left = np.arange(length - 1, -1, -1)
    np.testing.assert_allclose(got.log_norm, np.log(2 - 0.5**left), rtol=1e-6)


def test_a_late_loss_is_not_lost_beside_an_early_one_of_an_output_computed_otherwise():
    """`y = x + h` counts towards the state before: y_5 towards s_4, and y_300 is felt at s_5."""

    def step(w, h, x):
        h = w * h + x
        return h, x + h

    found = rx.flow.loss_gradients(
        step, 0.5, jnp.zeros(1), jnp.ones((300, 1)), lambda ys: jnp.sum(ys[4] + ys[299])
    )
    np.testing.assert_allclose(found.log_norm[3:5], np.log(0.5) * np.asarray([1, 295]), rtol=1e-5)


def test_loss_of_the_first_output_is_not_felt_later():
    cell, params, state, xs = make_case("gru", "float32")
    got = rx.flow.loss_gradients(cell, params, state, xs, lambda ys: jnp.sum(ys[0] ** 2))
    assert (got.log_norm[1:] == -np.inf).all()
    expected = np.log(2 * np.linalg.norm(cell.step(params, state, xs[0])[1], axis=-1))
    np.testing.assert_allclose(got.log_norm[0], expected, rtol=1e-5)
    assert not any(leaf[1:].any() for leaf in jax.tree.leaves(got.gradients()))


def test_one_step(x64):
    cell, params, state, xs = make_case("lstm", "float64")
    got = rx.flow.loss_gradients(cell, params, state, xs[:1], everywhere)
    _, expected = by_perturbing(everywhere, cell.step, OUTPUTS["lstm"], params, state, xs[:1])
    assert_close(got.gradients(), expected, rtol=1e-11, atol=1e-13)


def test_works_under_jit(x64):
    cell, params, state, xs = make_case("lstm", "float64")
    expected = rx.flow.loss_gradients(cell, params, state, xs, everywhere)
    got = jax.jit(lambda p, s, x: rx.flow.loss_gradients(cell, p, s, x, everywhere))(
        params, state, xs
    )
    assert_close(got, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda ys: ys, "float32[6,3,4]"),
        (lambda ys: jnp.sum(ys[-1], 0), "float32[4]"),
        (lambda ys: jnp.argmax(ys), "int32[]"),
        (lambda ys: None, "None"),
    ],
)
def test_loss_that_is_not_a_real_scalar(loss, got):
    with says(
        TypeError,
        f"loss must take the outputs ys and return a real scalar, got {got}. Take a mean or a sum "
        "over time and batch.",
    ):
        rx.flow.loss_gradients(*make_case("gru", "float32"), loss)
