"""Every transformation of JAX on the hoisted engine, against the same on the reference engine."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from close import assert_close
from contract import like, make_case
from jax.sharding import PartitionSpec as P
from slow_twin import total

import recurrax as rx

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


class On:
    """One engine on one case; `args` are params, state and xs, `tangent` a direction."""

    def __init__(self, case, engine):
        self.args = case[1:]
        self.tangent = like(4, self.args)
        self.run = functools.partial(rx.unroll, case.cell, engine=engine)
        self.row = jax.tree.map(lambda a: a[0], self.args[1]), self.args[2][:, 0]

    def number(self, args):
        return total(self.run(*args))

    def grad(self, args):
        return jax.grad(self.number)(args)

    def along(self, args):
        return jax.jvp(self.number, (args,), (self.tangent,))[1]

    def one(self, x):
        """The outputs of one row as a function of its inputs."""
        return self.run(self.args[0], self.row[0], x)[1]

    def two(self, tree):
        return jax.tree.map(lambda a: jnp.stack([a, 2 * a]), tree)


def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def over_rows(function, params, state, xs):
    return jax.vmap(lambda s, x: function((params, s, x)), in_axes=(0, 1))(state, xs)


FIRST = {
    "value and grad": lambda on: jax.value_and_grad(on.number)(on.args),
    "jvp": lambda on: jax.jvp(on.number, (on.args,), (on.tangent,)),
    "linearize": lambda on: jax.linearize(on.number, on.args)[1](on.tangent),
    "jacrev": lambda on: jax.jacrev(on.one)(on.row[1]),
    "jacfwd": lambda on: jax.jacfwd(on.one)(on.row[1]),
    "checkpoint": lambda on: jax.grad(jax.checkpoint(on.number))(on.args),
}
BATCHED = {
    "vmap": lambda on: over_rows(lambda args: on.run(*args), *on.args),
    "vmap of grad": lambda on: over_rows(on.grad, *on.args),
    "vmap of jvp": lambda on: jax.vmap(lambda t: jax.jvp(on.number, (on.args,), (t,))[1])(
        on.two(on.tangent)
    ),
    "vmap of linearize": lambda on: jax.vmap(jax.linearize(on.number, on.args)[1])(
        on.two(on.tangent)
    ),
    "grad of vmap": lambda on: jax.grad(lambda p: over_rows(on.number, p, *on.args[1:]).sum())(
        on.args[0]
    ),
    "jvp of vmap": lambda on: jax.jvp(
        lambda p: over_rows(on.number, p, *on.args[1:]), on.args[:1], on.tangent[:1]
    )[1],
    "an ensemble of params": lambda on: jax.vmap(lambda p: on.grad((p, *on.args[1:])))(
        on.two(on.args[0])
    ),
    "grad through an ensemble": lambda on: jax.grad(
        lambda many: jax.vmap(lambda p: on.number((p, *on.args[1:])))(many).sum()
    )(on.two(on.args[0])),
    "jacrev of vmap": lambda on: jax.jacrev(
        lambda xs: over_rows(on.number, on.args[0], on.args[1], xs)
    )(on.args[2]),
}
SECOND = {
    "forward over reverse": lambda on: jax.jvp(on.grad, (on.args,), (on.tangent,))[1],
    "reverse over reverse": lambda on: jax.grad(lambda a: dot(on.grad(a), on.tangent))(on.args),
    "reverse over forward": lambda on: jax.grad(on.along)(on.args),
    "vmap of forward over reverse": lambda on: jax.vmap(
        lambda t: jax.jvp(on.grad, (on.args,), (t,))[1]
    )(on.two(on.tangent)),
}


@pytest.mark.parametrize("group", [FIRST, BATCHED, SECOND], ids=["first", "batched", "second"])
@pytest.mark.parametrize("name", ["elman_tanh", "lstm", "gru", "own_gated"])
def test_transformations(name, group, x64):
    case = make_case(name, "float64")

    def run(engine):
        on = On(case, engine)
        # One program for all of them: much is shared, and compilation is what takes the time.
        return jax.jit(lambda: {name: transform(on) for name, transform in group.items()})()

    found, expected = run("hoisted"), run("scan")
    for transformation in group:
        assert_close(found[transformation], expected[transformation], **TIGHT)
    if group is SECOND:  # there are three orders, and they agree
        for other in ("reverse over reverse", "reverse over forward"):
            assert_close(found[other], found["forward over reverse"], **TIGHT)


def test_without_jit(x64):
    case = make_case("gru", "float64", T=3)
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
    """One device is enough to see that the engine traces under manual sharding."""
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    case = make_case("own_gated", "float64")

    def both(engine):
        run = jax.shard_map(
            functools.partial(rx.unroll, case.cell, engine=engine),
            mesh=mesh,
            in_specs=(P(), P("batch"), P(None, "batch")),
            out_specs=(P("batch"), P(None, "batch")),
        )
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
