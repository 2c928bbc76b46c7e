"""The next byte of a text of your own."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from recurrax import checks
from recurrax.tasks import losses
from recurrax.tasks.batch import Batch, Split
from recurrax.tasks.task import Task

_BYTES = 256


def text(path: str | os.PathLike[str], T: int = 100, validation: float = 0.1) -> Task:
    """The next byte of any file, asked at every step.

    The last part of the file is for testing, what comes before it for training. Both are cut into
    windows of T bytes, one behind the other, each with the same T bytes one later as targets; what
    is left at a part's end is not used. The baseline predicts each byte by how often it is in the
    training part, with 1 added to all 256 counts. The task holds the text, and stays the same when
    the file changes. Its split stores uint8; rows of 256 are only made of what `draw` picks.

    Args:
      path: a file; text in any encoding, or anything else, is read as bytes.
      T: steps of a sequence.
      validation: the part of the file that is for testing, between 0 and 1.

    Returns:
      A `Task` made of data, I = O = 256, with the metric `"bits_per_byte"`. It has no solution: its
      goal is out of reach.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError, TypeError: if path is a folder or cannot be read, if the file is empty, or a part
        of it too short for a window, if T is no positive integer or validation not in (0, 1).

    Example:
      >>> import jax, pathlib, recurrax as rx
      >>> _ = pathlib.Path("a.txt").write_text("the same again and " * 100)
      >>> task = rx.tasks.text("a.txt", T=20)
      >>> split = task.split()
      >>> split.train.xs.shape, split.test.xs.shape, split.train.xs.dtype
      ((20, 85), (20, 9), dtype('uint8'))
      >>> task.draw(jax.random.key(0), 8, split.train).xs.shape
      (20, 8, 256)
    """
    checks.check_positive_int("T", T)
    checks.check_number("validation", validation)
    if not 0 < validation < 1:
        raise ValueError(f"validation must be between 0 and 1, such as 0.1; got {validation!r}")
    content = _read(path)
    source = TextSplit(content, T, int(len(content) * (1 - validation)))
    train, test = source.parts()
    if min(train.size, test.size) < T + 1:
        raise ValueError(
            f"path {str(path)!r} is too short for T = {T}: with validation = {validation} its "
            f"{len(content)} bytes are {train.size} for training and {test.size} for testing, and "
            f"each part needs T + 1 = {T + 1}. Give a longer file or a smaller T."
        )
    counts = np.bincount(train, minlength=_BYTES) + 1
    surprise = -np.log(counts / counts.sum())  # in nats a byte
    loss = float(surprise[_windows(test, T).targets].mean())
    return Task(
        "text",
        input_size=_BYTES,
        output_size=_BYTES,
        length=T,
        loss=losses.cross_entropy,
        metrics=losses.bits_metrics,
        baseline=(("loss", loss), ("bits_per_byte", loss / math.log(2))),
        # A cross-entropy is never below 0: training takes all of its steps.
        goal=("bits_per_byte", "<", 0.0),
        split=source,
    )


@dataclasses.dataclass(frozen=True)
class TextSplit:
    """`split()` of the task: the first `train` bytes, and the others, in windows."""

    content: bytes = dataclasses.field(repr=False)
    length: int
    train: int

    def __call__(self) -> Split:
        return Split(*(_windows(part, self.length) for part in self.parts()))

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """The bytes for training and those for testing, uint8, not copied."""
        whole = np.frombuffer(self.content, np.uint8)
        return whole[: self.train], whole[self.train :]


def _windows(part: np.ndarray, length: int) -> Batch:
    used = (part.size - 1) // length * length
    xs, targets = (
        np.ascontiguousarray(part[start : start + used].reshape(-1, length).T) for start in (0, 1)
    )
    return Batch(xs, targets, np.ones_like(xs))


def _read(path: str | os.PathLike[str]) -> bytes:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must name a text file, got {path!r}")
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"path {str(file)!r} is a folder; name a file in it")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"path {str(file)!r}: no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"path {str(file)!r} cannot be read ({reason})") from None
    if not content:
        raise ValueError(f"path {str(file)!r} is empty; give a file with text in it")
    return content
