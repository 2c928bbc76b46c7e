"""From the name of a file to its sequences."""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from recurrax.cli.console import Mistake, as_mistakes
from recurrax.cli.data.cleaning import FILLS, cleaned
from recurrax.cli.data.contents import LONGEST, Contents, Sequences
from recurrax.cli.data.file_formats import read_array, read_parquet, read_sheet, read_sound
from recurrax.cli.data.table import chosen_columns, column_of, features_of, table_contents
from recurrax.cli.data.text_table import looks_like_table, read_rows
from recurrax.literal import visible
from recurrax.tasks import digit_sequences
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    ".npy": "array",
    ".npz": "array",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "sheet",
    ".xlsm": "sheet",
    ".wav": "sound",
    ".wave": "sound",
}


class Reading(NamedTuple):
    """What the options say of the data."""

    columns: str | None = None  # names or numbers, with commas between
    array: str | None = None  # of an .npz
    fill: str | None = None  # one of FILLS
    standardise: bool = False


def read(source: str, length: int | None, batch: int, asked: Reading | None = None) -> Sequences:
    """Read `digits` or a file, clean it as asked, and cut it to length and batch.

    Args:
      source: `digits`, or a path, whose ending says how the file is read: a table (`.csv`, `.tsv`,
        `.parquet`, `.xlsx`), arrays (`.npy`, `.npz`), sound (`.wav`), any of them in a `.gz`;
        anything else is text, read as bytes.
      length: time steps, or None for all of them, of a file at most `LONGEST`.
      batch: sequences.
      asked: which columns or array, and what is filled or rescaled; None: as it is.

    Raises:
      Mistake: if it cannot be read, is ragged, empty, not finite, or shorter than asked.
    """
    for flag, value in (("--length", length), ("--batch", batch)):
        if value is not None and value < 1:
            raise Mistake(f"{flag} must be at least 1, got {value}")
    asked = Reading() if asked is None else asked
    if asked.fill not in (None, *FILLS):
        raise Mistake(f"--fill must be {' or '.join(FILLS)}, got {asked.fill!r}")
    path = Path(source)
    try:
        contents = _contents(source, path, asked)
    except OSError as error:
        raise Mistake(
            f"{path} cannot be read ({error.strerror or error}); name a file you may read"
        ) from None
    if contents.values.dtype != np.uint8:
        contents = cleaned(path, contents, asked.fill, asked.standardise, source != "digits")
    name, rows = visible(path.name), contents.values
    whole = rows.shape[0]
    if length is not None and length > whole:
        raise Mistake(f"--length {length} is longer than {name}, which has {steps_of(whole)}")
    xs = _cut(rows, min(whole, LONGEST) if length is None else length, batch)
    return Sequences(name, xs, whole, tuple(map(visible, contents.notes)), contents.done)


def _cut(rows: np.ndarray, steps: int, batch: int) -> np.ndarray:
    """Cut the first sequences of `[T, B, I]`; of one long sequence, windows spread over it."""
    if rows.ndim == 3:
        return rows[:steps, :batch].astype(np.float32)
    whole = rows.shape[0]
    starts = np.linspace(0, whole - steps, min(batch, whole // steps)).astype(int)
    windows = np.stack([rows[start : start + steps] for start in starts], 1)
    if rows.dtype == np.uint8:
        windows = np.eye(256, dtype=np.float32)[windows]
    return windows.astype(np.float32)


# --- what a file holds ----------------------------------------------------------------------------


def _contents(source: str, path: Path, asked: Reading) -> Contents:
    """Return the numbers of a file, as they stand in it."""
    kind = "digits" if source == "digits" else _kind_of(source, path)
    _check_options(source, kind, asked)
    if kind == "digits":
        with as_mistakes(ImportError):
            return Contents(np.asarray(digit_sequences().xs, np.float64))
    with _opened(path) as file:
        if kind == "text":
            return _text(path, _bytes_of(path, file))
        if kind == "table":
            return table_contents(path, read_rows(path, _bytes_of(path, file)), asked.columns)
        if kind == "sheet":
            return table_contents(path, read_sheet(path, file), asked.columns)
        if kind == "parquet":
            columns = [column_of(name, cells) for name, cells in read_parquet(path, file)]
            count = len(columns[0].values) if columns else 0
            return features_of(path, columns, list(range(1, count + 1)), asked.columns)
        contents = (
            read_array(path, file, asked.array) if kind == "array" else read_sound(path, file)
        )
    if asked.columns is None:
        return contents
    chosen = chosen_columns(path, asked.columns, [None] * contents.values.shape[-1])
    names = tuple(f"feature {i + 1}" for i in chosen)
    contents = contents._replace(values=contents.values[..., chosen], names=names)
    return contents.noted(columns=list(names))


def _kind_of(source: str, path: Path) -> str:
    """Return the kind by the ending of the name, of what is inside for `.gz`; else it is text.

    Raises:
      Mistake: if it is no file; a pipe or a device is not waited for.
      OSError: if the system refuses to tell.
    """
    try:
        there = path.exists()
    except ValueError:  # a zero in the name
        there = False
    if not there:
        raise Mistake(
            f"--data {source}: no such file; give digits, or a path to a .csv, .tsv, .npy, .npz, "
            ".parquet, .xlsx, .wav or text file"
        )
    if path.is_dir():
        raise Mistake(f"--data {source} is a folder; name a file in it")
    if not path.is_file():
        raise Mistake(f"--data {source} is a pipe or a device; save what it gives in a file first")
    name = path.name.lower().removesuffix(".gz")
    return _KINDS.get(Path(name).suffix, "text")


def _check_options(source: str, kind: str, asked: Reading) -> None:
    """Refuse an option that means nothing for data of this kind."""
    if asked.array is not None and kind != "array":
        raise Mistake(f"--array is for an .npz of several arrays, not for {source}")
    if kind in ("digits", "text"):
        what = "digits" if kind == "digits" else "text, which is read as bytes"
        for flag, there in (
            ("--columns", asked.columns is not None),
            ("--fill", asked.fill is not None),
            ("--standardise", asked.standardise and kind == "text"),
        ):
            if there:
                raise Mistake(f"{flag} is for files of numbers, not for {what}")


@contextmanager
def _opened(path: Path) -> Iterator[IO[Any]]:
    """Open the file for reading bytes; what gzip has made smaller is made large again."""
    with path.open("rb") as file:
        compressed = path.suffix.lower() == ".gz" and file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield cast("IO[Any]", gzip.GzipFile(fileobj=file)) if compressed else file


def _bytes_of(path: Path, file: IO[Any]) -> bytes:
    """Return all of a file, unless it is compressed and damaged."""
    try:
        content: bytes = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Mistake(f"{path} is a damaged .gz file; compress the data again") from None
    return content


def _text(path: Path, content: bytes) -> Contents:
    """Return any other file as text, each byte a one-hot row of 256; as bytes until it is cut."""
    if not content:
        raise Mistake(f"{path} is empty; give a text file with at least one byte")
    contents = Contents(np.frombuffer(content, np.uint8))
    if b"\0" in content:
        return contents.noted(f"{path.name} holds more than text; each of its bytes is measured")
    if not looks_like_table(content):
        return contents
    return contents.noted(
        f"{path.name} looks like a table of numbers, but by its name it is text, of which each "
        "byte is measured; name it .csv to measure the numbers"
    )
