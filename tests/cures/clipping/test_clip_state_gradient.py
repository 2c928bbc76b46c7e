"""Clipping of the state's gradient, against a loop that clips after every step."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from contract import make_case
from slow_twin import total

import recurrax as rx


def clip_rows(leaves, max_norm=None, max_value=None):
    """NumPy, example by example."""
    leaves = [np.array(leaf, np.float64) for leaf in leaves]
    if max_value is not None:
        return [np.clip(leaf, -max_value, max_value) for leaf in leaves]
    for b in range(leaves[0].shape[0]):
        size = np.sqrt(sum(np.sum(leaf[b] ** 2) for leaf in leaves))
        for leaf in leaves:
            leaf[b] *= min(1, max_norm / size)
    return leaves


def loop_gradients(case, **limit):
    """Gradients of `total(ys)` by params and first state; how many steps were clipped."""
    cell, params, state, xs = case

    @jax.jit
    def pull(params, state, x, cotangents):
        return jax.vjp(cell.step, params, state, x)[1](cotangents)[:2]

    states, ys = [state], []
    for x in xs:
        new, y = cell.step(params, states[-1], x)
        states.append(new)
        ys.append(y)
    errors = jax.grad(total)(jnp.stack(ys))
    by_params = jax.tree.map(jnp.zeros_like, params)
    delta = jax.tree.map(jnp.zeros_like, state)
    clipped = 0
    for t in reversed(range(len(xs))):
        found, delta = pull(params, states[t], xs[t], (delta, errors[t]))
        by_params = jax.tree.map(jnp.add, by_params, found)
        leaves, tree = jax.tree.flatten(delta)
        new = [jnp.asarray(a, leaves[0].dtype) for a in clip_rows(leaves, **limit)]
        clipped += any(not np.allclose(a, b) for a, b in zip(leaves, new, strict=True))
        delta = jax.tree.unflatten(tree, new)
    return (by_params, delta), clipped


@pytest.mark.parametrize("limit", [{"max_norm": 0.3}, {"max_value": 0.1}], ids=str)
@pytest.mark.parametrize("name", ["lstm", "stack", "own_plain"])
def test_every_step_is_clipped_for_each_example(name, limit):
    cell, params, state, xs = case = make_case(name, "float32")
    wrapped = rx.cures.clip_state_gradient(cell, **limit)

    def loss(params, state):
        return total(rx.unroll(wrapped, params, state, xs)[1])

    expected, clipped = loop_gradients(case, **limit)
    assert clipped >= 3
    assert_close(jax.jit(jax.grad(loss, (0, 1)))(params, state), expected, rtol=1e-4, atol=1e-5)
    run = jax.jit(rx.unroll, static_argnums=0, static_argnames="engine")
    assert_close(
        run(wrapped, params, state, xs, engine="scan"), run(cell, params, state, xs, engine="scan")
    )


def test_a_large_limit_changes_no_gradient():
    cell, params, state, xs = make_case("gru", "float32")
    wrapped = rx.cures.clip_state_gradient(cell, max_norm=1e30)

    def gradient(cell):
        return jax.grad(lambda p: total(rx.unroll(cell, p, state, xs, engine="scan")))(params)

    assert_close(gradient(wrapped), gradient(cell))


# --- one step, whose gradient is what the test says ----------------------------------------------


def through(grads, batch=(2,), **limit):
    """What of the given gradients a clipped step sends back."""
    cell = rx.Cell(
        lambda key: (),
        lambda params, batch_shape=(): jax.tree.map(
            lambda g: jnp.zeros(batch_shape + g.shape[len(batch) :], g.dtype), grads
        ),
        lambda params, state, x: (state, 0.0),
    )
    step = rx.cures.clip_state_gradient(cell, **limit).step
    state = jax.tree.map(jnp.ones_like, grads)
    new, pull = jax.vjp(lambda s: step((), s, 0.0)[0], state)
    assert_same(new, state)
    return pull(grads)[0]


def test_size_is_over_all_fields_of_one_example():
    grads = (jnp.array([[3.0], [0.3]]), jnp.array([[4.0, 0], [0.4, 0]]))
    got = through(grads, max_norm=1.0)
    assert_close(got, (jnp.array([[0.6], [0.3]]), jnp.array([[0.8, 0], [0.4, 0]])))
    assert_same(got[0][1], grads[0][1])  # the short one, to the bit
    alone = through(jax.tree.map(lambda g: g[0], grads), (), max_norm=1.0)
    assert_close(alone, jax.tree.map(lambda g: g[0], got))
    scalars = through(jnp.array([5.0, 0.5]), max_norm=1.0)  # a state of one number an example
    assert_close(scalars, jnp.array([1.0, 0.5]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad, dtype):
    g = jnp.array([[3.0, bad], [3.0, 4.0]], dtype)
    assert_close(through(g, max_norm=1.0), jnp.array([[0, 0], [0.6, 0.8]], dtype))
    entry = 0 if np.isnan(bad) else np.sign(bad)
    assert_close(through(g, max_value=1.0), jnp.array([[1, entry], [1, 1]], dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [1e-37, 1e19, 1e30, 6e37])
def test_huge_tiny_and_zero(size, dtype):
    g = jnp.array([[3 * size, 4 * size], [0, 0]], dtype)
    expected = jnp.array([[3, 4], [0, 0]]) * np.float32(min(size, 0.2))
    assert_close(through(g, max_norm=1.0), expected.astype(dtype), atol=0)
    expected = jnp.minimum(g.astype("float32"), 0.5).astype(dtype)
    assert_close(through(g, max_value=0.5), expected)


def test_fields_of_several_dtypes_and_of_integers():
    def step(params, state, x):
        return state, state["a"]

    start = {"a": jnp.zeros(2, "bfloat16"), "b": jnp.zeros(1), "n": jnp.zeros([], "int32")}
    cell = rx.Cell(lambda key: (), lambda params, batch_shape=(): start, step)
    wrapped = rx.cures.clip_state_gradient(cell, max_norm=1.0)

    def loss(a, b):
        state = wrapped.step((), start | {"a": a, "b": b}, 0.0)[0]
        return jnp.sum(3 * state["a"]).astype("float32") + jnp.sum(state["b"])

    a, b = jax.grad(loss, (0, 1))(start["a"], start["b"])
    assert_close(a, jnp.full(2, 3 / np.sqrt(19), "bfloat16"))
    assert_close(b, jnp.full(1, 1 / np.sqrt(19)))


# --- as a cell -----------------------------------------------------------------------------------


def test_an_exploding_gradient_stays_bounded():
    cell = rx.cells.elman(1, 4, activation="relu")
    params = cell.init(jax.random.key(0))
    params = params._replace(w_rec=3 * jnp.eye(4), b=jnp.ones(4))
    xs = jnp.zeros((60, 2, 1))

    def first(cell):
        start = cell.initial_state(params, (2,))
        return jax.grad(lambda s: rx.unroll(cell, params, s, xs)[0].h.sum())(start).h

    assert float(first(cell).max()) > 1e20
    bounded = first(rx.cures.clip_state_gradient(cell, max_norm=2.0))
    assert_close(bounded, jnp.ones((2, 4)))


def test_rows_masks_resets_and_vmap_agree():
    cell, params, state, xs = make_case("lstm", "float32")
    wrapped = rx.cures.clip_state_gradient(cell, max_norm=0.2)
    mask = rx.length_mask(jnp.array([6, 4, 0]), 6)
    resets = jnp.zeros((6, 3), bool).at[2, 1].set(True)

    def loss(state, xs, mask, resets):
        return total(rx.unroll(wrapped, params, state, xs, mask=mask, resets=resets)[1])

    def rows(state, xs, mask, resets):
        run = jax.vmap(
            lambda *row: rx.unroll(wrapped, params, row[0], row[1], mask=row[2], resets=row[3])[1],
            (0, 1, 1, 1),
            1,
        )
        return total(run(state, xs, mask, resets))

    got, expected = (jax.jit(jax.grad(f))(state, xs, mask, resets) for f in (loss, rows))
    assert_close(got, expected)
    assert not np.asarray(got.h[2]).any()


def test_second_derivatives_also_of_a_gradient_of_zero():
    cell, params, state, xs = make_case("lstm", "float32")
    wrapped = rx.cures.clip_state_gradient(cell, max_norm=0.2)

    @jax.jit
    def second(params, use):
        def first(params):
            loss = jax.grad(lambda p: use * total(rx.unroll(wrapped, p, state, xs)[1]))
            return total(loss(params))

        return jax.grad(first)(params).w_rec

    assert bool(jnp.isfinite(second(params, 1.0)).all())
    assert not np.asarray(second(params, 0.0)).any()


def test_equal_wraps_of_equal_cells_are_equal():
    def make(limit):
        return rx.cures.clip_state_gradient(rx.cells.lstm(3, 4), max_norm=limit)

    assert make(1) == make(1.0)
    assert hash(make(1)) == hash(make(1.0))
    assert make(1) != make(2)
    assert make(1) != rx.cures.clip_state_gradient(rx.cells.lstm(3, 4), max_value=1)


def test_the_hoisted_engine_says_why_not():
    cell, params, state, xs = make_case("lstm", "float32")
    wrapped = rx.cures.clip_state_gradient(cell, max_norm=1.0)
    text = (
        'engine="hoisted" cannot run the cell: it clips the gradient of its state, and the engine '
        'takes gradients to be linear. Use engine="auto", which runs gated layers fast and any '
        "other by scan."
    )
    with says(TypeError, text):
        rx.unroll(wrapped, params, state, xs, engine="hoisted")


def test_forward_mode_is_refused_by_jax():
    cell, params, state, xs = make_case("gru", "float32")
    wrapped = rx.cures.clip_state_gradient(cell, max_norm=1.0)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda s: rx.unroll(wrapped, params, s, xs)[1], (state,), (state,))


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({}, ValueError, "takes exactly one of max_norm and max_value, got neither"),
        ({"max_norm": 1, "max_value": 1}, ValueError, "one of max_norm and max_value, got both"),
        ({"max_norm": 0}, ValueError, "max_norm must be above 0, got 0"),
        ({"max_value": -1.0}, ValueError, "max_value must be above 0, got -1.0"),
        ({"max_norm": np.nan}, ValueError, "max_norm must be finite, got nan"),
        ({"max_value": "1"}, TypeError, "max_value must be a number, got '1'"),
    ],
)
def test_bad_arguments(options, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        rx.cures.clip_state_gradient(rx.cells.gru(3, 4), **options)


def test_what_is_no_cell_and_states_that_do_not_fit():
    with pytest.raises(
        TypeError, match=r"clip_state_gradient takes a rx.Cell, got GatedStep. Wrap"
    ):
        rx.cures.clip_state_gradient(rx.cells.gru_step, max_norm=1.0)
    cell = rx.cures.clip_state_gradient(rx.cells.lstm(3, 4), max_norm=1.0)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params)
    with pytest.raises(TypeError, match=r"state must look like what cell.initial_state\(params, "):
        cell.step(params, (state,), jnp.ones(3))
    with pytest.raises(ValueError, match=r"must share one batch shape, got {'state.h': \(2,\), "):
        cell.step(params, state._replace(h=jnp.zeros((2, 4))), jnp.ones(3))
