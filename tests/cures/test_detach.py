"""h-detach, against a loop that blocks where the draws say so."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from contract import make_case
from slow_twin import total

import recurrax as rx

KEY = jax.random.key(7)


def draws(state, p, steps):
    """Which steps are blocked, bool [T, B], from the keys in the first state."""
    flags = []
    keys = [jax.random.wrap_key_data(words) for words in state.key]
    for _ in range(steps):
        pairs = [jax.random.split(key) for key in keys]
        keys = [pair[0] for pair in pairs]
        flags.append([bool(jax.random.bernoulli(pair[1], p)) for pair in pairs])
    return np.array(flags)


def test_blocked_steps_pass_nothing_through_h():
    cell, params, state, xs = make_case("lstm", "float32")
    wrapped = rx.cures.detach(cell, 0.5, KEY)
    start = wrapped.initial_state(params, (3,))._replace(state=state)
    blocked = draws(start, 0.5, len(xs))
    assert 3 < blocked.sum() < 15

    def loop(params):
        s, ys = state, []
        for t, x in enumerate(xs):
            h = jnp.where(blocked[t][:, None], jax.lax.stop_gradient(s.h), s.h)
            s, y = cell.step(params, s._replace(h=h), x)
            ys.append(y)
        return total(jnp.stack(ys))

    got = jax.jit(jax.grad(lambda p: total(rx.unroll(wrapped, p, start, xs)[1])))(params)
    assert_close(got, jax.jit(jax.grad(loop))(params))
    run = jax.jit(rx.unroll, static_argnums=0, static_argnames="engine")
    last, ys = run(wrapped, params, start, xs, engine="scan")
    assert_close((last.state, ys), run(cell, params, state, xs, engine="scan"))


def test_always_and_never():
    cell, params, state, xs = make_case("lstm", "float32")

    def gradient(cell, state):
        return jax.jit(
            jax.grad(lambda s: total(rx.unroll(cell, params, s, xs)[1]), allow_int=True)
        )(state)

    never, always = (rx.cures.detach(cell, p, KEY) for p in (0, 1.0))
    start = never.initial_state(params, (3,))._replace(state=state)
    assert_close(gradient(never, start).state, gradient(cell, state))
    cut = gradient(always, start).state
    assert not np.asarray(cut.h).any()
    assert np.asarray(cut.c).all()


def test_a_new_key_is_an_argument_and_compiles_nothing():
    cell, params, _, xs = make_case("lstm", "float32")

    @jax.jit
    def gradient(params, key):
        def loss(params):
            wrapped = rx.cures.detach(cell, 0.5, key)
            resets = jnp.zeros(xs.shape[:2], bool).at[3, 0].set(True)
            mask = rx.length_mask(jnp.array([6, 3, 5]), 6)
            return total(rx.unroll(wrapped, params, None, xs, mask=mask, resets=resets)[1])

        return jax.grad(loss)(params).w_rec

    first, again, other = (gradient(params, jax.random.key(k)) for k in (0, 0, 1))
    assert_same(first, again)
    assert bool(jnp.any(first != other))
    assert gradient._cache_size() == 1


def test_examples_draw_on_their_own_and_vmap_is_a_batch():
    cell, params, state, xs = make_case("lstm", "float32")
    wrapped = rx.cures.detach(cell, 0.5, KEY)
    start = wrapped.initial_state(params, (3,))._replace(state=state)
    assert len({tuple(words) for words in np.asarray(start.key)}) == 3

    def batch(p):
        return total(rx.unroll(wrapped, p, start, xs)[1])

    def rows(p):
        return total(jax.vmap(lambda s, x: rx.unroll(wrapped, p, s, x)[1], (0, 1), 1)(start, xs))

    assert_close(jax.jit(jax.grad(batch))(params), jax.jit(jax.grad(rows))(params))
    assert wrapped.initial_state(params).key.shape == (2,)


def test_in_a_stack_and_after_a_clip():
    lstm = rx.cells.lstm(3, 4)
    clipped = rx.cures.clip_state_gradient(lstm, max_norm=1.0)
    cell = rx.stack(rx.cures.detach(clipped, 0.5, KEY), rx.cells.gru(4, 2))
    plain = rx.stack(lstm, rx.cells.gru(4, 2))
    params = cell.init(jax.random.key(0))
    xs = jnp.ones((5, 2, 3))
    assert_close(rx.unroll(cell, params, None, xs)[1], rx.unroll(plain, params, None, xs)[1])
    assert rx.unroll(cell, params, None, xs)[0][0].state.c.shape == (2, 4)


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")])
def test_keys_of_every_kind(key):
    cell = rx.cures.detach(rx.cells.lstm(3, 4), 0.5, key)
    params = cell.init(jax.random.key(0))
    assert rx.unroll(cell, params, None, jnp.ones((5, 2, 3)))[1].shape == (5, 2, 4)


def test_a_known_key_has_its_value_while_tracing():
    """The cell is a static argument of what runs inside another jit, as in a training loop."""
    cell = rx.cures.detach(rx.cells.lstm(2, 3), 0.5, jax.random.key(1))

    @functools.partial(jax.jit, static_argnums=0)
    def run(cell, params, xs):
        return rx.unroll(cell, params, None, xs)[1]

    params, xs = cell.init(jax.random.key(0)), jnp.ones((4, 2))
    traced = jax.jit(lambda params, xs: run(cell, params, xs))(params, xs)
    assert_close(traced, run(cell, params, xs))


def test_equal_wraps_of_equal_cells_are_equal():
    def make(p=0.5, seed=0):
        return rx.cures.detach(rx.cells.lstm(3, 4), p, jax.random.key(seed))

    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != make(p=0.25)
    assert make() != make(seed=1)
    assert make().step == make(seed=1).step  # so another key compiles no other unroll


def test_bad_arguments():
    lstm = rx.cells.lstm(3, 4)
    for p in (-0.1, 1.5):
        with says(ValueError, f"p must be a probability from 0 to 1, got {p}"):
            rx.cures.detach(lstm, p, KEY)
    with says(ValueError, "p must be finite, got nan"):
        rx.cures.detach(lstm, float("nan"), KEY)
    with says(TypeError, "p must be a number, got 'half'"):
        rx.cures.detach(lstm, "half", KEY)
    with says(TypeError, "key must be a JAX random key such as jax.random.key(0), got 0"):
        rx.cures.detach(lstm, 0.5, 0)
    with pytest.raises(ValueError, match=r"key must be one random key, .*; got \(3,\) keys"):
        rx.cures.detach(lstm, 0.5, jax.random.split(KEY, 3))
    with pytest.raises(TypeError, match=r"detach takes a rx.Cell, got GatedStep"):
        rx.cures.detach(rx.cells.lstm_step, 0.5, KEY)


def test_states_without_h_or_with_h_alone():
    def start(cell):
        params = jax.eval_shape(cell.init, KEY)
        return jax.eval_shape(rx.cures.detach(cell, 0.5, KEY).initial_state, params)

    with pytest.raises(TypeError, match=r"the field h of a state, and a tuple has none. Wrap the"):
        start(rx.stack(rx.cells.lstm(3, 4), rx.cells.lstm(4, 4)))
    with pytest.raises(ValueError, match="and a GRUState has h alone: no gradient would pass a"):
        start(rx.cells.gru(3, 4))
    cell, params, state, xs = make_case("lstm", "float32")
    with pytest.raises(TypeError, match=r"state must be a DetachState, .* got LSTMState"):
        rx.unroll(rx.cures.detach(cell, 0.5, KEY), params, state, xs)
    text = 'engine="hoisted" cannot run the cell: it blocks the gradient through h at random'
    with pytest.raises(TypeError, match=text):
        rx.unroll(rx.cures.detach(cell, 0.5, KEY), params, None, xs, engine="hoisted")
