"""Every transformation of JAX on the hoisted engine, against the same on the reference engine."""

from __future__ import annotations

import functools

import jax
import pytest
from close import assert_close
from contract import like, make_case
from slow_twin import total
from unrolling_transformations import BATCHED, FIRST, SECOND, On, sharded

import recurrax as rx

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


# On the cell with several gates and fields and a unit parameter; that each cell has the right
# derivatives is in test_engine.py.
@pytest.mark.parametrize("group", [FIRST, BATCHED, SECOND], ids=["first", "batched", "second"])
def test_transformations(group, x64):
    case = make_case("own_gated", "float64")

    def run(engine):
        on = On(case, engine)
        # One program for all of them: much is shared, and compilation is what takes the time.
        return jax.jit(lambda: {name: transform(on) for name, transform in group.items()})()

    found, expected = run("hoisted"), run("scan")
    for transformation in group:
        assert_close(found[transformation], expected[transformation], **TIGHT)


def test_without_jit(x64):
    case = make_case("elman_tanh", "float64", T=3)
    found, expected = (On(case, engine) for engine in ("hoisted", "scan"))
    with jax.disable_jit():
        assert_close(found.grad(found.args), expected.grad(expected.args), **TIGHT)


def test_inside_a_scan_over_training_steps(x64):
    def train(on):
        def update(params, _):
            grads = jax.grad(lambda p: on.number((p, *on.args[1:])))(params)
            return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), None

        return jax.lax.scan(update, on.args[0], length=3)[0]

    case = make_case("lstm", "float64")
    found, expected = (
        jax.jit(functools.partial(train, On(case, engine)))() for engine in ("hoisted", "scan")
    )
    assert_close(found, expected, **TIGHT)


def test_shard_map_over_the_batch(x64):
    case = make_case("own_gated", "float64")

    def both(engine):
        run = sharded(case.cell, engine)
        value = jax.value_and_grad(lambda args: total(run(*args)))
        slope = jax.jvp(lambda args: total(run(*args)), (case[1:],), (like(4, case[1:]),))[1]
        return jax.jit(value)(case[1:]), slope

    assert_close(both("hoisted"), both("scan"), **TIGHT)


def test_gradients_of_one_argument_are_those_of_all(x64):
    """What is not asked for is not computed; what is asked for stays the same."""
    cell, *args = make_case("gru", "float64")

    def number(*args):
        return total(rx.unroll(cell, *args, engine="hoisted"))

    everything = jax.jit(jax.grad(number, argnums=(0, 1, 2)))(*args)
    for i in range(3):
        assert_close(jax.jit(jax.grad(number, argnums=i))(*args), everything[i], **TIGHT)
    text = jax.jit(jax.grad(number, argnums=0)).lower(*args).as_text()
    more = jax.jit(jax.grad(number, argnums=(0, 2))).lower(*args).as_text()
    assert text.count("dot_general") == more.count("dot_general") - 1  # dx = dz W_in^T
