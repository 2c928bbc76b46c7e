"""How many steps are worked on at once, and what is kept."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

import recurrax as rx
from recurrax.gated.local import pointwise_at
from recurrax.unrolling.gated.chunks import chunk_size, keeps_gates
from recurrax.unrolling.gated.operands import LayerSpec, Operands


def plan(cell, length, batch, *, remat=None, dtype="float32"):
    """A spec and the shapes of its operands; nothing is computed."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(lambda p: cell.initial_state(p, (batch,)), params)
    xs = jax.ShapeDtypeStruct((length, batch, params.w_in.shape[0]), jnp.dtype(dtype))
    ops = Operands(params.w_in, params.w_rec, params.b, params.unit, tuple(state), None, xs)
    return LayerSpec(cell.step, reverse=False, remat=remat, all_fields=True), ops


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
    return keeps_gates(ops, pointwise_at(spec.step, *spec.instant(ops)))


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
