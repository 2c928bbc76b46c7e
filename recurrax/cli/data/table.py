"""The cells and columns of a table: which are numbers, which are left out, which are encoded."""

from __future__ import annotations

import csv
import math
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.cli.console import Mistake, listed
from recurrax.cli.data.contents import Contents

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Between the columns of a table that is written as text.
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", " ": "spaces"}
_MOST_WORDS = 256  # different ones in a column that is made one-hot
_MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "+nan", "nat", "null", "none", "nil"}
    | {"?", "-", "--", "."}
    | {"#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!"}  # what Excel could not compute
)
_TRUTHS = {"true": 1.0, "false": 0.0}
_LONGEST = 64  # characters of a number with commas
_GAP = r"[ '\u2019\u00a0\u202f]"  # between thousands, beside points and commas
_NUMERIC = re.compile(rf"[+-]?([\d.,]|{_GAP})*\d([\d.,]|{_GAP})*(e[+-]?\d+)?", re.I)
# No number with thousands begins with 0: `0,123` is a fraction.
_THOUSANDS = {
    ",": re.compile(r"[+-]?[1-9](\d{0,2}(,\d{3})+|\d?(,\d{2})+,\d{3})"),  # India's too: 1,23,456
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+"),
}
_GROUPED = re.compile(rf"[+-]?[1-9]\d{{0,2}}({_GAP}\d{{3}})+(?!\d|.*{_GAP})")


class Rows(NamedTuple):
    """The cells of a table as they are written, all rows of one length."""

    cells: list[list[str]]
    lines: list[int]  # where each row ends in the file
    separator: str = ""  # between the columns; of a sheet there is none
    names: tuple[str, ...] = ()  # of the columns, from a comment right before the first row
    notes: tuple[str, ...] = ()


class Column(NamedTuple):
    """A column of a table."""

    name: str | None
    kind: str  # "numbers", "dates", "words", or "nothing" where no cell has a value
    values: np.ndarray  # float64 [T], NaN where missing; of words all NaN
    cells: list[str]  # as they stand in the file
    wrong: int | None = None  # the first cell that is no number where most are

    def said(self, i: int) -> str:
        return f"column {self.name!r}" if self.name else f"column {i + 1}"


def is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _truth(cell: str) -> float | None:
    """Return 1 for true, 0 for false, None for anything else."""
    return _TRUTHS.get(cell.strip().lower())


def _number(cell: str, comma: bool = False) -> float | None:
    """Return a number, thousands set apart or not; None for what is none."""
    cell = cell.strip().replace("\u2212", "-")
    if _GROUPED.match(cell):
        cell = re.sub(_GAP, "", cell)
    if "," in cell or comma:
        decimal, group = (",", ".") if comma else (".", ",")
        whole, point, rest = cell.partition(decimal)
        if decimal in rest:
            return None
        if group in whole:
            if not _THOUSANDS[group].fullmatch(whole):
                return None
            whole = whole.replace(group, "")
        cell = whole + "." * bool(point) + rest
    try:
        return None if "_" in cell else float(cell)  # Python's own 1_000 is no number of a table
    except ValueError:
        return None


def _date(cell: str) -> float | None:
    """Return an ISO date, with a time or without, in days since 1970; None for what is none."""
    cell = cell.strip()
    if not 8 <= len(cell) <= 40 or cell.count("-") < 2:  # not a plain number such as 20260101
        return None
    try:
        when = datetime.fromisoformat(cell)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86400


def is_known(cell: str) -> bool:
    """Return whether a cell is anything but a word."""
    if _truth(cell) is not None or _date(cell) is not None:
        return True
    value = _number(cell)
    value = _number(cell, comma=True) if value is None else value
    return value is not None and not math.isnan(value)


def written(value: float) -> str:
    """Return a number as a cell that nothing beside it makes one with thousands."""
    cell = repr(value)
    return f"{cell}e0" if _THOUSANDS["."].fullmatch(cell) else cell


