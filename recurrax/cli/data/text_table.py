"""A table written as text: how it is encoded, and what stands between its columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING

from recurrax.cli.console import Mistake
from recurrax.cli.data.table import SEPARATORS, Rows, is_known, is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# How files of other kinds begin, to say what a wrong ending hides.
_BEGINNINGS = (
    (b"PK\x03\x04", "a zip archive, as .xlsx and .npz are"),
    (b"PAR1", "a .parquet file"),
    (b"RIFF", "a .wav file"),
    (b"\x93NUMPY", "a .npy file"),
    (b"\x1f\x8b", "a .gz file"),
    (b"\x89PNG", "a picture"),
    (b"%PDF", "a .pdf file"),
    (b"\xd0\xcf\x11\xe0", "an .xls file of old, to be saved as .xlsx or .csv"),
)
_SAMPLE = 64  # lines by which the separator is told
_HEAD = 4096  # bytes by which a table is told from a text


def read_rows(path: Path, content: bytes) -> Rows:
    """Return all rows of a text file but empty ones and comments."""
    text, notes = _decoded(path, content)
    marked = re.match(r'sep=([^"\r\n])\r?\n', text, re.I)  # as Excel writes it
    raw = list(io.StringIO(text, newline=""))
    usual = "\t" if ".tsv" in path.name.lower() else None
    separator = marked[1] if marked else _separator(raw, usual)
    comments = {i for i, line in enumerate(raw) if _is_comment(line)}
    # Empty lines in their place keep the numbers of the others.
    left_out = comments | {0} if marked else comments
    rows = _split(path, ["\n" if i in left_out else line for i, line in enumerate(raw)], separator)
    # A row of separators alone is a time step without values, but above and below all others.
    full = [i for i, (_, row) in enumerate(rows) if any(map(str.strip, row))]
    if not full:
        return Rows([], [])
    rows = rows[full[0] : full[-1] + 1]
    # A separator at the end makes an empty cell, which is left out where all rows have it.
    width = max(i for _, row in rows for i, cell in enumerate(row, 1) if cell.strip())
    lines, cells = [line for line, _ in rows], [row[:width] for _, row in rows]
    for line, row in zip(lines, cells, strict=True):
        if len(row) != len(cells[0]):
            raise Mistake(
                f"{path} is ragged: line {line} has {len(row)} "
                f"column{'' if len(row) == 1 else 's'}, line {lines[0]} has "
                f"{len(cells[0])}; every time step needs the same features"
            )
    first = lines[0] - 1
    after = sum(i > first for i in comments)
    if after:
        s = "s" if after > 1 else ""
        notes += (f"{path.name}: {after} line{s} beginning with # left out as comment{s}",)
    above = raw[first - 1].lstrip("# ") if first - 1 in comments else ""
    names = [cell.strip() for _, row in _split(path, [above], separator) for cell in row]
    return Rows(cells, lines, separator, tuple(names), notes)


def looks_like_table(content: bytes) -> bool:
    """Return whether text is nothing but even rows of numbers, below names or not."""
    *lines, _ = content[:_HEAD].decode("latin-1").split("\n")  # the last may be cut
    full = [line for line in lines if line.strip() and not _is_comment(line)]
    rows = [re.split(r"[,;\t| ]+", line.strip()) for line in full[1:]]
    return len(set(map(len, rows))) == 1 and all(is_known(cell) for row in rows for cell in row)


def _is_comment(line: str) -> bool:
    """Return whether a line begins with #, but not with Excel's #N/A and the like."""
    return line.startswith("#") and not is_missing(re.split(r"[,;\t| ]", line, maxsplit=1)[0])


def _decoded(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    # UTF-16 of Western letters has a zero in every other byte, and no other text has one.
    head = content[:1000]
    zeros = [head[start::2].count(0) / max(1, len(head) // 2) for start in (0, 1)]
    if encoding == "utf-8" and max(zeros) > 0.5 and min(zeros) < 0.1:
        encoding = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    notes: tuple[str, ...] = ()
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("latin-1") if encoding == "utf-8" else "\0"
        notes = (f"{path.name} is not UTF-8; it is read as Latin-1",)
    text = text.rstrip("\x1a")
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        known = [words for start, words in _BEGINNINGS if content.startswith(start)]
        what = f"it begins like {known[0]}" if known else "it may be a file of another kind"
        raise Mistake(f"{path} cannot be read as a table of text; {what}")
    return text, notes


def _split(path: Path, lines: list[str], separator: str) -> list[tuple[int, list[str]]]:
    """Return the rows that are not blank, with the numbers of their lines."""
    try:
        return [
            (number, row)
            for number, row in _numbered_rows(lines, separator)
            if len(row) > 1 or (row and row[0].strip())
        ]
    except csv.Error as error:
        raise Mistake(f"{path} cannot be read as a table: {error}; is a quote left open?") from None


def _numbered_rows(lines: list[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line in which each row ends, from 1, and its cells."""
    if separator == " ":
        yield from ((number, line.split()) for number, line in enumerate(lines, 1))
        return
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise csv.Error(f"{error} after line {reader.line_num}") from None


def _separator(lines: list[str], usual: str | None) -> str:
    """Return the separator that makes even rows of the most cells that are no words."""
    head = lines[: 2 * _SAMPLE]
    sample = [line for line in head if line.strip() and not _is_comment(line)][:_SAMPLE]

    def fitness(separator: str) -> tuple[bool, float, int]:
        """Return whether it makes columns, how well they fit, and how many they are."""
        try:
            rows = [row for _, row in _numbered_rows(sample, separator)]
        except csv.Error:
            rows = []
        if not rows:
            return False, 0.0, 0
        even, width = max((count, width) for width, count in Counter(map(len, rows)).items())
        cells = [cell for row in (rows[1:] or rows) for cell in row if not is_missing(cell)]
        known = sum(map(is_known, cells)) / max(1, len(cells))
        return width > 1, round(known * even / len(rows), 6), width

    return max(sorted(SEPARATORS, key=lambda separator: separator != usual), key=fitness)
