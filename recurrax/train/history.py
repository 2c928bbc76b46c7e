"""What was seen while training: rows in memory, and the same as JSON lines in a file."""

from __future__ import annotations

import json
import math
import os
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recurrax.flow import Watched

if TYPE_CHECKING:
    from pathlib import Path

Row: TypeAlias = dict[str, Any]
"""Numbers by name; under "flow" the fields of a `Watched`, in the rows in which one was taken."""


class History:
    """Rows, one a report; each is in the file before the next step is taken."""

    def __init__(self, path: Path | None, until: int = 0, write: bool = True) -> None:
        """Go on from a file.

        Args:
          path: JSON lines; None keeps the rows in memory only.
          until: rows beyond this step are cut off, for they will be seen again.
          write: whether it is this process that writes.
        """
        self.rows: list[Row] = []
        self._path = path if write else None
        if path is None or not path.exists():
            return
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = [_parsed(line) for line in lines]
        # The last line may have been torn by a kill; any other that is no row is damage.
        if self._path is not None and None in rows[:-1] + rows[:1]:
            _put_aside(path)
        good = [(line, row) for line, row in zip(lines, rows, strict=True) if row is not None]
        kept = [line for line, row in good if row["step"] <= until]
        self.rows = [row for _, row in good if row["step"] <= until]
        if self._path is not None:
            part = path.with_name(f".{path.name}.part")
            part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            part.replace(path)

    def append(self, row: Row) -> None:
        self.rows.append(row)
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_strict(row), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def arrays(self) -> dict[str, Any]:
        """By name, an array `[M]` with an entry a row; NaN where a row has no such number.

        Under "flow", if it was watched, a `Watched` of the rows in which it was.
        """
        names = {name: None for row in self.rows for name in row if name != "flow"}
        found: dict[str, Any] = {"step": np.zeros(0, np.int64)}
        for name in names:
            column = [row.get(name, math.nan) for row in self.rows]
            found[name] = np.array(column, np.int64 if name == "step" else np.float64)
        flows = [row["flow"] for row in self.rows if "flow" in row]
        if flows:
            found["flow"] = Watched(**{name: _column(name, flows) for name in Watched._fields})
        return found


def _put_aside(path: Path) -> None:
    """Keep a file that holds what no run has written."""
    count = 1
    while (copy := path.with_name(f"{path.name}.damaged{count}")).exists():
        count += 1
    copy.write_bytes(path.read_bytes())
    warnings.warn(
        f"{path} has lines that are no rows of a history; it is kept as {copy.name}, and goes on "
        "with the rows that can be read",
        stacklevel=4,
    )


def watched_row(record: Watched) -> dict[str, Any]:
    """A `Watched` of scalars as plain numbers."""
    fields = record._asdict()
    numbers = {
        name: None if value is None else _number(value)
        for name, value in fields.items()
        if not isinstance(value, dict)
    }
    gates = {name: _numbers(value) for name, value in fields.items() if isinstance(value, dict)}
    return numbers | gates | {"step": int(record.step)}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: Any) -> float:
    return float(np.asarray(value))


def _column(name: str, flows: list[dict[str, Any]]) -> Any:
    first = flows[0][name]
    if first is None:
        return None
    if isinstance(first, dict):
        return {gate: np.array([flow[name][gate] for flow in flows]) for gate in first}
    return np.array([flow[name] for flow in flows], np.int64 if name == "step" else np.float64)


# --- JSON has no word for NaN and infinity, so they are written as text ---------------------------


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strict(entry) for name, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return float(value) if isinstance(value, str) else value


def _parsed(line: str) -> Row | None:
    """A row; None for a line that was torn when the process was killed."""
    try:
        row = json.loads(line)
        row = _plain(row)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None
