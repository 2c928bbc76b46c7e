"""How many steps are worked on at once, what is kept, and time in chunks against plain loops."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recurrax as rx
from recurrax.gated.derivatives import traced_pointwise
from recurrax.unrolling.gated.layer import Chunks, LayerSpec, Operands


def plan(cell, length, batch, *, remat=None, dtype="float32"):
    """A spec and the shapes of its operands; nothing is computed."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda p: cell.initial_state(p, (batch,)), params)
    xs = jax.ShapeDtypeStruct((length, batch, params.w_in.shape[0]), jnp.dtype(dtype))
    ops = Operands(params.w_in, params.w_rec, params.b, params.unit, tuple(state), None, xs)
    return LayerSpec(cell.step, reverse=False, remat=remat, all_fields=True), ops


def chunk_size(spec, ops, *, forward=False):
    return spec.chunks(ops, forward=forward).size


def sizes(hidden, batch, lengths, **options):
    cell = rx.cells.lstm(3, hidden)
    return {length: chunk_size(*plan(cell, length, batch), **options) for length in lengths}


LENGTHS = [*range(2, 40), 60, 64, 97, 100, 101, 256, 360, 1000, 1024, 5040]


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize(("hidden", "batch"), [(1, 1), (16, 8), (64, 64), (512, 512), (8, 0)])
def test_at_least_two_and_never_above_the_length(hidden, batch, forward):
    for length, size in sizes(hidden, batch, LENGTHS, forward=forward).items():
        assert 2 <= size <= length


def test_a_single_step_is_one_chunk():
    assert sizes(16, 8, [1]) == {1: 1}


@pytest.mark.parametrize(("hidden", "batch"), [(1, 1), (32, 32), (64, 64)])
def test_divides_lengths_of_many_divisors(hidden, batch):
    lengths = [12, 60, 64, 100, 256, 360, 1000, 1024, 5040]
    for length, size in sizes(hidden, batch, lengths).items():
        assert length % size == 0


def test_a_prime_length_has_a_shorter_chunk_at_its_end():
    for length, size in sizes(32, 32, [97, 101, 1009]).items():
        assert length % size != 0
        assert size <= length / 2


def test_chunks_shrink_as_a_step_grows():
    few = [chunk_size(*plan(rx.cells.lstm(3, 128), 1024, batch)) for batch in (8, 32, 128, 512)]
    assert few == sorted(few, reverse=True)
    assert few[0] > few[-1]


def test_a_chunk_of_wider_numbers_has_fewer_steps(x64):
    narrow, wide = (
        chunk_size(*plan(rx.cells.lstm(3, 64, dtype=dtype), 1024, 32, dtype=dtype))
        for dtype in ("float32", "float64")
    )
    assert wide == narrow // 2


def test_forward_chunks_are_no_larger_on_a_cpu():
    if jax.default_backend() != "cpu":
        pytest.skip("about the cache of a CPU")
    run = functools.partial(chunk_size, *plan(rx.cells.lstm(3, 128), 1024, 32))
    assert run(forward=True) < run()


@pytest.mark.parametrize(("remat", "expected"), [(1, 1), (3, 3), (10, 10), (11, 10), (500, 10)])
@pytest.mark.parametrize("forward", [False, True])
def test_remat_decides(remat, expected, forward):
    cell = rx.cells.lstm(3, 512)
    assert chunk_size(*plan(cell, 10, 512, remat=remat), forward=forward) == expected


# --- what is kept --------------------------------------------------------------------------------


def keeps(cell, batch=8):
    spec, ops = plan(cell, 16, batch)
    return spec.keeps_gates(ops, traced_pointwise(spec.step, *spec.instant(ops)))


@pytest.mark.parametrize("hidden", [1, 32, 1024])
def test_an_elman_cell_keeps_what_costs_nothing(hidden):
    assert keeps(rx.cells.elman(3, hidden))


def test_an_lstm_keeps_its_gates_from_some_size_on():
    kept = [keeps(rx.cells.lstm(3, 2**n)) for n in range(13)]
    assert kept == sorted(kept)
    assert not kept[0]
    assert kept[-1]


def test_a_large_input_makes_keeping_worth_while_too():
    assert not keeps(rx.cells.lstm(3, 32))
    assert keeps(rx.cells.lstm(4096, 32))


def test_the_batch_does_not_matter_to_what_is_kept():
    for hidden in (64, 2048):
        assert len({keeps(rx.cells.lstm(3, hidden), batch) for batch in (1, 8, 256)}) == 1


# --- time in chunks ------------------------------------------------------------------------------

PIECES = {"length": st.integers(1, 9), "size": st.integers(1, 9), "reverse": st.booleans()}


@given(**PIECES)
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


@given(**PIECES)
def test_the_state_before_each_step(length, size, reverse):
    chunks = Chunks(length, min(size, length), reverse)
    first, states = jnp.asarray(-1.0), jnp.arange(float(length))
    before = np.arange(length) + (1.0 if reverse else -1.0)
    before[-1 if reverse else 0] = -1.0

    def body(carry, _, part, row):
        return carry, chunks.previous(row, part)

    rows = chunks.rows_before(first, states)
    np.testing.assert_array_equal(chunks.run(body, None, states, rows)[1], before)
