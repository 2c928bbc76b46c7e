"""`rx.unroll` and `rx.unroll_states`: resets, options, splits, memory, transformations."""

from __future__ import annotations

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same
from contract import B, T, make_case
from hypothesis import given
from jax.sharding import PartitionSpec as P
from slow_twin import jitted, row_loop, total

import recurrax as rx


@pytest.fixture(params=["lstm", "own_plain"])
def case(request, x64):
    return make_case(request.param, "float64")


# --- resets --------------------------------------------------------------------------------------


def test_a_reset_starts_again_before_its_step(case):
    cell, params, state, xs = case
    resets = jnp.zeros((T, B), bool).at[2].set(True)
    fresh = cell.initial_state(params, (B,))
    _, first = rx.unroll(cell, params, state, xs[:2])
    last, second = rx.unroll(cell, params, fresh, xs[2:])
    expected = (last, jnp.concatenate([first, second]))
    assert_close(rx.unroll(*case, resets=resets), expected)


def test_a_reset_at_every_step_forgets_everything(case):
    cell, params, _, xs = case
    _, ys = rx.unroll(*case, resets=jnp.ones((T, B), bool))
    fresh = cell.initial_state(params, (T, B))
    assert_close(ys, cell.step(params, fresh, xs)[1])


def test_a_reset_holds_where_the_mask_is_false(case):
    off = jnp.zeros((T, B), bool)
    last, _ = rx.unroll(*case, mask=off, resets=off.at[3].set(True))
    assert_same(last, case.cell.initial_state(case.params, (B,)))


def test_no_gradient_passes_a_reset(case):
    def value(state, xs):
        resets = jnp.zeros((T, B), bool).at[2].set(True)
        return total(rx.unroll(*case[:2], state, xs, resets=resets)[0])

    d_state, d_xs = jax.jit(jax.grad(value, argnums=(0, 1)))(*case[2:])
    assert all(bool((leaf == 0).all()) for leaf in jax.tree.leaves(d_state))
    assert bool((d_xs[:2] == 0).all())
    assert bool((d_xs[2:] != 0).all())


# --- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_unroll_states(case, reverse):
    states = row_loop(jitted(case.cell), *case[1:], reverse=reverse)[2]
    assert_close(rx.unroll_states(*case, reverse=reverse), states)


def test_the_output_is_the_field_h_of_the_states(x64):
    case = make_case("lstm", "float64")
    assert_close(rx.unroll_states(*case).h, rx.unroll(*case)[1])


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own_gated", "stack"])
@given(split=st.integers(1, T - 1), reverse=st.booleans(), remat=st.sampled_from([None, 1, 4]))
def test_halves_at_any_split(name, split, reverse, remat):
    with jax.enable_x64(True):
        cell, params, state, xs = make_case(name, "float64")
        run = functools.partial(rx.unroll, cell, params, reverse=reverse, remat=remat)
        parts = [xs[:split], xs[split:]]
        outs = []
        middle = state
        for part in parts[::-1] if reverse else parts:
            middle, out = run(middle, part)
            outs.append(out)
        ys = jnp.concatenate(outs[::-1] if reverse else outs)
        assert_close((middle, ys), run(state, xs))


# --- options -------------------------------------------------------------------------------------


def test_auto_is_an_engine_that_exists(case):
    assert_close(rx.unroll(*case, engine="auto"), rx.unroll(*case, engine="scan"))


def test_numpy_arrays_will_do(case):
    arrays = jax.tree.map(np.asarray, case[1:])
    mask = np.ones((T, B), bool)
    assert_close(rx.unroll(case.cell, *arrays, mask=mask), rx.unroll(*case))


def test_a_bare_step_with_a_tree_for_everything():
    def step(params, state, x):
        total = state["sum"] + params["w"] * x["value"] + x["more"].sum()
        return {"sum": total, "count": state["count"] + 1}, (total, state["count"])

    xs = {"value": jnp.arange(3.0), "more": jnp.ones((3, 2))}
    start = {"sum": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)}
    last, (sums, counts) = rx.unroll(step, {"w": 2.0}, start, xs)
    assert (float(last["sum"]), int(last["count"])) == (12.0, 3)
    assert sums.tolist() == [2.0, 6.0, 12.0]
    assert counts.tolist() == [0, 1, 2]


def test_a_python_number_as_state():
    last, ys = rx.unroll(lambda w, h, x: (w * h + x, h), 0.5, 1.0, jnp.ones(2))
    assert float(last) == 1.75
    assert ys.tolist() == [1.0, 1.5]


# --- memory --------------------------------------------------------------------------------------


def residuals(remat):
    """How many numbers are kept for the backward pass over 64 steps."""
    cell = rx.cells.lstm(2, 8)
    params = cell.init(jax.random.key(0))

    def pull(xs):
        run = functools.partial(rx.unroll, cell, remat=remat, engine="scan")
        return jax.vjp(lambda p: run(p, None, xs), params)[1]

    kept = jax.eval_shape(pull, jax.ShapeDtypeStruct((64, 1, 2), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(kept))


def test_remat_keeps_one_state_every_k_steps():
    fixed = 2 * 32 + 8 * 32 + 32 + 64 * 2  # params and inputs are there anyway
    states = 64 // 8 * 16  # eight chunks of h and c
    slack = 4 * 64  # counters, and leaves that are kept twice
    assert residuals(8) <= 2 * fixed + states + slack
    assert residuals(None) > 64 * 4 * 8  # at least the four gates of every step
    assert residuals(8) < residuals(None) / 3


# --- transformations -----------------------------------------------------------------------------


def test_checkpoint(case):
    def value(*args):
        return total(rx.unroll(case.cell, *args))

    plain, saved = (jax.jit(jax.grad(f, argnums=(0, 1, 2))) for f in (value, jax.checkpoint(value)))
    assert_close(saved(*case[1:]), plain(*case[1:]))


def test_shard_map_over_the_batch(case):
    """One device is enough to see that the engine traces under manual sharding."""
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(P(), P("batch"), P(None, "batch")),
        out_specs=(P("batch"), P(None, "batch")),
    )
    def run(params, state, xs):
        return rx.unroll(case.cell, params, state, xs, remat=4)

    assert_close(jax.jit(run)(*case[1:]), rx.unroll(*case))


def test_donated_states(key):
    cell = rx.cells.lstm(3, 4)
    params = cell.init(key)
    run = jax.jit(functools.partial(rx.unroll, cell), donate_argnums=1)
    state = cell.initial_state(params, (B,))
    xs = jnp.ones((T, B, 3))
    expected = rx.unroll(cell, params, state, xs)
    assert_close(run(params, state, xs), expected)
    assert state.h.is_deleted()
    assert state.c.is_deleted()