def _uses_comma(cells: list[str], separator: str, elsewhere: bool = False) -> bool:
    """Return whether the numbers of a column have a decimal comma.

    `1,234` has one where the separator of the columns is no comma, or where others `elsewhere`
    have one; then `1.234` is one with thousands.
    """
    marked = [
        cell.strip()
        for cell in cells
        if ("," in cell or (elsewhere and "." in cell))
        and len(cell) < _LONGEST
        and _NUMERIC.fullmatch(cell.strip())
    ]
    with_comma = [cell for cell in marked if "," in cell]
    if not with_comma:
        return bool(marked) and all(_THOUSANDS["."].fullmatch(cell) for cell in marked)
    no_point = [cell for cell in with_comma if _number(cell) is None]
    if no_point:  # lists such as 1,2,3 are no numbers either way
        return any(_number(cell, comma=True) is not None for cell in no_point)
    usual = separator != "," or elsewhere
    return usual and not any("." in cell or cell.count(",") > 1 for cell in with_comma)


def table_contents(path: Path, rows: Rows, asked: str | None) -> Contents:
    """Return the features of a table, those `asked` for by names or numbers with commas between.

    The first row may name the columns; it does if it holds such a name.
    """
    if not rows.cells:
        raise Mistake(f"{path} has no rows of numbers; expected one time step a line")
    first, lines, notes = rows.cells[0], rows.lines, list(rows.notes)
    cells = [list(column) for column in zip(*rows.cells, strict=True)]
    below = [column_of(None, column[1:], rows.separator) for column in cells]
    # Among words `3,5` says nothing of how numbers are written.
    comma = any(
        c.kind in ("numbers", "nothing") and _uses_comma(column, rows.separator)
        for c, column in zip(below, cells, strict=True)
    )
    if comma:
        below = [column_of(None, column[1:], rows.separator, comma) for column in cells]
    wanted = {word for word in _words(asked or "") if not word.isdigit()}
    has_names = not wanted.isdisjoint(cell.strip() for cell in first)
    has_numbers = False
    for cell, column in zip(first, below, strict=True):
        missing, known = is_missing(cell), is_known(cell)
        if not missing and column.kind in ("numbers", "dates"):
            # A title is of no kind that the cells below it are.
            has_names |= _date(cell) is None if column.kind == "dates" else not known
            has_numbers |= known
    if has_names:
        columns = [c._replace(name=cell.strip()) for cell, c in zip(first, below, strict=True)]
        if has_numbers:
            notes.append(f"{path.name}: line {lines[0]} is taken for names, though it has numbers")
        lines = lines[1:]
    else:
        names = rows.names if len(rows.names) == len(first) else (None,) * len(first)
        columns = [
            column_of(name, column, rows.separator, comma)
            for name, column in zip(names, cells, strict=True)
        ]
    if comma:
        between = SEPARATORS.get(rows.separator, repr(rows.separator))
        between = f", columns set apart by {between}" if rows.separator else ""
        notes.append(f"{path.name}: numbers are read with a decimal comma{between}")
    contents = features_of(path, columns, lines, asked)
    return contents._replace(notes=(*notes, *contents.notes))


def column_of(
    name: str | None, cells: list[str], separator: str = "", elsewhere: bool = False
) -> Column:
    """Return a column of cells as they are written; `elsewhere` others have a decimal comma."""
    there = [i for i, cell in enumerate(cells) if not is_missing(cell)]
    values: dict[int, float | None] = {}
    with suppress(ValueError):  # where all are as Python writes them this is quick
        values = {} if elsewhere else {i: float(cell) for i, cell in enumerate(cells)}
    if not values or any("_" in cell for cell in cells):
        truths = all(_truth(cells[i]) is not None for i in there)
        comma = _uses_comma(cells, separator, elsewhere)
        values = {i: _truth(cells[i]) if truths else _number(cells[i], comma) for i in there}
    bad = [i for i in there if values[i] is None]
    array = np.full(len(cells), np.nan)
    for i, value in values.items():
        array[i] = np.nan if value is None else value
    if not there:
        return Column(name, "nothing", array, cells)
    if 2 * len(bad) <= len(there):
        return Column(name, "numbers", array, cells, bad[0] if bad else None)
    days = [_date(cells[i]) for i in there]
    if None not in days:
        array[there] = days
        return Column(name, "dates", array, cells)
    return Column(name, "words", np.full(len(cells), np.nan), cells)


