"""Padded arrays that are kept in parts: the same numbers, and nothing padded left."""

from __future__ import annotations

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same
from halves import skip_without
from hypothesis import given
from jax import lax

from recurrax.gated.tracing import PaddedGates, trace

G, B, H = 4, 2, 3
ZERO = np.float32(0)  # a literal, as the transpose of a slice has it


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def pad(z, low, high, inside=0, value=ZERO, axis=0):
    config = [(0, 0, 0)] * z.ndim
    config[axis] = low, high, inside
    return lax.pad(z, value, config)


def names(graph):
    return [eqn.primitive.name for eqn in graph.equations]


def evaluated(function, *args):
    """The function by way of its graph."""
    graph = trace(function, *args)
    known = dict(zip(jax.tree.leaves(graph.inputs), jax.tree.leaves(args), strict=True))
    values = graph.evaluate(jax.tree.leaves(graph.outputs), known)
    return jax.tree.unflatten(jax.tree.structure(graph.outputs), values)


def pulled(function):
    """The function's gradient, of anything that is pulled back through it."""
    return lambda ct, *args: jax.vjp(function, *args)[1](ct)


@functools.partial(jax.jit, static_argnums=0)
def by_graph_and_plain(function, *args):
    out = function(*args)
    error = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), out)
    pull = pulled(function)
    found = evaluated(function, *args), evaluated(pull, error, *args)
    return found, (out, pull(error, *args))


def check(function, *args):
    assert_close(*by_graph_and_plain(function, *args))


# --- functions that take arrays apart ------------------------------------------------------------


def unpack(z):
    i, f, g, o = jnp.tanh(z)
    return i * f + g * o


def unpack_some(z):
    return jnp.tanh(z)[1] * z[3]


def overlapping(z):
    return jnp.tanh(z[0:3]) * z[1:4]


def slices_of_slices(z):
    inner = jnp.tanh(z)[1:4]
    return inner[0:2][1] * inner[2] + z[1:][1:][1:][0]


def split(z):
    a, b = jnp.split(jnp.sin(z), 2)
    return a[0] * b[1] - a[1]


def strided(z):
    return jnp.tanh(z)[::2] * z[1::2]


def other_axes(z):
    return jnp.tanh(z)[1:3, :1] * z[0:2, 1:, ::-1]


def nested(z):
    half = jax.jit(lambda z: jnp.tanh(z) * 0.5)
    first = jax.jit(lambda z: half(z)[0])
    return first(z) - half(-z)[2]


def chosen(z):
    i, f, g, o = jnp.where(z > 0, jnp.tanh(z), 0.1 * z)
    return jnp.where(i > f, g, -o)


def converted(z):
    i, *_, o = jnp.tanh(z.astype(jnp.float16)).astype(jnp.float32) * z
    return i + 2.0 * o


def squared(z):
    return jnp.tanh(z)[0] ** 2 * jnp.sqrt(1 + z[1] ** 2) / (2 + jnp.cos(z[3]))


def in_a_loop(z):
    return lax.scan(lambda c, row: (c * 0.5 + row, c * row), z[0], jnp.tanh(z)[1:])


UNPACKING = [
    unpack, unpack_some, overlapping, slices_of_slices, split, strided, other_axes, nested, chosen,
    converted, squared, in_a_loop,
]  # fmt: skip


@pytest.mark.parametrize("function", UNPACKING, ids=lambda f: f.__name__)
def test_a_function_that_unpacks(function):
    skip_without("float16" if function is converted else "float32")
    check(function, draw(1, G, B, H))


@pytest.mark.parametrize("function", [unpack, unpack_some, split, nested, chosen])
def test_no_padding_is_left_in_the_gradient(function):
    z = draw(1, G, B, H)
    error = function(z)
    graph = trace(pulled(function), error, z)
    assert "pad" not in names(graph)


