"""What was seen while training: rows in memory, and the same as JSON lines in a file."""

from __future__ import annotations

import json
import math
import os
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recurrax.flow import Watched
from recurrax.interop.disk import replaced, set_aside, there
from recurrax.train.ledger import entry_of, is_lost, read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from recurrax.train.ledger import Found, Ledger

_NAMED = 5  # steps that a warning names, at most

Row: TypeAlias = dict[str, Any]
"""Numbers by name; under "flow" the fields of a `Watched`, in the rows in which one was taken."""


class History:
    """Rows, one a report; each is in the file before the next step is taken."""

    def __init__(
        self,
        path: Path | None,
        ledger: Ledger | None = None,
        names: Iterable[str] = (),
        write: bool = True,
    ) -> None:
        """Go on from a file.

        What is not as the ledger says is told in one warning, and the file kept aside. Rows that
        can be found in it are used, in the order in which they were written; one that is lost is
        NaN in every column, and in the file its step alone, as "lost".

        Args:
          path: JSON lines; None keeps the rows in memory only.
          ledger: the rows up to the checkpoint from which the run goes on. What the file has
            beyond is cut off, for it will be seen again.
          names: columns that each row has.
          write: whether it is this process that writes.
        """
        self.ledger: Ledger = list(ledger or [])
        self.rows: list[Row] = []
        self._path = path if write else None
        if path is None:
            return
        found = read(path, self.ledger)
        unknown = dict.fromkeys(names, math.nan)
        self.rows = [
            {"step": row["step"]} | unknown if is_lost(row) else _plain(row) for row in found.rows
        ]
        if write:
            _mend(path, found)

    def append(self, row: Row) -> None:
        self.rows.append(row)
        strict = _strict(row)
        self.ledger.append(entry_of(strict))
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(strict))
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


def _mend(path: Path, found: Found) -> None:
    """Leave in the file the rows that were found; tell if they are not all that it had."""
    text = "".join(map(_line, found.rows)).encode()
    if found.wrong is None and found.size == len(text):
        return
    with replaced(path) as part:
        part.write_bytes(text)
        copy = set_aside(path) if found.wrong is not None and there(path) else None
    if found.wrong is not None:
        kept = "" if copy is None else f". The damaged one is kept as {copy.name}"
        warnings.warn(
            f"history {path} is damaged: {found.wrong}; {_loss(found)}{kept}", stacklevel=5
        )


def _loss(found: Found) -> str:
    """What is lost, in words."""
    lacking, count = found.lacking, len(found.rows)
    if not lacking:
        return f"all {count} rows of the run were found" if count else "the run begins anew"
    some = [str(step) for step in lacking]
    if len(some) > _NAMED:
        some = [*some[: _NAMED - 1], "...", some[-1]]
    rows = "row is" if count == 1 else "rows are"
    steps = "step" if len(lacking) == 1 else "steps"
    return f"{len(lacking)} of {count} {rows} lost and NaN, of {steps} {', '.join(some)}"


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


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
