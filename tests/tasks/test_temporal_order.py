"""Temporal order: the class of a twin in NumPy, where the symbols stand, the baseline."""

from __future__ import annotations

import close
import jax
import numpy as np
import pytest

import recurrax as rx


@pytest.mark.parametrize("T", [10, 16, 27])
def test_the_class_is_the_order(T, key):
    task = rx.tasks.temporal_order(T)
    batch = task.draw(key, 400)
    assert np.array_equal(batch.xs.sum(-1), np.ones((T, 400)))  # one-hot
    read = np.asarray(batch.xs).argmax(-1)
    places = np.array([np.flatnonzero(read[:, b] < 2) for b in range(400)])
    assert places.shape == (400, 2)
    for column, (low, high) in enumerate(((1, 2), (4, 5))):
        allowed = {t for t in range(T) if low * T <= 10 * t < high * T}
        assert set(places[:, column]) == allowed
    orders = ["AA", "AB", "BA", "BB"]
    for b in range(400):
        order = "".join("AB"[read[t, b]] for t in places[b])
        assert orders[int(batch.targets[-1, b])] == order
    assert set(read[read >= 2]) == {2, 3, 4, 5}
    np.testing.assert_array_equal(np.asarray(batch.weights).sum(1), [0] * (T - 1) + [400])


def test_a_guess_without_memory_reaches_the_baseline(key):
    task = rx.tasks.temporal_order(10)
    batch = task.draw(key, 20_000)
    baseline = dict(task.baseline)
    assert baseline["accuracy"] == 1 / 4
    for guess in range(4):
        outputs = jax.nn.one_hot(np.full(batch.targets.shape, guess), 4)
        accuracy = task.metrics(outputs, batch)["accuracy"]
        np.testing.assert_allclose(accuracy, baseline["accuracy"], atol=0.015)
    loss = task.loss(np.zeros((10, 20_000, 4), np.float32), batch)
    np.testing.assert_allclose(loss, baseline["loss"], rtol=1e-6)


def test_too_short():
    with close.says(
        ValueError,
        "temporal_order needs T >= 10, so that a tenth of a sequence has a place for each symbol; "
        "got 9",
    ):
        rx.tasks.temporal_order(9)
