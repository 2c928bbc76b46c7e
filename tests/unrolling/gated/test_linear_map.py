"""A linear map with a transpose of its own, under the transformations that reach it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from close import assert_close
from contract import like

from recurrax.unrolling.gated.linear_map import LinearMap, apply


@dataclasses.dataclass(frozen=True)
class Product(LinearMap):
    """`y = (sin(a) @ x, sum(x) + b v)`; the transpose is other code, times `mark`."""

    mark: float = 1.0

    def forward(self, at, x, wanted):
        a, b = at
        first, second = (jnp.zeros(3) if v is None else v for v in x)
        out = [jnp.sin(a) @ first, jnp.sum(first) + b * second]
        return [y if here else None for y, here in zip(out, wanted, strict=True)]

    def backward(self, at, y, wanted):
        a, b = at
        d_y = jnp.zeros(2) if y[0] is None else y[0]
        d_z = jnp.zeros(3) if y[1] is None else y[1]
        out = [(d_y[:, None] * jnp.sin(a)).sum(0) + d_z.sum(), d_z * b]
        return [self.mark * g if here else None for g, here in zip(out, wanted, strict=True)]


A, B, X, V = like(1, [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 3), (), (3,), (3,))])
SHAPES = [jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32)]


def ours(a, b, x, v, mark=1.0):
    return tuple(apply(Product(mark), [a, b], [x, v], SHAPES))


def plain(a, b, x, v):
    return jnp.sin(a) @ x, jnp.sum(x) + b * v


def number(function):
    return lambda args: sum(jnp.sum(jnp.sin(y)) for y in function(*args))


def two(tree):
    return jax.tree.map(lambda a: jnp.stack([a, 2 * a]), tree)


ARGS, TANGENT = (A, B, X, V), like(2, (A, B, X, V))
TRANSFORMATIONS = {
    "the map": lambda f: f(*ARGS),
    "jvp": lambda f: jax.jvp(f, ARGS, TANGENT),
    "grad": lambda f: jax.grad(number(f))(ARGS),
    "jacfwd": lambda f: jax.jacfwd(f, argnums=(0, 2))(*ARGS),
    "jacrev": lambda f: jax.jacrev(f, argnums=(0, 2))(*ARGS),
    "vmap over all": lambda f: jax.vmap(f)(*two(ARGS)),
    "vmap over what it is linear in": lambda f: jax.vmap(f, (None, None, 0, None))(A, B, two(X), V),
    "vmap over what it is linearised at": lambda f: jax.vmap(f, (1, None, None, None), 1)(
        jnp.moveaxis(two(A), 0, 1), B, X, V
    ),
    "grad of vmap": lambda f: jax.grad(
        lambda x: number(lambda x: jax.vmap(f, (0, None, None, None))(two(A), B, x, V))((x,))
    )(X),
    "vmap of grad": lambda f: jax.vmap(jax.grad(number(f)))(two(ARGS)),
    "vmap of vmap": lambda f: jax.vmap(jax.vmap(f, (0, None, None, 0)), (None, None, 0, None))(
        two(A), B, two(X), two(V)
    ),
    "forward over reverse": lambda f: jax.jvp(jax.grad(number(f)), (ARGS,), (TANGENT,))[1],
    "reverse over reverse": lambda f: jax.grad(
        lambda a: sum(jnp.sum(jnp.cos(g)) for g in jax.grad(number(f))(a))
    )(ARGS),
    "reverse over forward": lambda f: jax.grad(lambda a: jax.jvp(number(f), (a,), (TANGENT,))[1])(
        ARGS
    ),
    "transpose": lambda f: jax.linear_transpose(lambda x, v: f(A, B, x, v), X, V)(f(*ARGS)),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations(name):
    transform = TRANSFORMATIONS[name]
    assert_close(jax.jit(lambda: transform(ours))(), jax.jit(lambda: transform(plain))())


def test_grad_runs_the_transpose_that_was_written():
    marked = jax.grad(lambda x: number(lambda x: ours(A, B, x, V, mark=3.0))((x,)))(X)
    assert_close(marked, 3 * jax.grad(lambda x: number(lambda x: plain(A, B, x, V))((x,)))(X))


def test_absent_inputs_and_outputs_that_are_not_wanted():
    out = apply(Product(), [A, B], [X, None], [SHAPES[0], None])
    assert out[1] is None
    assert_close(out[0], plain(A, B, X, V)[0])

    def pull(x):
        return jnp.sum(apply(Product(), [A, B], [x, None], [None, SHAPES[1]])[1])

    assert_close(jax.grad(pull)(X), 3 * jnp.ones(3))
