"""What a checkpoint knows of the history before it, and what a file has kept of that."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Entry: TypeAlias = tuple[int, str]
Ledger: TypeAlias = list[Entry]
"""For each row its step and its seal, the first 64 bits of the SHA-256 of what it says."""

_LONGEST = 1 << 20  # bytes; no row is as long


class Found(NamedTuple):
    """What a file has of a ledger."""

    rows: list[dict[str, Any]]  # one for each entry, as JSON; `lost(entry)` for those that lack
    lacking: list[int]  # the steps of these, those that were told before not among them
    wrong: str | None  # what is wrong with the file; None: it is as it was written
    size: int  # bytes that were read


def entry_of(row: dict[str, Any]) -> Entry:
    """The entry of a row that is written."""
    text = json.dumps(row, sort_keys=True)
    return row["step"], hashlib.sha256(text.encode()).hexdigest()[:16]


def lost(entry: Entry) -> dict[str, Any]:
    """What is written in place of a row that is lost; it stands for that row from then on."""
    step, seal = entry
    return {"step": step, "lost": seal}


def is_lost(row: dict[str, Any]) -> bool:
    """Whether it stands for a row that is lost."""
    return row.keys() == {"step", "lost"}


def to_array(ledger: Ledger) -> np.ndarray:
    """As uint64 `[M, 2]`, for a checkpoint."""
    pairs = [(step, int(seal, 16)) for step, seal in ledger]
    return np.array(pairs, np.uint64).reshape(-1, 2)


def from_array(array: np.ndarray) -> Ledger:
    """The ledger that is this array."""
    return [(step, f"{seal:016x}") for step, seal in array.tolist()]


def read(path: Path, ledger: Ledger) -> Found:
    """Find the rows of a ledger in a file, in whatever order and among whatever they lie.

    Rows that come after them, of later steps, are right: the run went on after the checkpoint.
    Of these the very last may have been torn by a kill.
    """
    places = {entry: place for place, entry in enumerate(ledger)}
    found: dict[int, dict[str, Any]] = {}
    wrong, number, size = None, 0, 0
    last = ledger[-1][0] if ledger else 0
    try:
        for number, line in enumerate(_lines(path), 1):
            size += len(line)
            entry, row = _parsed(line) or (None, {})
            place = None if entry is None else places.get(entry)
            if place is not None:
                found.setdefault(place, row)
            if wrong is not None:
                continue
            if number <= len(ledger):
                if place != number - 1:
                    step = ledger[number - 1][0]
                    wrong = f"row {number} is not that of step {step} as it was written"
            elif entry is not None and entry[0] > last:
                last = entry[0]
            elif line.endswith(b"\n"):
                wrong = f"row {number} is none that follows step {last}"
    except FileNotFoundError:
        wrong = "it is gone" if ledger or os.path.lexists(path) else None
    except OSError as error:
        wrong = f"it cannot be read: {error.strerror or error}"
    if wrong is None and number < len(ledger):
        wrong = f"it ends before row {number + 1}, that of step {ledger[number][0]}"
    rows = [found.get(place) or lost(entry) for place, entry in enumerate(ledger)]
    lacking = [step for place, (step, _) in enumerate(ledger) if place not in found]
    return Found(rows, lacking, wrong, size)


def _lines(path: Path) -> Iterator[bytes]:
    """Line by line, so that a file of any size can be looked at; up to one that is no row's."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # to open a pipe would be to wait for ever
        raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is no file")
    with path.open("rb") as file:
        while line := file.readline(_LONGEST):
            yield line
            if len(line) == _LONGEST:
                return


def _parsed(line: bytes) -> tuple[Entry, dict[str, Any]] | None:
    """A row with its entry; None for anything else."""
    try:
        row = json.loads(line.decode())
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            return None
        entry = entry_of(row)
    except (ValueError, RecursionError):
        return None
    if is_lost(row):
        entry = row["step"], str(row["lost"])
    return entry, row