def shapes_of(graph, *kinds):
    eqns = (eqn for eqn in graph.equations if eqn.primitive.name in kinds)
    return [eqn.outvars[0].aval.shape for eqn in eqns]


def test_the_gradient_of_unpacking_is_put_together_once():
    graph = trace(pulled(unpack), draw(2, B, H), draw(1, G, B, H))
    assert shapes_of(graph, "concatenate", "stack") == [(G, B, H)]  # the newest jax stacks
    assert set(shapes_of(graph, "add", "add_any", "neg")) <= {(1, B, H), (B, H)}


def test_taking_a_gate_of_a_gradient_finds_what_went_in():
    def gate_by_gate(error, z):
        return tuple(pulled(unpack)(error, z)[0])

    graph = trace(gate_by_gate, draw(2, B, H), draw(1, G, B, H))
    assert not {"pad", "concatenate"} & set(names(graph))


# --- functions that pad --------------------------------------------------------------------------


def neg(z):
    return -pad(z, 1, 2)


def mul(z):
    return pad(z, 1, 0) * pad(z, 0, 1) * 3.0


def add(z):
    return pad(z, 0, 2) + pad(z, 2, 0) + pad(jnp.sin(z), 1, 1)


def add_a_whole(z):
    return jnp.cos(pad(z, 2, 1)) + pad(z, 2, 1)


def select(z):
    padded, other = pad(z, 1, 2), pad(z, 2, 1)
    full = jnp.concatenate([z, z])[: G + 3]
    return [
        jnp.where(full > 0, padded, other),
        jnp.where(full > 0, padded, full),
        jnp.where(full > 0, full, other),
        jnp.where(pad(z > 0, 1, 2, value=False), full, other),
        lax.select_n(z[0, 0, 0] > 0, padded, other),
    ]


def slice_across(z):
    padded = pad(z, 2, 3)
    return [padded[a:b] for a, b in [(0, 2), (0, 3), (1, 7), (2, 6), (3, 5), (5, 9), (7, 9)]]


def slice_then_more(z):
    padded = pad(z, 2, 3) * 2.0
    return -(padded[1:4]) * jnp.ones((3, 1, 1)) + padded[1:][0:3]


def slice_other_axes(z):
    return pad(z, 1, 1)[:, :1] * pad(z, 1, 1)[::2].sum(), pad(z, 1, 1)[2, 1]


def negative(z):
    return pad(z, -1, 2) * 2.0 + pad(z, 2, -1)


def interior(z):
    return pad(z, 1, 0, inside=1) * 2.0 - pad(z, 0, 1, inside=1)


def other_value(z):
    return pad(z, 1, 1, value=np.float32(2)) * pad(z, 1, 1)


def computed_value(z):
    return pad(z, 1, 1, value=z[0, 0, 0]) * pad(z, 2, 0)


def other_axis(z):
    return pad(z, 1, 2, axis=1) * 2.0 + pad(pad(z, 1, 0, axis=1), 2, 0, axis=1)[:, :5]


def twice(z):
    return pad(pad(z, 1, 0) * 2.0, 0, 2)[1:] + pad(z, 0, 2)


def nothing(z):
    return pad(z, 0, 0) * z


def no_parts(z):
    return pad(z, 0, 4) * pad(z, 4, 0)


def reduced(z):
    return pad(z, 1, 2).sum(0), jnp.tanh(pad(z, 1, 2)), pad(z, 1, 2)[::-1].T


def handed_to_a_jit(z):
    return jax.jit(lambda a, b: (-a, a * b))(pad(z, 1, 1), pad(z, 0, 2))


PADDING = [
    neg, mul, add, add_a_whole, select, slice_across, slice_then_more, slice_other_axes, negative,
    interior, other_value, computed_value, other_axis, twice, nothing, no_parts, reduced,
    handed_to_a_jit,
]  # fmt: skip


