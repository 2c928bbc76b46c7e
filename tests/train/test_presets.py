"""Cells and cures by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import says

import recurrax as rx
from recurrax.train import CELLS, CURES
from recurrax.train.compare import _fresh, _program
from recurrax.train.loop import train_step
from recurrax.train.presets import cells_of, optimizer
from recurrax.train.source import ONE_DEVICE, task_source

TASK = rx.tasks.adding(8)


def params_of(name, hidden=16):
    return cells_of([name], TASK, hidden)[name].init(jax.random.key(0))


@pytest.mark.parametrize("name", list(CELLS))
def test_a_cell_fits_the_task_and_is_a_value(name):
    cell = cells_of([name], TASK, 4)[name]
    assert cell == cells_of([name], TASK, 4)[name]
    shapes = jax.eval_shape(cell.init, jax.random.key(0))
    assert shapes.w_in.shape[0] == TASK.input_size
    assert shapes.w_rec.shape[0] == (2 if name == "lstm-projection" else 4)


def test_cells_begin_as_their_names_say():
    uniform = params_of("elman-uniform").w_rec
    assert float(jnp.abs(uniform).max()) <= 0.25
    assert float(jnp.std(uniform)) == pytest.approx(0.25 / 3**0.5, rel=0.1)
    np.testing.assert_array_equal(params_of("irnn").w_rec, np.eye(16))
    radius = np.abs(np.linalg.eigvals(params_of("elman-exploding").w_rec)).max()
    assert radius > 1.2
    forget, chrono = (params_of(f"lstm-{name}").b[16:32] for name in ("forget", "chrono"))
    assert float(forget.min()) >= 3
    assert float(chrono.max()) == pytest.approx(np.log(1 + 6 * 15.5 / 16), rel=1e-5)


@pytest.mark.parametrize("name", list(CURES))
def test_a_cure_makes_a_training_step(name):
    """Traced, not run: what it does is tested beside it."""
    net = rx.train.network(rx.cells.lstm(2, 4), 1)
    keys = jax.random.split(jax.random.key(0), 2)
    source = task_source(TASK, 4, ONE_DEVICE)
    program = _program(source, net, CURES[name], optimizer("adam", 0.01))

    def first(carry):
        return train_step(program, carry, source.draw(carry.key, carry.step, 0, None))[1]

    carry = jax.eval_shape(lambda keys: _fresh(program, keys), keys)
    seen = jax.eval_shape(jax.vmap(first), carry)
    assert ("penalty" in seen) == (CURES[name].regularizer is not None)
    assert ("clip_fraction" in seen) == (CURES[name].optimizer is not None)


def test_messages():
    with says(
        TypeError,
        "optimizer of a Cure must be an optax.GradientTransformation, such as "
        "rx.cures.clip_by_global_norm(1.0), got float",
    ):
        rx.train.Cure(optimizer=1.0)
    with says(TypeError, "regularizer of a Cure must be a function, got float"):
        rx.train.Cure(regularizer=0.1)
    with says(ValueError, "hidden_size must be a positive integer, got 0"):
        cells_of(["gru"], TASK, 0)
    with says(ValueError, "cells must hold at least one, got none"):
        cells_of({}, TASK, 4)
