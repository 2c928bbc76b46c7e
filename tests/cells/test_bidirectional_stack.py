"""`rx.stack` of bidirectional layers, against a loop layer by layer and row by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from contract import CELLS, B, I, T, like
from slow_twin import jitted, row_loop, total

import recurrax as rx
from recurrax.cells.bidirectional import Bidirectional

MASK = np.array([[1, 0, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool).T
RESETS = np.array([[0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0]], bool).T


def deep_stack(dtype, plain=True):
    """Gated and plain cells, below and above bidirectional layers, one of them nested."""
    gru, lstm, own = rx.cells.gru, rx.cells.lstm, CELLS["own_plain"]
    middle = I if plain else 5  # the kernel wants more units than gates
    inner = rx.stack(
        rx.bidirectional(lstm(5, 6, dtype=dtype), gru(5, 6, dtype=dtype), merge="mul"),
        gru(6, middle, dtype=dtype),
    )
    top = own(dtype) if plain else gru(middle, 4, dtype=dtype)
    return rx.stack(gru(I, 5, dtype=dtype), inner, rx.bidirectional(top, merge="ave"))


def made(deep, dtype):
    params = like(1, jax.eval_shape(deep.init, jax.random.key(0)), 0.5)
    state = jax.eval_shape(lambda p: deep.initial_state(p, (B,)), params)
    return params, like(2, state, 0.5), like(3, jax.ShapeDtypeStruct((T, B, I), dtype))


def twin(cell, params, state, xs, *, reverse=False, **flags):
    """Final state, outputs and states, written out by hand."""
    if isinstance(cell, rx.Cell):
        return row_loop(jitted(cell), params, state, xs, reverse=reverse, **flags)
    if isinstance(cell, Bidirectional):
        ahead = twin(cell.forward, params[0], state[0], xs, reverse=reverse, **flags)
        back = twin(cell.backward, params[1], state[1], xs, reverse=not reverse, **flags)
        a, b = ahead[1], back[1]
        joined = {
            "concat": lambda: np.concatenate([a, b], -1),
            "sum": lambda: a + b,
            "mul": lambda: a * b,
            "ave": lambda: 0.5 * a + 0.5 * b,
        }[cell.merge]()
        return (ahead[0], back[0]), joined, (ahead[2], back[2])
    finals, states = [], []
    for layer, p, s in zip(cell.layers, params, state, strict=True):
        final, xs, after = twin(layer, p, s, xs, reverse=reverse, **flags)
        finals.append(final)
        states.append(after)
    return tuple(finals), xs, tuple(states)


@pytest.mark.parametrize(
    "options",
    [{"mask": MASK}, {"mask": MASK, "resets": RESETS, "reverse": True}],
    ids=["mask", "mask, resets and reverse"],
)
def test_the_slow_twin(x64, options):
    deep = deep_stack("float64")
    params, state, xs = made(deep, "float64")
    final, ys, states = twin(deep, params, state, xs, **options)
    found = rx.unroll(deep, params, state, xs, **options)
    assert_close(jax.tree.leaves(found), jax.tree.leaves((final, ys)))
    assert not np.asarray(found[1])[~MASK].any()
    after = rx.unroll_states(deep, params, state, xs, **options)
    assert_close(jax.tree.leaves(after), jax.tree.leaves(states))


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_how_two_directions_are_joined(x64, merge):
    """Each direction a stack, which sees nothing of the other."""
    gru = rx.cells.gru
    both = rx.bidirectional(
        rx.stack(gru(I, 4, dtype="float64"), gru(4, 2, dtype="float64")), merge=merge
    )
    given = made(both, "float64")
    assert_close(rx.unroll(both, *given, mask=MASK)[1], twin(both, *given, mask=MASK)[1])


def test_every_engine():
    deep = deep_stack("float32", plain=False)
    args = made(deep, "float32")
    ways = [{"engine": e} for e in ("scan", "hoisted", "kernel")] + [{"remat": 4}]

    @jax.jit
    def everything(args):
        def one(args, options):
            return total(rx.unroll(deep, *args, mask=MASK, resets=RESETS, **options))

        return [jax.grad(one)(args, options) for options in ways]

    expected, *others = everything(args)
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(expected))
    for found in others:
        assert_close(found, expected, rtol=2e-4, atol=2e-5)


def test_second_derivatives_and_maps(x64):
    deep = rx.stack(rx.bidirectional(rx.cells.gru(I, 2, dtype="float64")), rx.cells.elman(4, 2))
    params, state, xs = made(deep, "float64")

    def one(params, state, xs):
        return total(rx.unroll(deep, params, state, xs))

    @jax.jit
    def everything(params):
        def slope(p):
            return jax.grad(one)(p, state, xs)

        over = jax.jvp(slope, (params,), (params,))[1]
        back = jax.grad(lambda p: jax.jvp(lambda q: one(q, state, xs), (p,), (params,))[1])(params)
        each = jax.vmap(jax.grad(one), (None, 0, 1))(params, state, xs)
        row = jax.grad(one)(params, jax.tree.map(lambda a: a[1], state), xs[:, 1])
        return over, back, jax.tree.map(lambda a: a[1], each), row

    over, back, each, row = everything(params)
    # Forward over reverse is the Hessian times params, reverse over forward the same.
    assert_close(over, back)
    assert_close(each, row)


def test_no_steps_and_no_state():
    deep = deep_stack("float32")
    params, _, xs = made(deep, "float32")
    start = deep.initial_state(params, (B,))
    assert_same(rx.unroll(deep, params, None, xs), rx.unroll(deep, params, start, xs))
    final, ys = rx.unroll(deep, params, None, xs[:0], mask=MASK[:0], remat=2)
    assert_same(final, start)
    assert ys.shape == (0, B, 2)
    states = rx.unroll_states(deep, params, None, xs[:0])
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(states)} == {(0, B)}


def test_it_is_a_value_and_prints_as_the_call_that_makes_it(key):
    def make():
        both = rx.bidirectional(rx.cells.gru(3, 4), merge="sum")
        return rx.stack(both, rx.cells.elman(4, 2), rx.bidirectional(rx.cells.lstm(2, 3)))

    deep = make()
    assert deep == make()
    assert hash(deep) == hash(make())
    assert repr(deep) == (
        "stack(bidirectional(gru(3, 4, float32), merge='sum'), elman(4, 2, float32), "
        "bidirectional(lstm(2, 3, float32, forget_bias=1)))"
    )
    assert isinstance(rx.stack(rx.cells.gru(3, 4)), rx.Cell)
    params = deep.init(key)
    assert bool(jnp.any(params[2].forward.w_rec != params[2].backward.w_rec))


# --- what does not fit ---------------------------------------------------------------------------


def test_sizes_that_do_not_chain():
    gru = rx.cells.gru
    both, plain = rx.bidirectional(gru(3, 4)), rx.stack(gru(3, 4), gru(4, 5))
    ending = "of the stack gives {} features, but cell {} takes {}: build it with input_size={}"
    for layers, numbers in (
        ((both, gru(4, 4)), (8, 1, 4, 8)),
        ((gru(3, 4), both), (4, 1, 3, 4)),
        ((plain, rx.bidirectional(gru(4, 2))), (5, 1, 4, 5)),
        ((rx.bidirectional(gru(3, 4), merge="ave"), gru(8, 2)), (4, 1, 8, 4)),
        ((rx.stack(both, gru(8, 2)), both), (2, 1, 3, 2)),
    ):
        with says(ValueError, "cell 0 " + ending.format(*numbers)):
            rx.stack(*layers)


def test_two_directions_that_do_not_fit():
    gru = rx.cells.gru
    message = (
        "forward takes 3 features and backward 2, but both read the same inputs: build backward "
        "with input_size=3"
    )
    with says(ValueError, message):
        rx.bidirectional(gru(3, 4), gru(2, 4))
    ending = ' merge="concat" takes any sizes.'
    message = "merge='sum' joins outputs of one size, but forward gives 4 features and backward 5."
    with says(ValueError, message + ending):
        rx.bidirectional(gru(3, 4), gru(3, 5), merge="sum")
    both = rx.bidirectional(gru(I, 4), CELLS["own_plain"]("float32"), merge="mul")
    params, state, xs = made(both, "float32")
    message = (
        "merge='mul' joins outputs of one shape, but those of forward are (6, 3, 4) and those of "
        "backward (6, 3, 2)."
    )
    with says(ValueError, message + ending):
        rx.unroll(both, params, state, xs)
    message = "merge must be one of 'concat', 'sum', 'mul', 'ave'; got 'add'"
    with says(ValueError, message):
        rx.bidirectional(gru(3, 4), merge="add")


@pytest.mark.parametrize("run", [rx.unroll, rx.unroll_states])
def test_params_and_states_of_another_structure(run):
    deep = rx.stack(rx.bidirectional(rx.cells.gru(I, 4)), rx.cells.gru(8, 2))
    params, state, xs = made(deep, "float32")
    ending = "of a stack of 2 cells must be a tuple with one entry for each, got"
    with says(TypeError, f"params {ending} list"):
        run(deep, list(params), state, xs)
    with says(TypeError, f"state {ending} 1 of them"):
        run(deep, params, state[:1], xs)
    ending = (
        "of a bidirectional unroll must be a pair (forward, backward), as its init and "
        "initial_state return; got GRUParams"
    )
    with says(TypeError, f"params {ending}"):
        run(deep, (params[0].forward, params[1]), None, xs)
    with says(TypeError, f"params {ending}"):
        deep.initial_state((params[0].forward, params[1]))


def test_what_wants_a_cell_refuses_it():
    both = rx.bidirectional(rx.cells.gru(3, 4))
    deep = rx.stack(both, rx.cells.gru(8, 3))
    ending = (
        "Wrap a bare step function as rx.Cell(init=..., initial_state=..., step=...), and the "
        "cells of a rx.bidirectional before it joins them."
    )
    with says(TypeError, f"residual takes a rx.Cell, got BidirectionalStack. {ending}"):
        rx.residual(deep)
    with says(TypeError, "forward must be a rx.Cell, got BidirectionalStack"):
        rx.bidirectional(deep)
    message = (
        "cell must be a rx.Cell, got BidirectionalStack. What reads a sequence from both ends has "
        "no step to stream or watch: call rx.unroll in a model of your own, "
        "rx.train.model(init, apply), with a readout beside."
    )
    with says(TypeError, message):
        rx.train.network(deep, 2)
