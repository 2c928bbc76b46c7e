"""The digits as sequences."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import recurrax as rx


def test_pixels_in_reading_order():
    data = rx.tasks.digit_sequences()
    images = load_digits().images
    assert data.xs.dtype == np.float32
    assert data.labels.dtype == np.int32
    np.testing.assert_array_equal(data.xs[:, 5, 0].reshape(8, 8) * 16, images[5])
    np.testing.assert_array_equal(data.labels[:10], np.arange(10))


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'recurrax\[train\]'"):
        rx.tasks.digit_sequences()
