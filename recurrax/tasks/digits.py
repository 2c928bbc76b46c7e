"""Handwritten digits as sequences of pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from recurrax.checks import default_float
from recurrax.tasks import losses
from recurrax.tasks.batch import Batch, Split
from recurrax.tasks.task import Task

_PIXELS = 64


class DigitSequences(NamedTuple):
    """Images as time series: one pixel a step, row by row."""

    xs: np.ndarray  # [T=64, B=1797, I=1], brightness from 0 to 1
    labels: np.ndarray  # int32 [B], the digit drawn


def digit_sequences() -> DigitSequences:
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels, read pixel by pixel.

    Real data that comes with a package, so that it needs no download. To tell the digits apart,
    a network must carry what it saw in the first rows over some fifty steps.

    Returns:
      A `DigitSequences` with xs `[64, 1797, 1]` in JAX's default float: float64 under
      `jax_enable_x64`, else float32.

    Raises:
      ImportError: if scikit-learn is not installed.

    Example:
      >>> import recurrax as rx
      >>> data = rx.tasks.digit_sequences()
      >>> data.xs.shape, float(data.xs.max()), int(data.labels[0])
      ((64, 1797, 1), 1.0, 0)

    Source: Alpaydin and Kaynak (1998), "Optical recognition of handwritten digits", the test half,
    as shipped by scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError(
            "the digits come with scikit-learn: pip install 'recurrax[train]'"
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    xs = np.ascontiguousarray(pixels.T[:, :, None] / 16, default_float())
    return DigitSequences(xs, labels.astype(np.int32))


def digits(permuted: bool = False) -> Task:
    """Which digit is it, after all its pixels were read one by one.

    One pixel of scikit-learn's 8 by 8 images a step, the digit asked at the last. Every fifth
    image of each digit, in the order they come in, is for testing: always the same ones. A guess is
    right once in ten times; the task is solved at .95.

    Args:
      permuted: whether the pixels come in one fixed random order, the same for all images, instead
        of row by row, which needs a longer memory.

    Returns:
      A `Task` made of data, T = 64, I = 1, O = 10, with the metric `"accuracy"`.

    Raises:
      TypeError: if permuted is not a bool.
      ImportError: from its `split()`, if scikit-learn is not installed.

    Example:
      >>> import jax, recurrax as rx
      >>> task = rx.tasks.digits()
      >>> split = task.split()
      >>> split.train.xs.shape, split.test.xs.shape
      ((64, 1442, 1), (64, 355, 1))
      >>> task.draw(jax.random.key(0), 32, split.train).xs.shape
      (64, 32, 1)

    Source: the data as in `digit_sequences`; read pixel by pixel and permuted as in Le, Jaitly and
    Hinton (2015), "A simple way to initialize recurrent networks of rectified linear units".
    """
    if not isinstance(permuted, bool):
        raise TypeError(f"permuted must be True or False, got {permuted!r}")
    return Task(
        "digits",
        input_size=1,
        output_size=10,
        length=_PIXELS,
        loss=losses.cross_entropy,
        metrics=losses.accuracy_metrics,
        baseline=(("loss", math.log(10)), ("accuracy", 1 / 10)),
        goal=("accuracy", ">=", 0.95),
        split=DigitSplit(permuted),
    )


@dataclasses.dataclass(frozen=True)
class DigitSplit:
    permuted: bool

    def __call__(self) -> Split:
        data = digit_sequences()
        xs = data.xs.astype(np.float32)  # exact, and all that a sixteenth needs
        xs = xs[pixel_order()] if self.permuted else xs
        test = np.zeros(data.labels.shape, bool)
        for digit in range(10):
            test[np.flatnonzero(data.labels == digit)[4::5]] = True
        return Split(_batch(xs, data.labels, ~test), _batch(xs, data.labels, test))


def pixel_order() -> np.ndarray:
    """One fixed order of the 64 pixels: PCG64's raw stream is promised never to change."""
    return np.argsort(np.random.PCG64(64).random_raw(_PIXELS))


def _batch(xs: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> Batch:
    targets = np.zeros((_PIXELS, chosen.sum()), np.int32)
    weights = np.zeros(targets.shape, np.float32)
    targets[-1], weights[-1] = labels[chosen], 1
    return Batch(xs[:, chosen], targets, weights)
