"""The columns of a table: which are numbers, which are left out, which are made numbers."""

from __future__ import annotations

import csv
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.cli.console import Mistake, listed
from recurrax.cli.data.contents import SEPARATORS, Contents
from recurrax.cli.data.table_cells import date, is_known, is_missing, number, truth, uses_comma

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recurrax.cli.data.contents import Rows

_MOST_WORDS = 256  # different ones in a column that is made one-hot


class Column(NamedTuple):
    """A column of a table."""

    name: str | None
    kind: str  # "numbers", "dates", "words", or "nothing" where no cell has a value
    values: np.ndarray  # float64 [T], NaN where missing; of words all NaN
    cells: list[str]  # as they stand in the file
    wrong: int | None = None  # the first cell that is no number where most are

    def said(self, i: int) -> str:
        return f"column {self.name!r}" if self.name else f"column {i + 1}"


def table_contents(path: Path, rows: Rows, asked: str | None) -> Contents:
    """Return the features of a table.

    Args:
      path: of the file.
      rows: of the table, the first of which may name the columns.
      asked: names or numbers of columns, with commas between; the names are in the first row then,
        even where all below are words.
    """
    if not rows.cells:
        raise Mistake(f"{path} has no rows of numbers; expected one time step a line")
    first, lines, notes = rows.cells[0], rows.lines, list(rows.notes)
    cells = [list(column) for column in zip(*rows.cells, strict=True)]
    below = [column_of(None, column[1:], rows.separator) for column in cells]
    # Among words `3,5` says nothing of how numbers are written.
    comma = any(
        c.kind in ("numbers", "nothing") and uses_comma(column, rows.separator)
        for c, column in zip(below, cells, strict=True)
    )
    if comma:
        below = [column_of(None, column[1:], rows.separator, comma) for column in cells]
    wanted = {word for word in _words(asked or "") if not word.isdigit()}
    has_names = not wanted.isdisjoint(cell.strip() for cell in first) or any(
        _is_title(cell, column) for cell, column in zip(first, below, strict=True)
    )
    if has_names:
        columns = [c._replace(name=cell.strip()) for cell, c in zip(first, below, strict=True)]
        if any(
            is_known(cell) and not is_missing(cell) and c.kind in ("numbers", "dates")
            for cell, c in zip(first, below, strict=True)
        ):
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


# --- from cells to columns ------------------------------------------------------------------------


def _is_title(cell: str, below: Column) -> bool:
    """Return whether a cell is of no kind that the cells below it are."""
    if is_missing(cell) or below.kind in ("words", "nothing"):
        return False
    return date(cell) is None if below.kind == "dates" else not is_known(cell)


def column_of(
    name: str | None, cells: list[str], separator: str = "", elsewhere: bool = False
) -> Column:
    """Return a column of cells as they are written; `elsewhere` others have a decimal comma."""
    there = [i for i, cell in enumerate(cells) if not is_missing(cell)]
    values = None if elsewhere else _plain_numbers(cells)
    if values is None:
        values = _numbers(cells, separator, elsewhere)
    bad = [i for i in there if values[i] is None]
    array = np.array([np.nan if value is None else value for value in values], np.float64)
    if not there:
        return Column(name, "nothing", array, cells)
    if 2 * len(bad) <= len(there):
        return Column(name, "numbers", array, cells, bad[0] if bad else None)
    days = [date(cells[i]) for i in there]
    if None not in days:
        array[there] = days
        return Column(name, "dates", array, cells)
    return Column(name, "words", np.full(len(cells), np.nan), cells)


def _plain_numbers(cells: list[str]) -> list[float | None] | None:
    """Return the numbers where all are as Python writes them, which is quick."""
    try:
        values: list[float | None] = [float(cell) for cell in cells]
    except ValueError:
        return None
    return None if any("_" in cell for cell in cells) else values


