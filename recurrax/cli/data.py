"""Real data from a file, as sequences `[T, B, I]`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.show import steps_of
from recurrax.tasks import digit_sequences

LONGEST = 256  # steps measured of a file unless --length says otherwise


class Sequences(NamedTuple):
    """What is measured."""

    name: str
    xs: np.ndarray  # float32 [T, B, I]
    whole: int  # how many steps there were to choose from


def read(source: str, length: int | None, batch: int) -> Sequences:
    """Read `digits`, or a `.npy`, `.npz`, `.csv` or text file, and cut it to length and batch.

    Raises:
      Mistake: if it cannot be read, is ragged, empty, not finite, or shorter than asked.
    """
    for flag, value in (("--length", length), ("--batch", batch)):
        if value is not None and value < 1:
            raise Mistake(f"{flag} must be at least 1, got {value}")
    if source == "digits":
        with told(ImportError):
            return _cut("digits", digit_sequences().xs, length, batch)
    path = Path(source)
    if path.is_dir():
        raise Mistake(f"--data {source} is a folder; name a file in it")
    if not path.is_file():
        raise Mistake(
            f"--data {source}: no such file; give digits, or a path to a .npy, .npz, .csv or text "
            "file"
        )
    try:
        if path.suffix.lower() in (".npy", ".npz"):
            rows = _checked_array(path, _array(path))
        elif path.suffix.lower() in (".csv", ".tsv"):
            rows = _table(path, "\t" if path.suffix.lower() == ".tsv" else ",")
        else:
            return _cut(path.name, _bytes(path), length, batch)
    except OSError as error:
        raise Mistake(
            f"{path} cannot be read ({error.strerror}); name a file you may read"
        ) from None
    if not np.isfinite(rows).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise Mistake(
            f"{path} is not finite: {rows[where]} at index {where} (from 0); "
            "drop or fill those steps, since one NaN spoils all later ones"
        )
    if np.abs(rows).max() > np.finfo(np.float32).max:
        raise Mistake(f"{path} holds numbers too large for float32; rescale the data")
    return _cut(path.name, rows, length, batch)


def _array(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            names = loaded.files
            name = "xs" if "xs" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise Mistake(
                    f"{path} holds {len(names)} arrays ({', '.join(names)}); name the one to "
                    "measure xs, or save it alone"
                )
            return np.asarray(loaded[name])
    except (Mistake, OSError):
        raise
    except Exception:  # zip, zlib, the header's own parser: each has errors of its own
        raise Mistake(
            f"{path} cannot be read as a NumPy file of plain numbers; write it with "
            "np.save(path, xs), xs being one float array [T, I] or [T, B, I]"
        ) from None


def _checked_array(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        raise Mistake(
            f"{path} holds {array.dtype}, expected floating point; save numbers with "
            "xs.astype('float32'), and token ids as one-hot rows, np.eye(vocabulary)[ids]"
        )
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise Mistake(
            f"{path} has shape {array.shape}, expected [T, I] or [T, B, I] with T, B, I >= 1"
        )
    return array


def _table(path: Path, separator: str) -> np.ndarray:
    """A table of numbers, one time step a line, with or without a header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator)
            lines = [(n, row) for n, row in enumerate(reader, 1) if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error):
        raise Mistake(f"{path} cannot be read as a table of text in UTF-8") from None
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        lines = lines[1:]  # a header
    if not lines:
        raise Mistake(f"{path} has no rows of numbers; expected one time step a line")
    width = len(lines[0][1])
    for number, row in lines:
        if len(row) != width:
            raise Mistake(
                f"{path} is ragged: line {number} has {_columns(len(row))}, line {lines[0][0]} has "
                f"{width}; every time step needs the same features"
            )
        for column, cell in enumerate(row, 1):
            if not _is_number(cell):
                raise Mistake(
                    f"{path}: line {number}, column {column} is {cell!r}, expected a number; drop "
                    f"that column or encode it, and separate columns by {separator!r}"
                )
    return np.array([[float(cell) for cell in row] for _, row in lines])


def _columns(count: int) -> str:
    return f"{count} column{'' if count == 1 else 's'}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _bytes(path: Path) -> np.ndarray:
    """Any other file as text, each byte a one-hot row of 256; kept as bytes until it is cut."""
    text = np.frombuffer(path.read_bytes(), np.uint8)
    if not text.size:
        raise Mistake(f"{path} is empty; give a text file with at least one byte")
    return text


def _cut(name: str, rows: np.ndarray, length: int | None, batch: int) -> Sequences:
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
