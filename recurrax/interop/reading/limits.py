"""What a file may make of a reader: no more memory than it is worth, and one clear sentence."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator
    from pathlib import Path

_ALWAYS_FINE = 100_000_000  # bytes, whatever they are packed in
_TIGHTEST = 100  # times its own size that a file may unpack to beyond that


class Refused(ValueError):
    """A sentence about a file that is complete, where other errors are about one of its parts."""


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Say in a sentence what the library that reads a file stumbles over."""
    try:
        yield
    except (Refused, ImportError, FileNotFoundError):
        raise
    except Exception as error:  # each reader has errors of its own for a damaged file
        raise Refused(
            f"{path} is damaged or cut off, or is no {kind} ({type(error).__name__})"
        ) from None


def check_unpacked(path: Path, declared: int) -> None:
    """Refuse a file whose arrays would be far larger than it is, before any of them is made."""
    size = path.stat().st_size
    if declared > max(_ALWAYS_FINE, _TIGHTEST * size):
        raise Refused(
            f"{path} declares {declared:,} bytes of arrays, but has {size:,} itself: no weights "
            "pack that tightly, so it is not read"
        )


def check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """As `check_unpacked`, of a zip, of whose members no more is read than they declare."""
    check_unpacked(path, sum(member.file_size for member in archive.infolist()))
