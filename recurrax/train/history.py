"""What was seen while training: rows in memory, and the same as JSON lines in a file.

A checkpoint keeps a ledger of the rows up to it, by which damage to the file is found.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

from recurrax.flow.watch import Watched
from recurrax.interop.disk import replaced, set_aside, there

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Row: TypeAlias = dict[str, Any]
"""Numbers by name; under "flow" the fields of a `Watched`, in the rows in which one was taken."""

Entry: TypeAlias = tuple[int, str]
Ledger: TypeAlias = list[Entry]
"""For each row its step and its seal, the first 64 bits of the SHA-256 of what it says."""

_NAMED = 5  # steps that a warning names, at most
_LONGEST = 1 << 20  # bytes; no row is as long
_LOST = {"step", "lost"}  # what is written in place of a row that is lost: its entry


class History:
    """Rows, one a report; each is in the file before the next step is taken."""

    def __init__(
        self,
        path: Path | None,
        ledger: Ledger | None = None,
        names: Iterable[str] = (),
        write: bool = True,
    ) -> None:
        """Go on from a file of JSON lines; None keeps the rows in memory only.

        The ledger is that of the rows up to the checkpoint from which the run goes on; what the
        file has beyond is cut off, for it will be seen again. What is not as the ledger says is
        told in one warning, and the file kept aside. Rows that can be found in it are used, in the
        order in which they were written; one that is lost is NaN in each of the columns `names`,
        and in the file its step alone, as "lost". Only one process is to `write`.
        """
        self.ledger: Ledger = list(ledger or [])
        self.rows: list[Row] = []
        self._path = path if write else None
        if path is None:
            return
        unknown = dict.fromkeys(names, math.nan)
        for row in _recovered(path, self.ledger, write):
            lost = row.keys() == _LOST
            self.rows.append({"step": row["step"]} | unknown if lost else _numbers(row))

    def append(self, row: Row) -> None:
        """Add a row, in memory and in the file."""
        self.rows.append(row)
        strict = _strict(row)
        self.ledger.append(_entry(strict))
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(strict))
            file.flush()
            os.fsync(file.fileno())

    def arrays(self) -> dict[str, Any]:
        """Return by name an array `[M]` with an entry a row; NaN where a row has no such number.

        Under "flow", if it was watched, there is a `Watched` of the rows in which it was, or a dict
        of such by the name of a part.
        """
        names = {"step": None} | {name: None for row in self.rows for name in row if name != "flow"}
        found: dict[str, Any] = {}
        for name in names:
            column = [row.get(name, math.nan) for row in self.rows]
            found[name] = np.array(column, np.int64 if name == "step" else np.float64)
        flows = [row["flow"] for row in self.rows if "flow" in row]
        if flows:
            found["flow"] = _stacked(flows)
        return found


def _stacked(flows: list[Row]) -> Any:
    """Return a `Watched` of rows, or one by the name of each part."""
    if flows[0].keys() != set(Watched._fields):
        return {name: _stacked([flow[name] for flow in flows]) for name in flows[0]}
    return jax.tree.map(lambda *values: np.array(values), *(Watched(**flow) for flow in flows))


def learning_rates(opt_state: Any) -> dict[str, float]:
    """Return the learning rates that `optax.inject_hyperparams` keeps, wherever they stand.

    Several have the names of their groups, or else numbers.
    """

    def keeps(node: Any) -> bool:
        kept = getattr(node, "hyperparams", None)
        return isinstance(kept, dict) and np.ndim(kept.get("learning_rate", [])) == 0

    leaves = jax.tree_util.tree_leaves_with_path(opt_state, is_leaf=keeps)
    found = [(path, node.hyperparams["learning_rate"]) for path, node in leaves if keeps(node)]
    names = [
        "/".join(str(entry.key) for entry in path if hasattr(entry, "key")) for path, _ in found
    ]
    if len(set(names)) < len(names):
        names = [str(number) for number in range(len(names))]
    names = ["learning_rate" if len(names) == 1 else f"learning_rate/{name}" for name in names]
    return {name: float(np.asarray(rate)) for name, (_, rate) in zip(names, found, strict=True)}


def flat(row: Row) -> dict[str, float]:
    """Return the numbers of a row but its step, those of the flow by names with slashes."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}/{inner}": number for inner, number in flat(value).items()}
        elif name != "step" and value is not None:
            found[name] = value
    return found


