"""The hoisted engine gives what the reference engine gives: values, gradients, options, memory."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_finite, says
from contract import B, I, like, make_case
from slow_twin import jitted, row_loop, total

import recurrax as rx
from recurrax.unrolling.gated.engine import hoisted_engine
from recurrax.unrolling.gated.layer import Plan
from recurrax.unrolling.unroll import ENGINES, prefers_hoisted

T = 7  # not divided by the chunks below
GATED = ["elman_tanh", "lstm", "gru", "own_gated", "stack", "residual"]
TIGHT = {"rtol": 1e-12, "atol": 1e-13}


# The two ways to remember; at these sizes the rules by shape would take one of them only.
PLANS = {"hoisted, keeping": Plan(3, True), "hoisted, computing again": Plan(T, False)}


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    """An engine for each plan."""
    for name, plan in PLANS.items():
        monkeypatch.setitem(ENGINES, name, functools.partial(hoisted_engine, plan=plan))


def assert_like_scan(run, *args, **options):
    """`run` on the hoisted engine, both ways: chunks of 3 that keep gates, one that keeps none."""
    expected = run(*args, engine="scan", **options)
    for engine in PLANS:
        assert_close(run(*args, engine=engine, **options), expected, **TIGHT)


def flags(seed, share):
    return np.random.default_rng(seed).random((T, B)) < share


MASKED = {"mask": flags(2, 0.6), "resets": flags(3, 0.3)}
OPTIONS = {
    "nothing": {},
    "mask, resets, reverse": MASKED | {"reverse": True},
    "mask, resets, remat": MASKED | {"remat": 3},
}


def number(cell, *args, **options):
    """A number that every state after every step moves, with its gradient, and its slope."""

    def of(*args):
        return total(rx.unroll_states(cell, *args, **options))

    return jax.value_and_grad(of, argnums=(0, 1, 2))(*args), of


@functools.partial(jax.jit, static_argnums=0, static_argnames=("engine", "reverse", "remat"))
def both(cell, args, tangent, **options):
    """The number, its gradient, and its slope along a line."""
    reverse_mode, of = number(cell, *args, **options)
    return reverse_mode, jax.jvp(of, args, tangent)[1]


# Every cell with what is kept of its gates, and each option with one field and with several.
RUNS = [
    *((name, "nothing") for name in GATED),
    *((name, "mask, resets, reverse") for name in ("gru", "own_gated", "residual")),
    *((name, "mask, resets, remat") for name in ("elman_tanh", "lstm", "stack")),
]


@pytest.mark.parametrize(("name", "options"), RUNS)
def test_values_and_gradients_are_those_of_scan(name, options, x64):
    case = make_case(name, "float64", T=T)
    assert_like_scan(both, case.cell, case[1:], like(9, case[1:]), **OPTIONS[options])


@pytest.mark.parametrize("name", ["lstm", "stack", "residual"])
def test_it_is_the_python_loop(name, x64):
    case = make_case(name, "float64", T=T)
    options = OPTIONS["mask, resets, reverse"]
    expected = row_loop(jitted(case.cell), *case[1:], **options)
    assert_close(rx.unroll(*case, engine="hoisted", **options), expected[:2])
    assert_close(rx.unroll_states(*case, engine="hoisted", **options), expected[2])


@pytest.mark.parametrize("name", ["elman_tanh", "own_gated", "stack", "residual"])
def test_float32_agrees_to_rounding(name):
    case = make_case(name, "float32", T=40)
    tangent = like(9, case[1:])
    expected = both(case.cell, case[1:], tangent, engine="scan")
    assert_close(
        both(case.cell, case[1:], tangent, engine="hoisted"), expected, rtol=1e-4, atol=1e-5
    )


def test_bfloat16_inputs_and_a_float32_state():
    cell, params, state, xs = make_case("gru", "float32", T=T)
    xs = xs.astype(jnp.bfloat16)

    def run(engine):
        def number(*args):
            return total(rx.unroll(cell, *args, engine=engine))

        return jax.jit(jax.grad(number, argnums=(0, 1, 2)))(params, state, xs)

    found, expected = run("hoisted"), run("scan")
    assert found[2].dtype == jnp.bfloat16
    assert_close(found[:2], expected[:2], rtol=2e-2, atol=2e-2)  # the products of xs are bfloat16
    assert_close(found[2], expected[2])


def test_bidirectional(x64):
    both_ways = rx.bidirectional(rx.cells.lstm(I, 4, dtype="float64"))
    params = like(1, jax.eval_shape(both_ways.init, jax.random.key(0)))
    xs = like(2, jax.ShapeDtypeStruct((T, B, I), jnp.float64))

    def run(engine):
        def number(params, xs):
            return total(rx.unroll(both_ways, params, None, xs, engine=engine, mask=flags(4, 0.7)))

        return jax.jit(jax.value_and_grad(number, argnums=(0, 1)))(params, xs)

    assert_close(run("hoisted"), run("scan"), **TIGHT)


def test_a_learned_initial_state_gets_the_gradient_of_resets(x64):
    gru = rx.cells.gru(I, 4, dtype="float64")

    def initial_state(params, batch_shape=()):
        return rx.cells.GRUState(jnp.broadcast_to(jnp.tanh(params.b[:4]), (*batch_shape, 4)))

    cell = rx.Cell(gru.init, initial_state, gru.step)
    _, params, state, xs = make_case("gru", "float64", T=T)
    args = (params, state, xs)
    options = {"resets": flags(3, 0.4), "mask": flags(5, 0.8)}
    tangent = like(9, args)
    expected = both(cell, args, tangent, engine="scan", **options)
    assert_close(both(cell, args, tangent, engine="hoisted", **options), expected, **TIGHT)


@pytest.mark.parametrize(("shape", "length"), [((), 1), ((), 5), ((0,), 5), ((2, 3), 1)], ids=str)
def test_any_batch_shape_and_length(shape, length, x64):
    cell, params, _, _ = make_case("lstm", "float64")
    state = like(3, jax.eval_shape(lambda p: cell.initial_state(p, shape), params))
    xs = like(4, jax.ShapeDtypeStruct((length, *shape, I), jnp.float64))
    args, tangent = (params, state, xs), like(9, (params, state, xs))
    expected = both(cell, args, tangent, engine="scan")
    assert_close(both(cell, args, tangent, engine="hoisted"), expected, **TIGHT)


@functools.partial(jax.jit, static_argnums=0, static_argnames="engine")
def only_backward(cell, args, tangent, **options):
    return number(cell, *args, **options)[0]


# --- pointwise functions that a user might write -------------------------------------------------


class Two(NamedTuple):
    h: jax.Array
    n: jax.Array


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def without_recurrence(unit, z_in, z_rec, state):
    return Two(jnp.tanh(z_in[0]) + 0.5 * state.h, state.n + 1.0)


def with_other_rules(unit, z_in, z_rec, state):
    h = sine(z_in[0] + z_rec[0]) * jax.nn.gelu(z_in[1]) + jax.nn.softplus(z_rec[1])
    return Two(h, jnp.where(state.n > 0, state.n, -state.n) * unit["decay"] + state.h)


def with_a_loop(unit, z_in, z_rec, state):
    h = jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h + z_in[0]), state.h)
    return Two(h + z_rec[1], jax.lax.stop_gradient(state.h) * state.n)


def with_a_gain(unit, z_in, z_rec, state):
    i, g = 0.1 + jnp.tanh(unit["decay"] * (z_in + z_rec)) * jnp.cos(state.n)
    return Two(i * g + state.h, state.h)  # a new field that is an old one


def with_gates_apart(unit, z_in, z_rec, state):
    f = jax.nn.sigmoid(z_in[0] + z_rec[0] * unit["decay"])
    return Two(state.h * 0.5 + z_rec[1] * jnp.exp(z_in[0]), state.n * f + z_in[1])


KINDS = [without_recurrence, with_other_rules, with_a_loop, with_a_gain, with_gates_apart]


@pytest.mark.parametrize("pointwise", KINDS)
def test_pointwise_functions_of_other_kinds(pointwise, x64):
    cell = rx.gated_cell(
        pointwise,
        gates=2,
        state=Two,
        input_size=I,
        hidden_size=4,
        unit_init={"decay": jax.nn.initializers.ones},
        dtype="float64",
    )
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)), 0.5)
    state = like(3, jax.eval_shape(lambda p: cell.initial_state(p, (B,)), params))
    args = (params, state, like(4, jax.ShapeDtypeStruct((T, B, I), jnp.float64)))
    run = both if pointwise is not with_other_rules else only_backward  # a custom_vjp has no jvp
    assert_like_scan(run, cell, args, like(9, args))


# --- padding -------------------------------------------------------------------------------------


def test_whatever_stands_in_masked_inputs():
    cell, params, state, xs = make_case("own_gated", "float32", T=T)
    mask = np.arange(T)[:, None] < [T, 3, 0]

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    def run(params, state, xs):
        return total(rx.unroll(cell, params, state, xs, mask=mask, engine="hoisted"))

    expected = run(params, state, np.where(mask[..., None], xs, 0))
    for padding in np.float32([np.nan, np.inf, 1e30]):
        found = run(params, state, np.where(mask[..., None], xs, padding))
        assert_finite(found)
        assert_close(found, expected)


# --- which engine --------------------------------------------------------------------------------


def test_auto_takes_the_fast_engine_where_a_layer_is_gated():
    plain = make_case("own_plain", "float32").cell
    assert prefers_hoisted(rx.cells.lstm(3, 4).step, 100)
    assert prefers_hoisted(rx.residual(rx.cells.gru(3, 3)).step, 100)
    assert prefers_hoisted(rx.stack(plain, rx.cells.gru(2, 4)).step, 100)
    assert not prefers_hoisted(plain.step, 100)
    assert not prefers_hoisted(rx.cells.lstm(3, 4).step, 1)


@pytest.mark.parametrize("states", [False, True])
def test_auto_runs_a_stack_with_a_layer_that_is_not_gated(states, x64):
    plain = make_case("own_plain", "float64").cell
    cell = rx.stack(
        rx.cells.gru(I, I, dtype="float64"), plain, rx.cells.elman(2, 4, dtype="float64")
    )
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)), 0.5)
    state = like(2, jax.eval_shape(lambda p: cell.initial_state(p, (B,)), params))
    xs = like(4, jax.ShapeDtypeStruct((T, B, I), jnp.float64))
    run = rx.unroll_states if states else rx.unroll
    options = {"mask": flags(6, 0.7), "resets": flags(7, 0.3), "reverse": True}

    def values(engine):
        def number(*args):
            return total(run(cell, *args, engine=engine, **options))

        return jax.jit(jax.value_and_grad(number, argnums=(0, 1, 2)))(params, state, xs)

    assert_close(values("auto"), values("scan"), **TIGHT)


def test_a_cell_that_is_not_gated():
    cell, params, state, xs = make_case("own_plain", "float32")
    message = (
        'engine="hoisted" runs gated cells, but the cell is not one: nothing is known of norm_step '
        'but what it returns. Use engine="auto", which runs gated layers fast and any other by '
        "scan, or write the cell's update for rx.gated_cell."
    )
    with says(TypeError, message):
        rx.unroll(cell, params, state, xs, engine="hoisted")
    stacked = rx.stack(rx.cells.gru(3, 3), cell)
    with says(TypeError, message.replace("the cell is not", "cell 1 of the stack is not")):
        rx.unroll_states(stacked, None, None, xs, engine="hoisted")


@pytest.mark.parametrize("engine", ["scan", "hoisted"])
def test_bad_input_is_told_in_the_same_words(engine):
    cell, params, state, xs = make_case("lstm", "float32")
    with pytest.raises(ValueError, match="xs has its batch axis first"):
        rx.unroll(cell, params, state, jnp.ones((B, 9, I)), engine=engine)
    with pytest.raises(TypeError, match="mask"):
        rx.unroll(cell, params, state, xs, mask=jnp.ones((6, B)), engine=engine)
    with pytest.raises(ValueError, match="remat must be"):
        rx.unroll(cell, params, state, xs, remat=0, engine=engine)


# --- memory --------------------------------------------------------------------------------------


def temporary_bytes(cell, length, batch, **options):
    """What the compiled value and gradient needs besides its arguments and results."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((length, batch, cell.init.input_size), jnp.float32)

    def number(params, xs):
        state, _ = rx.unroll(cell, params, None, xs, **options)
        return jnp.sum(state.h)

    compiled = jax.jit(jax.value_and_grad(number)).lower(params, xs).compile()
    return compiled.memory_analysis().temp_size_in_bytes


# The scan of an Elman cell keeps h twice or three times, by the version of jax; hoisted once.
@pytest.mark.parametrize(
    ("make", "share"), [(rx.cells.elman, 2 / 3), (rx.cells.gru, 1 / 2), (rx.cells.lstm, 1 / 2)]
)
def test_it_needs_much_less_memory_than_scan(make, share):
    cell = make(32, 64)
    fast, plain = (temporary_bytes(cell, 12000, 8, engine=e) for e in ("hoisted", "scan"))
    assert fast <= share * plain


def test_with_remat_memory_grows_as_the_square_root_of_time():
    cell = rx.cells.lstm(4, 16)
    short, long = (
        temporary_bytes(cell, length, 4, engine="hoisted", remat=round(length**0.5))
        for length in (400, 6400)
    )
    assert long < 6 * short  # four times as much, and not sixteen
