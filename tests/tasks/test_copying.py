"""Copying: the sequence written out by hand, the baseline, the metric."""

from __future__ import annotations

import math

import close
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx


@pytest.mark.parametrize(("T", "symbols", "length"), [(1, 8, 10), (4, 3, 2)])
def test_the_sequence(T, symbols, length, key):
    task = rx.tasks.copying(T, symbols, length)
    batch = task.draw(key, 200)
    blank, marker = symbols, symbols + 1
    assert task.length == T + 2 * length
    assert np.array_equal(batch.xs.sum(-1), np.ones((task.length, 200)))  # one-hot
    for read, answers in zip(
        np.asarray(batch.xs).argmax(-1).T, np.asarray(batch.targets).T, strict=True
    ):
        shown = list(read[:length])
        assert list(read) == shown + [blank] * (T - 1) + [marker] + [blank] * length
        assert list(answers) == [blank] * (T + length) + shown
    assert set(np.asarray(batch.targets[-length:]).flat) == set(range(symbols))
    assert (np.asarray(batch.weights) == 1).all()


def test_a_guess_without_memory_reaches_the_baseline(key):
    """Blanks first, then all symbols alike: it depends on no sample, so it is exact."""
    task = rx.tasks.copying(30)
    batch = task.draw(key, 2000)
    outputs = np.full((*batch.targets.shape, 9), -1e9, np.float32)
    outputs[:40, :, 8] = 0
    outputs[40:, :, :8] = 0
    np.testing.assert_allclose(task.loss(outputs, batch), dict(task.baseline)["loss"], rtol=1e-5)
    outputs[40:, :, 3] = 1  # one of eight, always the same: 20,000 answers
    accuracy = task.metrics(outputs, batch)["accuracy"]
    np.testing.assert_allclose(accuracy, dict(task.baseline)["accuracy"], atol=0.01)


@pytest.mark.parametrize(
    ("T", "loss"), [(100, 0.17329), (300, 0.06498), (500, 0.03999), (1000, 0.020387)]
)
def test_the_baseline_as_a_number(T, loss):
    found = dict(rx.tasks.copying(T).baseline)["loss"]
    assert found == 10 * math.log(8) / (T + 20)
    np.testing.assert_allclose(found, loss, rtol=2e-4)


def test_the_metric_looks_at_the_copy_alone(key):
    task = rx.tasks.copying(5, symbols=4, length=2)
    batch = task.draw(key, 6)
    outputs = jnp.eye(5)[batch.targets]
    assert float(task.metrics(outputs, batch)["accuracy"]) == 1
    assert float(task.metrics(outputs.at[:-2].set(0), batch)["accuracy"]) == 1
    wrong = outputs.at[-1].set(jnp.roll(outputs[-1], 1, -1))
    assert float(task.metrics(wrong, batch)["accuracy"]) == 0.5


def test_what_is_refused():
    with close.says(ValueError, "T must be a positive integer, got 0"):
        rx.tasks.copying(0)
    with close.says(
        ValueError, "copying needs symbols >= 2, since one symbol alone needs no memory; got 1"
    ):
        rx.tasks.copying(5, symbols=1)
    with close.says(ValueError, "length must be a positive integer, got 0"):
        rx.tasks.copying(5, length=0)