@pytest.mark.parametrize("function", PADDING, ids=lambda f: f.__name__)
def test_a_function_that_pads(function):
    check(function, draw(1, G, B, H))


@given(st.data())
def test_any_few_operations(data):
    """Of six rows each; what is padded, taken and combined is drawn."""
    program = []
    for n in range(1, 6):
        one, other = (data.draw(st.integers(0, n - 1)) for _ in range(2))
        kind = data.draw(st.sampled_from(["pad", "slice", "add", "mul", "neg", "where", "tanh"]))
        program.append((kind, one, other, *sorted(data.draw(st.tuples(*[st.integers(0, 5)] * 2)))))

    def run(z):
        values = [z]
        for kind, one, other, low, high in program:
            a, b, rows = values[one], values[other], slice(low, high + 1)
            values.append(
                {
                    "pad": lambda: pad(a[rows], low, 5 - high),  # noqa: B023
                    "slice": lambda: pad(a, 5, 0)[low : low + 6],  # noqa: B023
                    "add": lambda: a + b,  # noqa: B023
                    "mul": lambda: a * b,  # noqa: B023
                    "neg": lambda: -a,  # noqa: B023
                    "where": lambda: jnp.where(b > 0, a, pad(a[rows], low, 5 - high)),  # noqa: B023
                    "tanh": lambda: jnp.tanh(a),  # noqa: B023
                }[kind]()
            )
        return values[-1], values[len(values) // 2]

    check(run, draw(1, 6, 2))


# --- the rows themselves -------------------------------------------------------------------------


def test_whole_puts_each_part_in_its_place():
    parts = {(4, 5): jnp.full((1, 2), 3.0), (1, 3): jnp.arange(4.0).reshape(2, 2)}
    expected = jnp.asarray([[0, 0], [0, 1], [2, 3], [0, 0], [3, 3], [0, 0]], jnp.float32)
    assert_same(PaddedGates((6, 2), jnp.float32, parts).whole(), expected)


def test_whole_of_no_parts_is_zero():
    assert_same(PaddedGates((2, 3), jnp.dtype("int32"), {}).whole(), jnp.zeros((2, 3), jnp.int32))


def test_a_part_is_what_went_in():
    part = jnp.arange(6.0).reshape(3, 2)
    rows = PaddedGates((6, 2), jnp.float32, {(1, 4): part})
    assert rows.part(1, 4) is part
    assert_same(rows.part(2, 3), part[1:2])
    assert rows.part(4, 6) is None
    assert rows.part(0, 1) is None


# --- shapes and numbers that operations let pass -------------------------------------------------


def test_a_number_added_to_rows():
    check(lambda z: pad(z, 1, 1) + 1.0, draw(1, G, B, H))


def test_a_choice_of_three():
    def function(z):
        which = jnp.arange(6 * B * H).reshape(6, B, H) % 3
        return lax.select_n(which, pad(z, 0, 2), pad(z, 1, 1), pad(z, 2, 0))

    check(function, draw(1, G, B, H))


def test_gates_that_share_a_factor():
    """`mul` takes [G, B, H] and [1, 1, H] as they are."""

    def function(z, gain):
        i, f, g, o = jnp.tanh(gain * z)
        return i * f + g * o

    check(function, draw(1, G, B, H), draw(2, H))


def test_gates_that_share_a_factor_afterwards():
    def function(z, h):
        i, f, g, o = jnp.tanh(z) * h
        return i * f + g * o

    check(function, draw(1, G, B, H), draw(2, B, H))


def test_no_rows_at_all():
    check(lambda z: pad(z, 1, 1)[2:2] * 2.0, draw(1, G, B, H))


def test_a_scalar_that_is_padded():
    check(lambda z: lax.pad(z[0, 0, 0], ZERO, ()), draw(1, G, B, H))


def test_one_padded_row_that_stands_for_all():
    check(lambda z: pad(z[:1], 0, 0) * z, draw(1, G, B, H))
