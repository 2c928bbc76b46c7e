"""Masks against a Python loop that goes row by row."""

from __future__ import annotations

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_finite, assert_same
from contract import B, T, make_case
from hypothesis import given
from slow_twin import jitted, row_loop, total

import recurrax as rx

ROWS = ["lstm", "own_gated", "stack", "own_plain"]
# Interior holes; nothing at all; a zero-length start; and a whole row.
HOLES = np.array([[1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1]], bool).T
RESETS = np.array([[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 1]], bool).T


@pytest.fixture(params=ROWS)
def case(request, x64):
    return make_case(request.param, "float64")


def compiled(run, **options):
    """`run(cell, params, state, xs)` as one compiled function of its arrays."""
    return jax.jit(functools.partial(run, **options), static_argnums=0)


# Resets without reverse and the other way round: test_any_pattern.
@pytest.mark.parametrize(
    ("resets", "reverse"), [(None, False), (RESETS, True)], ids=["", "resets, reverse"]
)
def test_a_mask_is_an_if(case, reverse, resets):
    options = {"mask": HOLES, "resets": resets, "reverse": reverse}
    last, ys, states = row_loop(jitted(case.cell), *case[1:], **options)
    for remat in (None, 4):
        assert_close(rx.unroll(*case, **options, remat=remat), (last, ys))
        assert_close(rx.unroll_states(*case, **options, remat=remat), states)


@pytest.mark.parametrize("name", ["lstm", "own_plain"])
def test_gradients_under_a_mask(x64, name):
    case = make_case(name, "float64")
    options = {"mask": HOLES, "resets": RESETS, "reverse": True}
    slow = jax.grad(lambda *a: total(row_loop(*a, **options)[:2]), argnums=(1, 2, 3))
    slow = slow(jitted(case.cell), *case[1:])
    assert_close(compiled(jax.grad(fast_of(options), argnums=(1, 2, 3)))(*case), slow)
    options["remat"] = 4
    assert_close(compiled(jax.grad(fast_of(options), argnums=(1, 2, 3)))(*case), slow)


def fast_of(options):
    return lambda *args: total(rx.unroll(*args, **options))


def test_y_is_exactly_zero_where_masked(case):
    _, ys = rx.unroll(*case, mask=HOLES)
    zero = np.asarray((ys == 0).all(-1))
    np.testing.assert_array_equal(zero, ~np.asarray(HOLES))


def test_a_row_that_is_wholly_masked_keeps_its_state(case):
    last, _ = rx.unroll(*case, mask=HOLES)
    states = rx.unroll_states(*case, mask=HOLES)
    for leaf, kept, start in zip(*map(jax.tree.leaves, (last, states, case.state)), strict=True):
        assert_same(leaf[1], start[1])
        assert_same(kept[:, 1], jnp.broadcast_to(start[1], kept[:, 1].shape))


def test_a_mask_of_true_changes_nothing(case):
    assert_close(rx.unroll(*case, mask=jnp.ones((T, B), bool)), rx.unroll(*case))


def test_a_row_ends_where_its_length_says(case):
    lengths = [4, 0, 6]
    last, ys = rx.unroll(*case, mask=rx.length_mask(jnp.array(lengths), T))
    for b, length in enumerate(lengths):
        start = jax.tree.map(lambda a, b=b: a[b], case.state)
        end = start
        if length:
            end, outs = rx.unroll(*case[:2], start, case.xs[:length, b])
            assert_close(ys[:length, b], outs)
        assert_close(jax.tree.map(lambda a, b=b: a[b], last), end)
        assert_same(ys[length:, b], jnp.zeros_like(ys[length:, b]))


def test_one_sequence_has_a_mask_of_one_axis(case):
    state = jax.tree.map(lambda a: a[0], case.state)
    one = rx.unroll(*case[:2], state, case.xs[:, 0], mask=HOLES[:, 0])
    last, ys = rx.unroll(*case, mask=HOLES)
    assert_close(one, (jax.tree.map(lambda a: a[0], last), ys[:, 0]))


@pytest.mark.parametrize(
    ("name", "remat"), [*((name, None) for name in ROWS), ("stack", 4), ("own_plain", 4)]
)
def test_what_stands_in_the_padding_reaches_nothing(name, remat, x64):
    case = make_case(name, "float64")

    def value(cell, params, state, xs):
        out = rx.unroll(cell, params, state, xs, mask=HOLES, remat=remat)
        return total(out), out

    run = compiled(jax.value_and_grad(value, argnums=(1, 2, 3), has_aux=True))
    expected = run(*case)
    for rubbish in (np.nan, np.inf):
        spoilt = np.where(HOLES[..., None], case.xs, rubbish)
        assert not np.isfinite(spoilt).all()
        found = run(*case[:3], spoilt)
        assert_finite(found)
        assert_same(found, expected)
        assert not np.any(np.asarray(found[1][2])[~HOLES])


def test_integers_as_inputs_keep_their_values_under_a_mask():
    """Inputs that are no floats are left as they are: a step may look tokens up."""

    def step(table, h, token):
        h = h + table[token]
        return h, h

    tokens = jnp.array([2, 0, 1])
    mask = jnp.array([True, False, True])
    last, ys = rx.unroll(step, jnp.array([1.0, 10.0, 100.0]), jnp.zeros(()), tokens, mask=mask)
    assert float(last) == 110.0
    assert ys.tolist() == [100.0, 0.0, 110.0]


def test_a_tree_of_inputs_under_a_mask():
    def step(w, h, x):
        h = w * h + x["a"] * x["b"]
        return h, {"twice": 2 * h}

    xs = {"a": jnp.array([1.0, jnp.nan, 3.0]), "b": jnp.array([1.0, 1.0, 2.0])}
    mask = jnp.array([True, False, True])
    last, ys = rx.unroll(step, jnp.asarray(0.5), jnp.zeros(()), xs, mask=mask)
    assert float(last) == 6.5
    assert ys["twice"].tolist() == [2.0, 0.0, 13.0]


flags = st.lists(st.booleans(), min_size=T * B, max_size=T * B)


@pytest.mark.parametrize("name", ["gru", "own_plain"])
@given(mask=flags, resets=flags, reverse=st.booleans())
def test_any_pattern(name, mask, resets, reverse):
    with jax.enable_x64(True):
        case = make_case(name, "float64")
        options = {
            "mask": np.reshape(mask, (T, B)),
            "resets": np.reshape(resets, (T, B)),
            "reverse": reverse,
        }
        last, ys, states = row_loop(jitted(case.cell), *case[1:], **options)
        assert_close(rx.unroll(*case, **options), (last, ys))
        assert_close(rx.unroll_states(*case, **options), states)


def test_a_step_may_divide_by_its_padding(key):
    def step(w, h, x):
        z = w * x
        h = h + z / jnp.linalg.norm(z)
        return h, h

    xs = jax.random.normal(key, (4, 3))
    mask = jnp.array([True, True, False, False])
    grad = jax.grad(lambda w: rx.unroll(step, w, jnp.zeros(3), xs, mask=mask)[0].sum())(jnp.ones(3))
    assert_finite(grad)
    expected = jax.grad(lambda w: rx.unroll(step, w, jnp.zeros(3), xs[:2])[0].sum())(jnp.ones(3))
    assert_close(grad, expected)
