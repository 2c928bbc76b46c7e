"""Files that are whole or not there, whatever stands in their way."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place once it is whole."""
    part = path.with_name(f".{path.name}.part")
    if is_folder(part):
        set_aside(part)
    part.unlink(missing_ok=True)  # of a process that was killed, or a pipe that nobody reads
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Keep what lies there under a name of its own, and return that.

    A file keeps its old name as well, so that no kill finds neither it nor what replaces it.
    """
    count = 1
    while there(copy := path.with_name(f"{path.name}.damaged{count}")):
        count += 1
    try:
        os.link(path, copy, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a folder, or a disk without links
        path.replace(copy)
    return copy


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder; what resists is left."""
    if is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def there(path: Path) -> bool:
    """Whether anything has this name, a link that leads nowhere included."""
    return os.path.lexists(path)


def is_folder(path: Path) -> bool:
    """Whether it is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()
