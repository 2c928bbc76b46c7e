"""The digits: as sequences, and as a task."""

from __future__ import annotations

import sys

import close
import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

import recurrax as rx
from recurrax.tasks.digits import pixel_order


def test_pixels_in_reading_order():
    data = rx.tasks.digit_sequences()
    images = load_digits().images
    assert data.xs.dtype == np.float32
    assert data.labels.dtype == np.int32
    np.testing.assert_array_equal(data.xs[:, 5, 0].reshape(8, 8) * 16, images[5])
    np.testing.assert_array_equal(data.labels[:10], np.arange(10))


def test_missing_package_is_named(monkeypatch):
    task = rx.tasks.digits()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    for needs_it in (rx.tasks.digit_sequences, task.split):
        with pytest.raises(ImportError, match=r"pip install 'recurrax\[train\]'"):
            needs_it()


def test_every_fifth_image_of_each_digit_is_for_testing():
    split = rx.tasks.digits().split()
    images, labels = load_digits(return_X_y=True)
    seen = dict.fromkeys(range(10), 0)
    train, test = [], []
    for index, digit in enumerate(labels):
        seen[int(digit)] += 1
        (train if seen[int(digit)] % 5 else test).append(index)
    for part, chosen in ((split.train, train), (split.test, test)):
        np.testing.assert_array_equal(part.xs[..., 0].T * 16, images[chosen])
        np.testing.assert_array_equal(part.targets[-1], labels[chosen])
        np.testing.assert_array_equal(part.weights.sum(0), np.ones(len(chosen)))
        np.testing.assert_array_equal(part.weights[-1], np.ones(len(chosen)))
    assert len(train) + len(test) == 1797
    counts = np.bincount(split.test.targets[-1])
    assert counts.min() >= 34
    assert counts.max() <= 36


def test_permuted_is_the_same_pixels_in_one_other_order():
    ordered, permuted = rx.tasks.digits().split(), rx.tasks.digits(permuted=True).split()
    for a, b in zip(ordered, permuted, strict=True):
        np.testing.assert_array_equal(b.xs, a.xs[pixel_order()])
        np.testing.assert_array_equal(b.targets, a.targets)


def test_the_order_is_one_for_ever():
    """Results with permuted digits are compared across versions of NumPy and machines."""
    order = pixel_order()
    assert sorted(order) == list(range(64))
    assert list(order[:8]) == [45, 23, 25, 9, 31, 13, 27, 2]


def test_a_guess_reaches_the_baseline():
    """Each of the ten answers is right for its own digits: a tenth on average, exactly."""
    task = rx.tasks.digits()
    batch = task.take(task.split().test, np.arange(355))
    baseline = dict(task.baseline)
    accuracies = [
        float(task.metrics(jax.nn.one_hot(np.full((64, 355), digit), 10), batch)["accuracy"])
        for digit in range(10)
    ]
    np.testing.assert_allclose(np.mean(accuracies), baseline["accuracy"], rtol=1e-5)
    loss = task.loss(np.zeros((64, 355, 10), np.float32), batch)
    np.testing.assert_allclose(loss, baseline["loss"], rtol=1e-6)


def test_permuted_is_a_bool():
    with close.says(TypeError, "permuted must be True or False, got 'yes'"):
        rx.tasks.digits("yes")
