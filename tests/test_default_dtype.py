"""The dtype where none is named: JAX's default float when the cell, or the array, is made."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from close import assert_close

import recurrax as rx
from recurrax.train.loop import Carry, Program, train_step
from recurrax.train.networks.objective import Objective
from recurrax.train.source import batch_source

SWITCH = [(False, "float32"), (True, "float64")]  # jax_enable_x64, and what is then the default


class H(NamedTuple):
    h: jax.Array


def own_pointwise(unit, z_in, z_rec, state):
    return H(unit * jnp.tanh(z_in[0] + z_rec[0]))


def own(I, H_, **options):
    ones = jax.nn.initializers.ones
    return rx.gated_cell(
        own_pointwise,
        gates=1,
        state=H,
        input_size=I,
        hidden_size=H_,
        unit_init=ones,
        **options,
    )


CELLS = {
    "elman": rx.cells.elman,
    "elman-relu": lambda *sizes, **options: rx.cells.elman(*sizes, activation="relu", **options),
    "lstm": rx.cells.lstm,
    "gru": rx.cells.gru,
    "own": own,
}


def dtypes(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


# --- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x64", "dtype"), SWITCH)
@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_a_cell_is_of_the_default_float(make, x64, dtype):
    with jax.enable_x64(x64):
        cell = make(3, 4)
        assert cell == make(3, 4, dtype=dtype) == make(3, 4, dtype=None) == make(3, 4, dtype=float)
        assert hash(cell) == hash(make(3, 4, dtype=dtype))
        for made in (cell, rx.stack(cell, make(4, 4)), rx.bidirectional(cell)):
            params = jax.eval_shape(made.init, jax.random.key(0))
            assert dtypes(params) == {dtype}
            outputs = jax.eval_shape(
                lambda p, made=made: rx.unroll(made, p, None, jnp.ones((5, 2, 3))), params
            )
            assert dtypes(outputs) == {dtype}


@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_it_is_decided_when_the_cell_is_made(make):
    before = make(3, 4)
    with jax.enable_x64(True):
        assert dtypes(jax.eval_shape(before.init, jax.random.key(0))) == {"float32"}
        assert before == make(3, 4, dtype=jnp.float32)
        assert before != make(3, 4)
    assert before == make(3, 4)


def test_a_cell_of_the_default_learns_and_is_measured_in_float64(key, x64):
    cell = rx.cells.lstm(3, 4)
    params, xs = cell.init(key), jnp.ones((6, 2, 3))

    def total(params, engine):
        return jnp.sum(rx.unroll(cell, params, None, xs, engine=engine)[1])

    gradients = [jax.grad(total)(params, engine) for engine in ("scan", "auto")]
    assert dtypes(gradients) == {"float64"}
    assert_close(*gradients)
    assert dtypes(rx.flow.decay(cell, params, None, xs)) == {"float64"}


# --- initialisers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("x64", "dtype"), SWITCH)
def test_initialisers_called_without_a_dtype(x64, dtype, key):
    init = rx.cures.init
    matrices = [
        init.orthogonal(),
        init.identity(),
        init.spectral_radius(0.9),
        init.largest_singular_value(0.9),
        init.critical(),
    ]
    biases = [*init.chrono(9.0), *init.forget_bias(1.0), *init.uniform_gate()]
    biases.append(rx.cells.lstm(3, 4).init.bias_init[1])
    with jax.enable_x64(x64):
        for each, shape in [(m, (4, 4)) for m in matrices] + [(b, (4,)) for b in biases]:
            made = jax.eval_shape(lambda k, each=each, shape=shape: each(k, shape), key)
            assert (made.shape, made.dtype) == (shape, dtype), each


# --- tasks ----------------------------------------------------------------------------------------


def tasks():
    Path("a.txt").write_text("never the same river " * 20)
    return [
        rx.tasks.adding(4),
        rx.tasks.multiplication(4),
        rx.tasks.copying(2, 2, 2),
        rx.tasks.temporal_order(10),
        rx.tasks.counting(5),
        rx.tasks.digits(),
        rx.tasks.text("a.txt", T=5),
    ]


def data(task):
    return None if task.split is None else task.split().train


@pytest.fixture
def every_task(tmp_path, monkeypatch):
    """Built before float64 is switched on, and after."""
    monkeypatch.chdir(tmp_path)
    before = tasks()
    with jax.enable_x64(True):
        return before + tasks()


def test_a_batch_is_of_the_default_float_when_it_is_drawn(every_task, key):
    for x64, dtype in SWITCH:
        with jax.enable_x64(x64):
            for task in every_task:
                batch = jax.eval_shape(lambda k, task=task: task.draw(k, 2, data(task)), key)
                assert {str(batch.xs.dtype), str(batch.weights.dtype)} == {dtype}, task.name
                assert str(batch.targets.dtype) in (dtype, "int32"), task.name


def test_numbers_stored_narrow_are_widened_and_wide_ones_kept(x64):
    task = rx.tasks.digits()
    # Of the two halves the one that every processor has code for.
    halves = rx.tasks.Batch(*(np.ones((64, 2), jnp.bfloat16) for _ in range(3)))
    assert dtypes(task.take(halves, jnp.arange(2))) == {"float64"}
    with jax.enable_x64(False):
        assert dtypes(task.take(halves, jnp.arange(2))) == {"float32"}


def test_digit_sequences_are_of_the_default_float():
    for x64, dtype in SWITCH:
        with jax.enable_x64(x64):
            assert rx.tasks.digit_sequences().xs.dtype == dtype


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_a_training_step_under_x64(every_task, key, x64, dtype):
    """Every task, built before float64 was switched on, takes a cell of any dtype: on shapes alone.

    With a penalty and a measurement of the flow, which are given the inputs too.
    """

    def penalty(cell, params, state, xs):
        return rx.cures.omega(cell, params, state, xs, lambda ys: jnp.sum(ys[-1]))

    chosen = every_task[:7] if dtype is None else (every_task[0], every_task[5])
    for task in chosen:
        cell = rx.cells.gru(task.input_size, 3, dtype=dtype)
        net = rx.train.network(cell, task.output_size)
        source = batch_source(task, net, 2)
        optimizer = optax.adam(1e-3)
        objective = Objective(net, task.loss, task.metrics, penalty)
        program = Program(objective, source.draw, optimizer, flow_every=1)

        def one(key, net=net, source=source, optimizer=optimizer, program=program):
            params = net.init(key)
            carry = Carry(params, optimizer.init(params), key, jnp.int32(0))
            return train_step(program, carry, source.draw(key, 0, 0, source.feed.example))

        after, seen = jax.eval_shape(one, key)
        assert dtypes(after.params) == {dtype or "float64"}, task.name
        assert seen["loss"].dtype == ("float64" if dtype is None else "float32"), task.name


def test_fit_and_compare_in_float64(key, x64):
    task = rx.tasks.adding(4)  # no dtype is named anywhere
    found = rx.train.fit(
        rx.cells.gru(2, 3), task, optax.adam(0.01), key=key, steps=2, batch_size=2, progress=False
    )
    assert dtypes(found.params) == {"float64"}
    assert np.isfinite(found.history["loss"]).all()
    options = {"key": key, "steps": 1, "seeds": 1, "batch_size": 2, "hidden_size": 3}
    (trial,) = rx.train.compare(task, ["gru"], ["clip"], **options).trials
    assert np.isfinite(trial.final["mse"]).all()
    assert trial.final["mse"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_file_keeps_its_dtype(tmp_path, key, x64, dtype):
    rx.interop.save(tmp_path / "a.npz", rx.cells.gru(2, 3, dtype=dtype).init(key))
    cell, params = rx.interop.load(tmp_path / "a.npz")
    assert dtypes(params) == {dtype}
    assert cell == rx.cells.gru(2, 3, dtype=dtype)