# --- the file as the ledger knows it --------------------------------------------------------------


def _recovered(path: Path, ledger: Ledger, write: bool) -> list[Row]:
    """Return the rows of a ledger, as JSON; the entry itself in place of one that is lost.

    Where it is to `write`, the file has these rows alone from then on.
    """
    found, wrong, size = _read(path, ledger)
    lost = [{"step": step, "lost": seal} for step, seal in ledger]
    rows = [found.get(place) or entry for place, entry in enumerate(lost)]
    text = "".join(map(_line, rows)).encode()
    if not write or (wrong is None and size == len(text)):
        return rows
    with replaced(path) as part:
        part.write_bytes(text)
        copy = set_aside(path) if wrong is not None and there(path) else None
    if wrong is None:
        return rows
    lacking, count = [str(ledger[p][0]) for p in range(len(ledger)) if p not in found], len(rows)
    some = lacking
    if len(lacking) > _NAMED:
        some = [*lacking[: _NAMED - 1], "...", lacking[-1]]
    loss = f"all {count} rows of the run were found" if count else "the run begins anew"
    if lacking:
        are = "row is" if count == 1 else "rows are"
        steps = "step" if len(lacking) == 1 else "steps"
        loss = f"{len(lacking)} of {count} {are} lost and NaN, of {steps} {', '.join(some)}"
    kept = "" if copy is None else f". The damaged one is kept as {copy.name}"
    warnings.warn(f"history {path} is damaged: {wrong}; {loss}{kept}", stacklevel=5)
    return rows


def _read(path: Path, ledger: Ledger) -> tuple[dict[int, Row], str | None, int]:
    """Find the rows of a ledger in a file, in whatever order and among whatever they lie.

    Rows that come after them, of later steps, are right: the run went on after the checkpoint.
    Of these the very last may have been torn by a kill. Returned are the rows by their places in
    the ledger, what is wrong with the file, if anything, and how many bytes were read.
    """
    places = {entry: place for place, entry in enumerate(ledger)}
    found: dict[int, Row] = {}
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
        wrong = "it is gone" if ledger or there(path) else None
    except OSError as error:
        wrong = f"it cannot be read: {error.strerror or error}"
    if wrong is None and number < len(ledger):
        wrong = f"it ends before row {number + 1}, that of step {ledger[number][0]}"
    return found, wrong, size


def _lines(path: Path) -> Iterator[bytes]:
    """Yield line by line, so that a file of any size can be looked at; up to one that is no row."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # to open a pipe would be to wait for ever
        raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is no file")
    with path.open("rb") as file:
        while line := file.readline(_LONGEST):
            yield line
            if len(line) == _LONGEST:
                return


def _parsed(line: bytes) -> tuple[Entry, Row] | None:
    """Return a row with its entry; None for anything else."""
    try:
        row = json.loads(line.decode())
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            return None
        return (row["step"], str(row["lost"])) if row.keys() == _LOST else _entry(row), row
    except (ValueError, RecursionError):
        return None


def _entry(row: Row) -> Entry:
    """Return the entry of a row as it is written."""
    text = json.dumps(row, sort_keys=True)
    return row["step"], hashlib.sha256(text.encode()).hexdigest()[:16]


# --- JSON has no word for NaN and infinity, so they are written as text ---------------------------


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strict(entry) for name, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(entry) for name, entry in value.items()}
    return float(value) if isinstance(value, str) else value


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
