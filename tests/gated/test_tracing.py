"""Tracing: nested jits inlined, equal expressions merged, padded gates kept apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from close import assert_close
from contract import like

from recurrax.gated.tracing import is_zero, trace, zeros

Z = like(1, jax.ShapeDtypeStruct((4, 2, 3), jnp.float32))
C = like(2, jax.ShapeDtypeStruct((2, 3), jnp.float32))


def names(graph):
    return [eqn.primitive.name for eqn in graph.equations]


def run(graph, *args):
    variables, leaves = jax.tree.leaves(graph.inputs), jax.tree.leaves(args)
    wanted, tree = jax.tree.flatten(graph.outputs)
    known = dict(zip(variables, leaves, strict=True))
    return jax.tree.unflatten(tree, graph.evaluate(wanted, known))


def lstm(z, c):
    i, f, g, o = jnp.tanh(z * 0.5)
    c = f * c + i * g
    return o * jnp.tanh(c), c


def nested(z, c):
    gates = jax.nn.sigmoid(z[:2]) + jax.nn.sigmoid(z[:2])  # the same twice
    return jax.nn.relu(gates[0]) - jnp.where(c > 0, z[3], -z[2]), -gates[1]


def slices_of_slices(z, c):
    half = z[1:]
    return half[:2][1] * half[2] + (-half)[0], jnp.float32(2) * z[0] + c


def padded_by_the_user(z, c):
    wide = jax.lax.pad(z, 0.0, [(1, 1, 0), (0, 0, 0), (0, 0, 0)])
    ones = jax.lax.pad(z, 1.0, [(1, 0, 0), (0, 0, 0), (0, 0, 0)])
    less = jax.lax.pad(z, 0.0, [(-1, 0, 0), (0, 0, 0), (0, 0, 0)])
    apart = jax.lax.pad(z, 0.0, [(0, 0, 1), (0, 0, 0), (0, 0, 0)])
    aside = jax.lax.pad(z, 0.0, [(0, 0, 0), (1, 0, 0), (0, 0, 0)])
    some = jnp.exp(wide)[:2].sum(0) + (wide + 1.0)[5] * wide[1:3].sum(0) + jnp.maximum(wide, 0)[0]
    return some, c + ones[0] + less[0] + apart[1] + aside[0, :2] + jnp.where(wide > 0, wide, 3.0)[0]


@pytest.mark.parametrize("function", [lstm, nested, slices_of_slices, padded_by_the_user])
def test_a_graph_computes_what_its_function_does(function):
    def with_pull(z, c):
        out, pull = jax.vjp(function, z, c)
        return out, pull(jax.tree.map(jnp.cos, out))

    graph = trace(with_pull, Z, C)
    assert_close(jax.jit(lambda z, c: run(graph, z, c))(Z, C), jax.jit(with_pull)(Z, C))


def test_gates_that_were_unpacked_are_not_padded():
    def pulled(z, c):
        ones = jnp.ones_like(c)
        dz, dc = jax.vjp(lstm, z, c)[1]((ones, ones))
        return tuple(dz), dc

    assert "pad" not in names(trace(pulled, Z, C))


def test_equal_expressions_are_computed_once():
    graph = trace(lambda z: jax.jit(jnp.tanh)(z) + jnp.tanh(z) * jnp.tanh(2 * z), Z)
    assert names(graph).count("tanh") == 2
    assert "jit" not in names(graph)


def test_expressions_that_differ_are_kept_apart():
    graph = trace(lambda z: (z / 0.0 - z / -0.0, z[0] + z[1], z * 2.0 + z * 2), Z)
    assert names(graph).count("div") == 2
    assert names(graph).count("mul") == 1
    assert_close(run(graph, Z)[0], Z / 0.0 - Z / -0.0)


def test_rules_of_the_user_survive():
    graph = trace(jax.nn.relu, Z)
    assert_close(jax.grad(lambda z: run(graph, z).sum())(0 * Z), jnp.zeros_like(Z))  # relu's rule


def test_what_is_known_is_not_computed_again():
    graph = trace(lambda z: jnp.tanh(z) + 1, Z)
    (tanh,) = (eqn.outvars[0] for eqn in graph.equations if eqn.primitive.name == "tanh")
    (out,) = graph.evaluate([graph.outputs], {tanh: 5 * jnp.ones_like(Z)})
    assert_close(out, 6 * jnp.ones_like(Z))


def test_zero_by_structure():
    graph = trace(lambda z: (jnp.zeros_like(z) * z, -jnp.zeros((2, 3)), z * 1.0, z + 0.0), Z)
    assert [is_zero(v, zeros(graph)) for v in graph.outputs] == [True, True, False, False]
