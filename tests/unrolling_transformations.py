"""Every transformation of JAX, as functions of one engine on one case."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from contract import like
from jax.sharding import PartitionSpec as P
from slow_twin import total

import recurrax as rx


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


def sharded(cell, engine):
    """An unroll under `jax.shard_map`; one device is enough to see that the engine traces there."""
    return jax.shard_map(
        functools.partial(rx.unroll, cell, engine=engine),
        mesh=jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,)),
        in_specs=(P(), P("batch"), P(None, "batch")),
        out_specs=(P("batch"), P(None, "batch")),
    )


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
# What meets the rules of a primitive, each once: batches of both passes, shared params and not,
# forward and reverse mode, and a derivative of the backward pass.
OF_A_PRIMITIVE = {
    **{name: FIRST[name] for name in ("value and grad", "jvp", "jacrev")},
    **{name: BATCHED[name] for name in ("vmap of grad", "grad through an ensemble")},
    "forward over reverse": SECOND["forward over reverse"],
}
