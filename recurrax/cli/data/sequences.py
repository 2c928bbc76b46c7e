"""Sequences cut from what a file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.cli.mistakes import Mistake
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 256  # steps measured of a file unless --length says otherwise


class Sequences(NamedTuple):
    """What is measured."""

    name: str
    xs: np.ndarray  # float32 [T, B, I]
    whole: int  # how many steps there were to choose from
    notes: tuple[str, ...] = ()  # sentences on how the file was read
    done: Mapping[str, Any] = {}  # the same for JSON


def cut(name: str, rows: np.ndarray, length: int | None, batch: int) -> Sequences:
    """The first sequences of `[T, B, I]`; of one long sequence, windows spread evenly over it."""
    whole = rows.shape[0]
    steps = min(whole, LONGEST) if length is None else length
    if steps > whole:
        raise Mistake(f"--length {steps} is longer than {name}, which has {steps_of(whole)}")
    if rows.ndim == 3:
        return Sequences(name, rows[:steps, :batch].astype(np.float32), whole)
    count = min(batch, whole // steps)
    starts = np.linspace(0, whole - steps, count).astype(int)
    windows = np.stack([rows[start : start + steps] for start in starts], 1)
    if rows.dtype == np.uint8:
        windows = np.eye(256, dtype=np.float32)[windows]
    return Sequences(name, windows.astype(np.float32), whole)
