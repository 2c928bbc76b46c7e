"""JAX's transformations where the kernel has rules of its own, by Pallas's interpreter."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest
from close import assert_close
from contract import make_case
from slow_twin import total
from unrolling_transformations import OF_A_PRIMITIVE, On, sharded

import recurrax as rx
from recurrax.unrolling.kernel import primitive as passes

pytestmark = pytest.mark.slow
LOOSE = {"rtol": 2e-3, "atol": 2e-3}


def test_transformations():
    case = make_case("own_gated", "float32", T=3)

    def run(engine):
        on = On(case, engine)
        table = OF_A_PRIMITIVE.items()
        return jax.jit(lambda: {name: transform(on) for name, transform in table})()

    found, expected = run("interpreted"), run("scan")
    for transformation in OF_A_PRIMITIVE:
        assert_close(found[transformation], expected[transformation], **LOOSE)


def test_vmap_keeps_one_kernel(monkeypatch):
    """Examples join the batch; other weights become groups. Neither is a loop of kernels."""
    case = make_case("gru", "float32")
    sizes = []
    real = passes._pass.bind

    def bind(*args, **params):
        given = jax.tree.unflatten(params["tree"], args)
        sizes.append(jax.tree.leaves(given.z)[0].shape[:3])
        return real(*args, **params)

    monkeypatch.setattr(passes._pass, "bind", bind)
    cell, params, state, xs = case
    run = functools.partial(rx.unroll, cell, engine="kernel")
    jax.vmap(lambda s, x: run(params, s, x), in_axes=(0, 1))(state, xs)
    length, batch = xs.shape[:2]
    assert sizes[-1] == (1, length, batch)
    two = jax.tree.map(lambda a: jnp.stack([a, a]), params)
    jax.vmap(lambda p: run(p, state, xs))(two)
    assert sizes[-1] == (2, length, batch)


def test_shard_map_over_the_batch():
    case = make_case("own_gated", "float32")

    def value_and_grad(engine):
        run = sharded(case.cell, engine)
        return jax.jit(jax.value_and_grad(lambda args: total(run(*args))))(case[1:])

    assert_close(value_and_grad("kernel"), value_and_grad("scan"), **LOOSE)


def test_without_jit():
    case = make_case("elman_tanh", "float32", T=2)
    found, expected = (On(case, engine) for engine in ("kernel", "scan"))
    with jax.disable_jit():
        assert_close(found.grad(found.args), expected.grad(expected.args), **LOOSE)
