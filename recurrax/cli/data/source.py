"""A file that can be opened, and what kind it is by its name."""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = {
    ".npy": "array",
    ".npz": "arrays",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".wav": "sound",
    ".wave": "sound",
}
READABLE = "a .csv, .tsv, .npy, .npz, .parquet, .xlsx, .wav or text file"
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
_GZIP = b"\x1f\x8b"


def check_source(path: Path, source: str) -> None:
    """Refuse what is no file, without waiting for a pipe or a device.

    Raises:
      OSError: if the system refuses to tell.
    """
    try:
        there = path.exists()
    except ValueError:  # a zero in the name
        there = False
    if not there:
        raise Mistake(f"--data {source}: no such file; give digits, or a path to {READABLE}")
    if path.is_dir():
        raise Mistake(f"--data {source} is a folder; name a file in it")
    if not path.is_file():
        raise Mistake(f"--data {source} is a pipe or a device; save what it gives in a file first")


def kind_of(path: Path) -> str:
    """By the ending of the name, of what is inside for `.gz`; anything else is text."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return KINDS.get(suffixes[-1] if suffixes else "", "text")


@contextmanager
def opened(path: Path) -> Iterator[IO[Any]]:
    """The file for reading bytes; what gzip has made smaller is made large again."""
    with path.open("rb") as file:
        compressed = path.suffix.lower() == ".gz" and file.read(2) == _GZIP
        file.seek(0)
        yield cast("IO[Any]", gzip.GzipFile(fileobj=file)) if compressed else file


def content_of(path: Path, file: IO[Any]) -> bytes:
    """All of it.

    Raises:
      Mistake: if it is compressed and damaged.
    """
    try:
        content: bytes = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Mistake(f"{path} is a damaged .gz file; compress the data again") from None
    return content


def beginning(head: bytes) -> str:
    """What a file is by its first bytes, as the end of a sentence."""
    found = [words for magic, words in _BEGINNINGS if head.startswith(magic)]
    return f"it begins like {found[0]}" if found else "it may be a file of another kind"
