"""Time in chunks, against plain loops; and how large the chunks are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recurrax as rx
from recurrax.gated.local import pointwise_at
from recurrax.unrolling.gated import chunks as plan
from recurrax.unrolling.gated.chunks import Chunks
from recurrax.unrolling.gated.operands import LayerSpec, Operands

LENGTHS = {"length": st.integers(1, 9), "size": st.integers(1, 9), "reverse": st.booleans()}


@given(**LENGTHS)
def test_every_step_is_met_once_and_in_order(length, size, reverse):
    chunks = Chunks(length, min(size, length), reverse)
    values = jnp.arange(1.0, length + 1)

    def body(carry, first, part, row):
        def step(total, now):
            total = 2 * total + now  # the order shows
            return total, total

        carry, sums = jax.lax.scan(step, carry, part, reverse=reverse)
        return carry, (sums, part + first)

    last, (sums, moved) = chunks.run(body, jnp.zeros(()), values)
    total, expected = 0.0, np.zeros(length)
    for t in reversed(range(length)) if reverse else range(length):
        total = 2 * total + t + 1
        expected[t] = total
    np.testing.assert_array_equal(sums, expected)
    assert float(last) == total
    starts = chunks.size * (np.arange(length) // chunks.size)
    np.testing.assert_array_equal(moved, values + starts)


@given(**LENGTHS)
def test_the_state_before_each_step(length, size, reverse):
    chunks = Chunks(length, min(size, length), reverse)
    first, states = jnp.asarray(-1.0), jnp.arange(float(length))
    before = np.arange(length) + (1.0 if reverse else -1.0)
    before[-1 if reverse else 0] = -1.0

    def body(carry, _, part, row):
        return carry, chunks.previous(row, part)

    rows = chunks.rows_before(first, states)
    np.testing.assert_array_equal(chunks.run(body, None, states, rows)[1], before)


def operands(make, length, batch, size, hidden):
    cell = make(size, hidden)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda p: cell.initial_state(p, (batch,)), params)
    xs = jax.ShapeDtypeStruct((length, batch, size), jnp.float32)
    ops = Operands(params.w_in, params.w_rec, params.b, params.unit, tuple(state), None, xs)
    return LayerSpec(cell.step, False, None, False), ops


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 97, 100, 1000, 1013])
def test_the_size_of_a_chunk(length, forward):
    spec, ops = operands(rx.cells.lstm, length, 32, 64, 128)
    size = plan.chunk_size(spec, ops, forward=forward)
    assert min(length, 2) <= size <= length
    assert length % size == 0 or length in (7, 97, 1013)  # no divisor near
    remat = LayerSpec(spec.step, False, 5, False)
    assert plan.chunk_size(remat, ops, forward=forward) == min(5, length)


def test_what_is_kept_is_a_matter_of_size():
    def keeps(make, size, hidden):
        spec, ops = operands(make, 100, 4, size, hidden)
        return plan.keeps_gates(ops, pointwise_at(spec.step, *spec.instant(ops)))

    assert keeps(rx.cells.elman, 2, 2)  # nothing is kept: h will do
    assert not keeps(rx.cells.lstm, 64, 64)
    assert keeps(rx.cells.lstm, 512, 512)
