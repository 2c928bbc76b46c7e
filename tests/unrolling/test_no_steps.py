"""A sequence of no steps, and a batch of no examples: what a fold of nothing gives."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from close import assert_close, assert_same, says
from contract import CELLS, PLAIN, B, make_case
from slow_twin import total

import recurrax as rx

ENGINES = ("auto", "scan", "hoisted", "kernel")
NO_FLAGS = jnp.zeros((0, B), bool)
OPTIONS = {
    "plainly": {},
    "in every way": {"mask": NO_FLAGS, "resets": NO_FLAGS, "reverse": True, "remat": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", CELLS)
def test_the_state_comes_back_and_there_are_no_outputs(name, options):
    cell, params, state, xs = make_case(name, "float32")
    y = jax.eval_shape(cell.step, params, state, xs[0])[1]
    for engine in ENGINES[:2] if name in PLAIN else ENGINES:
        final, ys = rx.unroll(cell, params, state, xs[:0], engine=engine, **options)
        assert_same(final, state)
        assert (ys.shape, ys.dtype) == ((0, *y.shape), y.dtype)
        states = rx.unroll_states(cell, params, state, xs[:0], engine=engine, **options)
        assert_same(states, jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape)), state))


def test_gradients():
    """Of the state as it is, of params and inputs zero; forward, backward, mapped and compiled."""
    cell, params, state, xs = make_case("lstm", "float32")
    arguments = (params, state, xs[:0])

    def one(engine, *args):
        return total(rx.unroll(cell, *args, engine=engine, remat=3))

    @jax.jit
    def everything(*args):
        found = []
        for engine in ENGINES:
            run = functools.partial(one, engine)
            _, tangent = jax.jvp(run, args, jax.tree.map(jnp.ones_like, args))
            found.append((jax.grad(run, argnums=(0, 1, 2))(*args), tangent))
        return found, jax.grad(total)(args[1])

    found, of_state = everything(*arguments)
    for gradients, tangent in found:
        assert_same(gradients[0], jax.tree.map(jnp.zeros_like, params))
        assert_close(gradients[1], of_state)
        assert gradients[2].shape == xs[:0].shape
        assert_close(tangent, sum(jnp.sum(leaf) for leaf in jax.tree.leaves(of_state)))
    each = jax.vmap(lambda s, x: rx.unroll(cell, params, s, x), (0, 1), (0, 1))
    assert_same(each(state, xs[:0]), rx.unroll(cell, params, state, xs[:0]))


def test_a_stream_with_an_empty_chunk():
    cell, params, state, xs = make_case("stack", "float32")
    whole = rx.unroll(cell, params, state, xs)
    outs = []
    for chunk in (xs[:0], xs[:4], xs[4:4], xs[4:]):
        mask = rx.length_mask(jnp.full(B, len(chunk)), len(chunk))
        state, ys = rx.unroll(cell, params, state, chunk, mask=mask)
        outs.append(ys)
    assert_close((state, jnp.concatenate(outs)), whole)


def test_from_the_initial_state_and_in_both_directions(key):
    both = rx.bidirectional(rx.cells.gru(3, 4), rx.cells.lstm(3, 5))
    params = both.init(key)
    state, ys = rx.unroll(both, params, None, jnp.zeros((0, 2, 3)), remat=2)
    assert_same(state, both.initial_state(params, (2,)))
    assert ys.shape == (0, 2, 9)
    states = rx.unroll_states(both, params, None, jnp.zeros((0, 2, 3)))
    assert states.backward.c.shape == (0, 2, 5)


def test_a_step_of_ones_own_whose_outputs_and_state_hold_anything(key):
    def step(scale, state, x):
        out = {"sum": x["a"].sum(-1), "count": state[1], "key": state[2]}
        return (scale * state[0], state[1] + 1, jax.random.split(state[2])[0]), out

    state = (jnp.ones(2), jnp.int32(3), key)
    xs = {"a": jnp.zeros((0, 2, 4)), "b": jnp.zeros(0, int)}
    final, ys = rx.unroll(step, 2.0, state, xs)
    assert_same(final[:2], state[:2])
    assert jnp.array_equal(jax.random.key_data(final[2]), jax.random.key_data(key))
    assert {name: leaf.shape for name, leaf in ys.items()} == {
        "sum": (0, 2),
        "count": (0,),
        "key": (0,),
    }
    assert ys["count"].dtype == jnp.int32


def test_where_nothing_is_compiled():
    cell, params, state, xs = make_case("gru", "float32")
    with jax.disable_jit():
        final, ys = rx.unroll(cell, params, state, xs[:0])
    assert_same(final, state)
    assert ys.shape == (0, B, 4)


def test_what_does_not_fit_is_told_all_the_same():
    cell, params, state, xs = make_case("gru", "float32")
    with says(
        ValueError,
        "mask has shape (1, 3), expected [T, B] with T = 0, as in xs.",
    ):
        rx.unroll(cell, params, state, xs[:0], mask=jnp.ones((1, B), bool))
    with pytest.raises(ValueError, match="features on the last axis"):
        rx.unroll(cell, params, state, jnp.ones((0, B, 2)))


# --- no examples ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "length"), [("lstm", 1), ("stack", 7), ("own_plain", 7)])
def test_no_examples(name, length):
    """With remat, whose chunks were once counted by dividing by nothing."""
    cell, params, _, _ = make_case(name, "float32")
    none, flags = jnp.ones((length, 0, 3)), jnp.ones((length, 0), bool)
    engines = ENGINES if name != "own_plain" else ENGINES[:2]

    def number(params, xs):
        options = {"mask": flags, "resets": flags, "remat": 2}
        found = [rx.unroll(cell, params, None, xs, engine=e, **options) for e in engines]
        return total(found), [ys for _, ys in found]

    gradients, outs = jax.jit(jax.grad(number, argnums=(0, 1), has_aux=True))(params, none)
    assert_same(gradients, jax.tree.map(jnp.zeros_like, (params, none)))
    assert {ys.shape[:2] for ys in outs} == {(length, 0)}