def _numbers(cells: list[str], separator: str, elsewhere: bool) -> list[float | None]:
    """Return the number of each cell; None for what is none, NaN for what is missing."""
    comma = uses_comma(cells, separator, elsewhere)
    truths = all(is_missing(cell) or truth(cell) is not None for cell in cells)
    read = truth if truths else partial(number, comma=comma)
    return [np.nan if is_missing(cell) else read(cell) for cell in cells]


# --- from columns to features ---------------------------------------------------------------------


def features_of(
    path: Path, columns: list[Column], lines: Sequence[int], asked: str | None
) -> Contents:
    """Return the columns of numbers, or the ones asked for, words and dates encoded.

    Args:
      path: of the file.
      columns: all of them.
      lines: where in the file each time step stands.
      asked: names or numbers of columns, with commas between.
    """
    if not columns or not len(columns[0].values):
        raise Mistake(f"{path} has no rows of numbers; expected one time step a line")
    if asked is None:
        chosen = [i for i, column in enumerate(columns) if column.kind == "numbers"]
    else:
        chosen = chosen_columns(path, asked, [column.name for column in columns])
    if not chosen:
        raise Mistake(
            f"{path} has no rows of numbers, only {listed(_reasons(columns))}; name with "
            "--columns those of words or dates that are to be encoded"
        )
    features = list(chain(*(_features(path, i, columns[i], lines) for i in chosen)))
    names = [name for name, _, _ in features]
    contents = Contents(
        np.stack([values for _, values, _ in features], 1),
        tuple(names),
        tuple(lines),
        frozenset(i for i, (_, _, of_word) in enumerate(features) if of_word),
    ).noted(columns=names)
    dropped = [(i, c) for i, c in enumerate(columns) if asked is None and i not in chosen]
    if not dropped:
        return contents
    one = len(dropped) == 1
    full = any(column.kind != "nothing" for _, column in dropped)
    encode = f"; --columns NAMES encodes {'it' if one else 'them'}" if full else ""
    return contents.noted(
        f"{path.name}: {listed(_reasons(columns), 8)} {'is' if one else 'are'} left out{encode}",
        dropped=[column.name or i + 1 for i, column in dropped],
    )


def _reasons(columns: list[Column]) -> list[str]:
    """Return of each column that is none of numbers what it is."""
    reasons = []
    for i, column in enumerate(columns):
        if column.kind == "nothing":
            reasons.append(f"{column.said(i)} (no values)")
        elif column.kind != "numbers":
            example = next(cell for cell in column.cells if not is_missing(cell))[:30]
            reasons.append(f"{column.said(i)} ({column.kind}, such as {example!r})")
    return reasons


def chosen_columns(path: Path, asked: str, names: Sequence[str | None]) -> list[int]:
    """Return columns by their names, or by their numbers from 1."""
    words = _words(asked)
    if not words or not all(words):
        raise Mistake(f"--columns must be names or numbers with commas between, got {asked!r}")
    chosen = [_place(path, word, names) for word in words]
    if len(set(chosen)) < len(chosen):
        raise Mistake(f"--columns names a column twice: {asked}")
    return chosen


def _words(asked: str) -> list[str]:
    return [word.strip() for word in next(csv.reader([asked], skipinitialspace=True), [])]


def _place(path: Path, word: str, names: Sequence[str | None]) -> int:
    places = [i for i, name in enumerate(names) if name == word]
    if len(places) > 1:
        numbers = listed([str(i + 1) for i in places])
        raise Mistake(f"--columns {word}: {path} has that name at {numbers}; give the number")
    if places:
        return places[0]
    if word.isascii() and word.isdigit() and 1 <= int(word) <= len(names):
        return int(word) - 1
    known = [repr(name) for name in names if name]
    there = f"the columns {listed(known, 12)}" if known else f"{len(names)} columns without names"
    raise Mistake(f"--columns {word}: {path} has no such column; it has {there}")


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
