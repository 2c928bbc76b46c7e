"""Handwritten digits as sequences of pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class DigitSequences(NamedTuple):
    """Images as time series: one pixel a step, row by row."""

    xs: np.ndarray  # float32 [T=64, B=1797, I=1], brightness from 0 to 1
    labels: np.ndarray  # int32 [B], the digit drawn


def digit_sequences() -> DigitSequences:
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels, read pixel by pixel.

    Real data that comes with a package, so that it needs no download. To tell the digits apart,
    a network must carry what it saw in the first rows over some fifty steps.

    Returns:
      A `DigitSequences` with xs `[64, 1797, 1]`.

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
    xs = np.ascontiguousarray(pixels.T[:, :, None] / 16, np.float32)
    return DigitSequences(xs, labels.astype(np.int32))