def features_of(
    path: Path, columns: list[Column], lines: Sequence[int], asked: str | None
) -> Contents:
    """Return the columns of numbers, or the ones asked for, words and dates encoded.

    `lines` says where in the file each time step stands.
    """
    if not columns or not len(columns[0].values):
        raise Mistake(f"{path} has no rows of numbers; expected one time step a line")
    if asked is None:
        chosen = [i for i, column in enumerate(columns) if column.kind == "numbers"]
    else:
        chosen = chosen_columns(path, asked, [column.name for column in columns])
    others = [(i, column) for i, column in enumerate(columns) if column.kind != "numbers"]
    reasons = []
    for i, column in others:
        what = "no values"
        if column.kind != "nothing":
            example = next(cell for cell in column.cells if not is_missing(cell))[:30]
            what = f"{column.kind}, such as {example!r}"
        reasons.append(f"{column.said(i)} ({what})")
    if not chosen:
        raise Mistake(
            f"{path} has no rows of numbers, only {listed(reasons)}; name with "
            "--columns those of words or dates that are to be encoded"
        )
    features = [feature for i in chosen for feature in _features(path, i, columns[i], lines)]
    names = [name for name, _, _ in features]
    contents = Contents(
        np.stack([values for _, values, _ in features], 1),
        tuple(names),
        tuple(lines),
        frozenset(i for i, (_, _, of_word) in enumerate(features) if of_word),
    ).noted(columns=names)
    if asked is not None or not others:
        return contents
    be, them = ("is", "it") if len(others) == 1 else ("are", "them")
    full = any(column.kind != "nothing" for _, column in others)
    encode = f"; --columns NAMES encodes {them}" if full else ""
    return contents.noted(
        f"{path.name}: {listed(reasons, 8)} {be} left out{encode}",
        dropped=[column.name or i + 1 for i, column in others],
    )


def _words(asked: str) -> list[str]:
    return [word.strip() for word in next(csv.reader([asked], skipinitialspace=True), [])]


def chosen_columns(path: Path, asked: str, names: Sequence[str | None]) -> list[int]:
    """Return columns by their names, or by their numbers from 1."""
    words = _words(asked)
    if not words or not all(words):
        raise Mistake(f"--columns must be names or numbers with commas between, got {asked!r}")
    chosen = []
    for word in words:
        places = [i for i, name in enumerate(names) if name == word]
        if len(places) > 1:
            numbers = listed([str(i + 1) for i in places])
            raise Mistake(f"--columns {word}: {path} has that name at {numbers}; give the number")
        if not places and word.isascii() and word.isdigit() and 1 <= int(word) <= len(names):
            places = [int(word) - 1]
        if not places:
            known = listed([repr(name) for name in names if name], 12)
            there = f"the columns {known}" if known else f"{len(names)} columns without names"
            raise Mistake(f"--columns {word}: {path} has no such column; it has {there}")
        chosen += places
    if len(set(chosen)) < len(chosen):
        raise Mistake(f"--columns names a column twice: {asked}")
    return chosen


def _features(
    path: Path, i: int, column: Column, lines: Sequence[int]
) -> list[tuple[str, Any, bool]]:
    """Return the features made of a column: each name, its values, and whether it is of a word."""
    said = column.said(i)
    if column.wrong is not None:
        raise Mistake(
            f"{path}: line {lines[column.wrong]}, {said} is {column.cells[column.wrong]!r}, "
            "expected a number as in most others; mend it, empty it and --fill it, or name with "
            "--columns the others"
        )
    if column.kind == "nothing":
        raise Mistake(f"--columns: {said} of {path} has no values")
    if column.kind == "dates":
        return [(f"{said} in days", column.values - np.nanmin(column.values), False)]
    if column.kind == "numbers":
        return [(said, column.values, False)]
    cells = np.array([cell.strip() for cell in column.cells])
    words = [word for word in dict.fromkeys(cells.tolist()) if not is_missing(word)]
    if len(words) > _MOST_WORDS:
        raise Mistake(
            f"--columns: {said} of {path} has {len(words)} different words, such as "
            f"{words[0]!r}, and up to {_MOST_WORDS} can be encoded; dates are where they are "
            "written like 2026-01-31"
        )
    return [(f"{said} = {word!r}", (cells == word).astype(np.float64), True) for word in words]
