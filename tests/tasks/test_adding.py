"""Adding and multiplication: the targets of a twin in NumPy, the markers, the baselines."""

from __future__ import annotations

import close
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx

BOTH = [(rx.tasks.adding, np.sum, 1.0), (rx.tasks.multiplication, np.prod, 0.25)]


@pytest.mark.parametrize("T", [2, 7])
@pytest.mark.parametrize(("make", "answer", "_"), BOTH)
def test_the_target_is_what_the_markers_say(make, answer, _, T, key):
    batch = make(T).draw(key, 300)
    values, markers = np.asarray(batch.xs[..., 0]), np.asarray(batch.xs[..., 1])
    assert values.min() >= 0
    assert values.max() < 1
    for b in range(300):
        marked = np.flatnonzero(markers[:, b])
        assert list(markers[marked, b]) == [1, 1]
        assert marked[0] < T // 2 <= marked[1]  # one in each half
        expected = answer(values[marked, b])
        np.testing.assert_allclose(batch.targets[-1, b, 0], expected, rtol=1e-6)
    assert not batch.targets[:-1].any()
    np.testing.assert_array_equal(batch.weights, np.arange(T)[:, None].repeat(300, 1) == T - 1)
    assert (markers.sum(1) > 0).all()  # every step is marked sometimes


@pytest.mark.parametrize(("make", "_", "guess"), BOTH)
def test_a_guess_without_memory_reaches_the_baseline(make, _, guess, key):
    """The standard error of 50,000 squared errors is below .001; no other guess is better."""
    task = make(4)
    batch = task.draw(key, 50_000)
    metrics = task.metrics(jnp.full(batch.targets.shape, guess), batch)
    loss = task.loss(jnp.full(batch.targets.shape, guess), batch)
    baseline = dict(task.baseline)
    np.testing.assert_allclose(metrics["mse"], baseline["mse"], rtol=0.02)
    np.testing.assert_allclose(loss, baseline["loss"], rtol=0.02)
    for other in (guess - 0.1, guess + 0.1):
        assert float(task.loss(jnp.full(batch.targets.shape, other), batch)) > float(loss)


def test_the_baselines_as_numbers():
    assert dict(rx.tasks.adding(9).baseline) == {"loss": 1 / 6, "mse": 1 / 6}
    assert dict(rx.tasks.multiplication(9).baseline) == {"loss": 7 / 144, "mse": 7 / 144}


@pytest.mark.parametrize("name", ["adding", "multiplication"])
def test_too_short(name):
    make = getattr(rx.tasks, name)
    with close.says(
        ValueError, f"{name} needs T >= 2, since each half of a sequence holds a marker; got 1"
    ):
        make(1)
    with close.says(ValueError, "T must be a positive integer, got 0"):
        make(0)
    with close.says(TypeError, "T must be a positive integer, got 10.0"):
        make(10.0)
