"""Two directions, put together by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, says
from contract import CELLS, B, I, T, make_case
from slow_twin import jitted, row_loop, total

import recurrax as rx

MASK = np.array([[1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool).T


@pytest.fixture
def problem(x64):
    """An LSTM from the start and a GRU from the end, of other sizes."""
    ahead, back = make_case("lstm_forget_bias", "float64"), make_case("gru", "float64")
    both = rx.bidirectional(ahead.cell, back.cell)
    return both, (ahead.params, back.params), (ahead.state, back.state), ahead.xs


@pytest.mark.parametrize("mask", [None, MASK], ids=["", "mask"])
def test_outputs_side_by_side(problem, mask):
    both, params, state, xs = problem
    (ahead_last, back_last), ys = rx.unroll(both, params, state, xs, mask=mask)
    ahead = rx.unroll(both.forward, params[0], state[0], xs, mask=mask)
    assert_close((ahead_last, ys[..., :5]), ahead)
    flipped = None if mask is None else mask[::-1]
    last, outs = rx.unroll(both.backward, params[1], state[1], xs[::-1], mask=flipped)
    assert_close((back_last, ys[..., 5:]), (last, outs[::-1]))
    assert ys.shape == (T, B, 5 + 4)


def test_the_backward_direction_starts_at_the_end_of_each_row(problem):
    """The usual mistake reads the padding first; here it is skipped, whatever its length."""
    both, params, state, xs = problem
    lengths = [2, 5, 0]
    mask = rx.length_mask(jnp.array(lengths), T)
    (_, back_last), _ = rx.unroll(both, params, state, xs, mask=mask)
    for b, length in enumerate(lengths):
        start = expected = jax.tree.map(lambda a, b=b: a[b], state[1])
        if length:
            part = xs[:length, b][::-1]
            expected, _ = rx.unroll(both.backward, params[1], start, part)
        assert_close(jax.tree.map(lambda a, b=b: a[b], back_last), expected)


def test_states_of_both_directions(problem):
    both, params, state, xs = problem
    states = rx.unroll_states(both, params, state, xs, mask=MASK)
    ahead, back = jitted(both.forward), jitted(both.backward)
    assert_close(states.forward, row_loop(ahead, params[0], state[0], xs, mask=MASK)[2])
    backward = row_loop(back, params[1], state[1], xs, mask=MASK, reverse=True)[2]
    assert_close(states.backward, backward)


def test_resets_in_both_directions(problem):
    both, params, state, xs = problem
    resets = ~MASK
    _, ys = rx.unroll(both, params, state, xs, resets=resets)
    ahead, back = jitted(both.forward), jitted(both.backward)
    ahead = row_loop(ahead, params[0], state[0], xs, resets=resets)[1]
    back = row_loop(back, params[1], state[1], xs, resets=resets, reverse=True)[1]
    assert_close(ys, np.concatenate([ahead, back], -1))


def test_reverse_swaps_the_ends_of_time(problem):
    both, params, state, xs = problem
    last, ys = rx.unroll(both, params, state, xs[::-1])
    again, turned = rx.unroll(both, params, state, xs, reverse=True)
    assert_close(tuple(again), tuple(last))
    assert_close(turned, ys[::-1])


def test_no_state_stands_for_both_initial_states(problem):
    both, params, _, xs = problem
    start = both.initial_state(params, (B,))
    assert_close(rx.unroll(both, params, None, xs), rx.unroll(both, params, start, xs))


def test_gradients_with_remat(problem):
    def value(params, state, xs, remat=None):
        return total(rx.unroll(problem[0], params, state, xs, mask=MASK, remat=remat))

    run = jax.jit(jax.grad(value, argnums=(0, 1, 2)), static_argnames="remat")
    assert_close(run(*problem[1:], remat=4), run(*problem[1:]))
    each = run(*problem[1:])[0]
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(each))


def test_one_cell_serves_both_directions_with_params_of_its_own(key):
    both = rx.bidirectional(CELLS["gru"]("float32"))
    assert both == rx.bidirectional(rx.cells.gru(I, 4), rx.cells.gru(I, 4))
    params = both.init(key)
    assert params.forward.w_rec.shape == params.backward.w_rec.shape
    assert bool(jnp.any(params.forward.w_rec != params.backward.w_rec))


def test_every_output_depends_on_every_input(problem):
    both, params, state, xs = problem
    one = jax.tree.map(lambda a: a[0], state)
    jacobian = jax.jit(jax.jacfwd(lambda xs: rx.unroll(both, params, one, xs)[1]))(xs[:, 0])
    assert (np.abs(jacobian).max((1, 3)) > 0).all()


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_only_cells(where):
    cells = {"forward": rx.cells.gru(2, 3), "backward": rx.cells.gru(2, 3)}
    with says(TypeError, f"{where} must be a rx.Cell, got GatedStep"):
        rx.bidirectional(**cells | {where: rx.cells.gru_step})


def test_a_key_that_is_none():
    both = rx.bidirectional(rx.cells.gru(3, 4))
    with says(TypeError, "key must be a JAX random key such as jax.random.key(0), got 0"):
        both.init(0)
