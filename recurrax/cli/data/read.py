"""From the name of a file to its sequences."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from recurrax.cli.data.arrays import read_array
from recurrax.cli.data.asked import FILLS, Found, Reading
from recurrax.cli.data.cleaning import (
    check_not_infinite,
    check_size,
    filled,
    size_told,
    standardised,
)
from recurrax.cli.data.frames import read_parquet, read_sheet
from recurrax.cli.data.sequences import Sequences, cut
from recurrax.cli.data.sound import read_sound
from recurrax.cli.data.source import check_source, content_of, kind_of, opened
from recurrax.cli.data.table import found_of, pick, table_of
from recurrax.cli.data.text_table import like_table, read_rows, separated_by
from recurrax.cli.mistakes import Mistake, told
from recurrax.literal import visible
from recurrax.tasks import digit_sequences


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
        found = _found(source, path, asked)
    except OSError as error:
        raise Mistake(
            f"{path} cannot be read ({error.strerror or error}); name a file you may read"
        ) from None
    if found.values.dtype != np.uint8:
        found = _cleaned(path, found, asked, told_size=source != "digits")
    sequences = cut(visible(path.name), found.values, length, batch)
    return sequences._replace(notes=tuple(map(visible, found.notes)), done=found.done)


def _cleaned(path: Path, found: Found, asked: Reading, told_size: bool) -> Found:
    check_not_infinite(path, found)
    found = filled(path, found, asked.fill)
    if asked.standardise:
        return standardised(path, found)
    check_size(path, found)
    return size_told(path, found) if told_size else found


def _found(source: str, path: Path, asked: Reading) -> Found:
    """The numbers of a file, as they stand in it."""
    kind = "digits"
    if source != "digits":
        check_source(path, source)
        kind = kind_of(path)
    _check_options(source, kind, asked)
    if kind == "digits":
        with told(ImportError):
            return Found(np.asarray(digit_sequences().xs, np.float64))
    with opened(path) as file:
        if kind == "text":
            return _bytes(path, content_of(path, file))
        if kind in ("table", "xlsx", "parquet"):
            return _table(path, kind, file, asked)
        array = kind.startswith("array")
        found = read_array(path, file, asked.array) if array else read_sound(path, file)
    if asked.columns is None:
        return found
    chosen = pick(path, asked.columns, [None] * found.values.shape[-1])
    names = tuple(f"feature {i + 1}" for i in chosen)
    return found._replace(values=found.values[..., chosen], names=names).told(columns=list(names))


def _check_options(source: str, kind: str, asked: Reading) -> None:
    """Refuse an option that means nothing for data of this kind."""
    if asked.array is not None and not kind.startswith("array"):
        raise Mistake(f"--array is for an .npz of several arrays, not for {source}")
    given = {"--columns": asked.columns is not None, "--fill": asked.fill is not None}
    given["--standardise"] = asked.standardise and kind == "text"
    for flag, there in given.items():
        if there and kind in ("digits", "text"):
            what = "digits" if kind == "digits" else "text, which is read as bytes"
            raise Mistake(f"{flag} is for files of numbers, not for {what}")


def _table(path: Path, kind: str, file: IO[Any], asked: Reading) -> Found:
    if kind == "parquet":
        columns = read_parquet(path, file)
        count = len(columns[0].values) if columns else 0
        return found_of(path, columns, list(range(1, count + 1)), asked.columns)
    names: list[str] = []
    separator = ""
    if kind == "xlsx":
        cells, lines, notes = read_sheet(path, file)
    else:
        cells, lines, separator, names, notes = read_rows(path, file)
    if not cells:
        raise Mistake(f"{path} has no rows of numbers; expected one time step a line")
    table = table_of(cells, separator, names, asked.columns)
    if table.doubtful:
        notes += (f"{path.name}: line {lines[0]} is taken for names, though it has numbers",)
    if table.comma:
        between = f", columns set apart by {separated_by(separator)}" if separator else ""
        notes += (f"{path.name}: numbers are read with a decimal comma{between}",)
    found = found_of(path, table.columns, lines[table.header :], asked.columns)
    return found._replace(notes=notes + found.notes)


def _bytes(path: Path, content: bytes) -> Found:
    """Any other file as text, each byte a one-hot row of 256; kept as bytes until it is cut."""
    if not content:
        raise Mistake(f"{path} is empty; give a text file with at least one byte")
    found = Found(np.frombuffer(content, np.uint8))
    if b"\0" in content:
        return found.told(f"{path.name} holds more than text; each of its bytes is measured")
    if not like_table(content):
        return found
    return found.told(
        f"{path.name} looks like a table of numbers, but by its name it is text, of which each "
        "byte is measured; name it .csv to measure the numbers"
    )
