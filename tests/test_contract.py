"""The laws that every cell keeps, over the table of contract.py, in float64."""

from __future__ import annotations

import functools
import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import TOLERANCE, assert_close, assert_finite, assert_same
from contract import CELLS, B, I, T, like, make_case
from slow_twin import loop, total

import recurrax as rx


@pytest.fixture(params=CELLS)
def name(request):
    return request.param


@pytest.fixture
def case(name, x64):
    return make_case(name, "float64")


def example(tree, b):
    """Example b of a batch."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[b], tree)


def objective(cell, params, state, xs, **options):
    """A number that depends on the last state and on every output."""
    return total(rx.unroll(cell, params, state, xs, **options))


def loop_objective(cell, params, state, xs):
    return total(loop(cell, params, state, xs))


# Compiled as a whole: op by op the same takes many small compilations.
gradients = jax.jit(
    jax.value_and_grad(objective, argnums=(1, 2, 3)),
    static_argnums=0,
    static_argnames="remat",
)
loop_gradients = jax.jit(jax.value_and_grad(loop_objective, argnums=(1, 2, 3)), static_argnums=0)


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [1, 4])
def test_a_whole_is_its_two_halves(case, split):
    cell, params, state, xs = case
    begin, end = np.split(np.asarray(xs), [split])
    middle, first = rx.unroll(cell, params, state, begin)
    last, second = rx.unroll(cell, params, middle, end)
    assert_close((last, np.concatenate([first, second])), rx.unroll(*case))


def test_output_j_depends_on_inputs_up_to_j_only(case):
    cell, params, state, xs = case
    one = example(state, 0)
    jacobian = jax.jit(jax.jacrev(lambda xs: rx.unroll(cell, params, one, xs)[1]))(xs[:, 0])
    assert jacobian.shape[0] == T
    assert jacobian.shape[2:] == (T, I)
    felt = np.abs(np.asarray(jacobian)).max((1, 3))  # [T of the output, T of the input]
    np.testing.assert_array_equal(np.triu(felt, 1), 0)
    assert (np.tril(felt) + np.triu(np.ones((T, T)), 1) > 0).all()


def test_later_inputs_do_not_move_earlier_outputs(case):
    cell, params, state, xs = case
    _, ys = rx.unroll(*case)
    _, moved = rx.unroll(cell, params, state, xs.at[3].add(1.0))
    assert_same(moved[:3], ys[:3])
    assert (np.abs(moved[3:] - ys[3:]).max((1, 2)) > 0).all()


def test_reverse_is_the_flipped_sequence(case):
    cell, params, state, xs = case
    last, ys = rx.unroll(cell, params, state, xs[::-1])
    assert_close(rx.unroll(*case, reverse=True), (last, ys[::-1]))


def test_streaming_gives_what_unroll_gives(name):
    cell, params, state, xs = make_case(name, "float32")
    last, ys = rx.unroll(cell, params, state, xs)
    step = jax.jit(cell.step)
    for x, y in zip(xs, ys, strict=True):
        state, out = step(params, state, x)
        assert_close(out, y)
    assert_close(state, last)


def test_the_last_of_unroll_states_is_the_final_state(case):
    states = rx.unroll_states(*case)
    last, _ = rx.unroll(*case)
    assert_close(jax.tree.map(lambda a: a[-1], states), last)
    twice, _ = rx.unroll(*case[:3], case.xs[:2])
    assert_close(jax.tree.map(lambda a: a[1], states), twice)


# --- the batch -----------------------------------------------------------------------------------


def test_permuting_the_batch_commutes(case):
    cell, params, state, xs = case
    order = jnp.array([2, 0, 1])
    last, ys = rx.unroll(*case)
    turned = rx.unroll(cell, params, jax.tree.map(lambda a: a[order], state), xs[:, order])
    assert_close(turned, (jax.tree.map(lambda a: a[order], last), ys[:, order]))


def test_vmap_is_the_batch(case):
    cell, params, state, xs = case
    one = functools.partial(rx.unroll, cell, params)
    assert_close(jax.vmap(one, in_axes=(0, 1), out_axes=(0, 1))(state, xs), rx.unroll(*case))


def test_two_batch_axes(case):
    cell, params, state, xs = case
    last, ys = rx.unroll(*case)
    wide = rx.unroll(cell, params, jax.tree.map(lambda a: a[:, None], state), xs[:, :, None])
    assert_close(wide, (jax.tree.map(lambda a: a[:, None], last), ys[:, :, None]))


def test_no_state_stands_for_the_initial_state(case):
    cell, params, _, xs = case
    start = cell.initial_state(params, (B,))
    assert_close(rx.unroll(cell, params, None, xs), rx.unroll(cell, params, start, xs))


# --- compilation ---------------------------------------------------------------------------------


def test_jit_is_the_python_loop(case):
    with jax.disable_jit():
        expected = loop(*case)
    assert_close(rx.unroll(*case), expected)
    assert_close(jax.jit(functools.partial(rx.unroll, case.cell))(*case[1:]), expected)


def test_a_cell_and_its_step_run_alike(case):
    assert_close(rx.unroll(case.cell.step, *case[1:]), rx.unroll(*case))


def test_an_equal_cell_compiles_once(name):
    run = importlib.import_module("recurrax.unrolling.unroll")._run
    _, params, state, xs = make_case(name, "float32", T=11)  # a length no other test has
    before = run._cache_size()
    rx.unroll(CELLS[name](jnp.float32), params, state, xs)
    assert run._cache_size() == before + 1
    rx.unroll(CELLS[name](jnp.float32), params, state, 2 * xs)
    assert run._cache_size() == before + 1


def test_an_equal_cell_is_one_static_argument(name):
    cell, params, state, xs = make_case(name, "float32")
    again = CELLS[name](jnp.float32)
    assert again is not cell
    assert again == cell
    assert hash(again) == hash(cell)
    chex.clear_trace_counter()  # it counts by name, and the row before had the same
    run = jax.jit(chex.assert_max_traces(rx.unroll, n=1), static_argnums=0)
    assert_close(run(again, params, state, xs), run(cell, params, state, xs))


def test_a_partial_step_is_the_body_of_a_scan(case):
    cell, params, state, xs = case
    scanned = jax.lax.scan(functools.partial(cell.step, params), state, xs)
    assert_close(scanned, rx.unroll(*case))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dtype_of_the_params_is_kept(name, dtype):
    cell, params, state, xs = make_case(name, dtype)
    with jax.numpy_dtype_promotion("strict"):
        last, ys = rx.unroll(cell, params, state, xs)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((params, last, ys))} == {dtype}
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), (params, state, xs))
    expected = rx.unroll(CELLS[name](jnp.float32), *wide)
    assert_close(
        jax.tree.map(lambda a: a.astype(jnp.float32), (last, ys)), expected, **TOLERANCE[dtype]
    )


# --- derivatives ---------------------------------------------------------------------------------


def test_gradients_are_those_of_the_python_loop(case):
    value, grads = gradients(*case)
    assert_finite(grads)
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(grads))
    assert_close((value, grads), loop_gradients(*case))


def test_jvp_and_vjp_are_transposes(case):
    def run(*args):
        return rx.unroll(case.cell, *args)

    @jax.jit
    def both(args, tangent, cotangent):
        pull = jax.vjp(run, *args)[1]
        return _dot(cotangent, jax.jvp(run, args, tangent)[1]), _dot(pull(cotangent), tangent)

    cotangent = like(5, jax.eval_shape(run, *case[1:]))
    assert_close(*both(case[1:], like(4, case[1:]), cotangent))


def _dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# How often and in which order derivatives are taken concerns the engine: a gated cell, layers of
# them, and a plain cell. Each transformation by itself is in unrolling/gated.
KINDS = pytest.mark.parametrize("name", ["gru", "stack", "own_plain"])


def objective_of(case):
    return functools.partial(objective, case.cell)


@KINDS
def test_vmap_of_grad_and_grad_of_vmap(case):
    _, params, state, xs = case
    slope = jax.grad(objective_of(case))

    def together(params):
        return jax.vmap(objective_of(case), in_axes=(None, 0, 1))(params, state, xs).sum()

    @jax.jit
    def both(params):
        return jax.vmap(slope, in_axes=(None, 0, 1))(params, state, xs), jax.grad(together)(params)

    each, summed = jax.tree.map(np.asarray, both(params))
    one = jax.jit(slope)
    for b in range(B):
        assert_close(example(each, b), one(params, example(state, b), np.asarray(xs)[:, b]))
    assert_close(summed, jax.tree.map(lambda a: a.sum(0), each))


@KINDS
def test_second_derivatives_agree_in_every_order(case):
    direction = like(4, case[1:])

    def number(args):
        return objective(case.cell, *args)

    def along(args):
        return jax.jvp(number, (args,), (direction,))[1]

    orders = {
        "forward over reverse": lambda a: jax.jvp(jax.grad(number), (a,), (direction,))[1],
        "reverse over reverse": jax.grad(lambda a: _dot(jax.grad(number)(a), direction)),
        "reverse over forward": jax.grad(along),
    }
    # One program for all three: they share much, and compilation is what takes the time.
    found = jax.jit(lambda a: {order: run(a) for order, run in orders.items()})(case[1:])
    assert_finite(found)
    for other in list(orders)[1:]:
        assert_close(found[other], found["forward over reverse"])


def test_remat_changes_nothing(case):
    expected = gradients(*case)
    assert_close(gradients(*case, remat=4), expected)


# Unlike 4 dividing T = 6, or above it.
@pytest.mark.parametrize(("name", "remat"), [("lstm", 9), ("stack", 2), ("own_plain", 9)])
def test_remat_of_any_size(case, remat):
    assert_close(gradients(*case, remat=remat), gradients(*case))
