"""The columns of a table: which are numbers, which are left out, which are made numbers."""

from __future__ import annotations

import csv
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.cli.data.asked import Found, listed
from recurrax.cli.data.cells import date, is_known, is_missing, number, truth, uses_comma
from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path

_MOST_WORDS = 256  # different ones in a column that is made one-hot


class Column(NamedTuple):
    """A column of a table."""

    name: str | None
    kind: str  # "numbers", "dates", "words", or "nothing" where no cell has a value
    values: np.ndarray  # float64 [T], NaN where missing; of words all NaN
    cells: list[str]  # as they stand in the file; of numbers that came as numbers none
    wrong: int | None = None  # the first cell that is no number where most are

    def said(self, i: int) -> str:
        return f"column {self.name!r}" if self.name else f"column {i + 1}"


# --- from cells to columns --------------------------------------------------------------------


class Table(NamedTuple):
    """Columns, and how they were told from each other."""

    columns: list[Column]
    header: bool  # whether the first row names them
    doubtful: bool  # whether that row has numbers in it, too
    comma: bool  # whether decimals have one


def table_of(
    rows: list[list[str]], separator: str, names: list[str], asked: str | None = None
) -> Table:
    """The columns of rows of one length.

    Args:
      rows: cells as they are written.
      separator: what stood between the columns.
      names: of the columns if the first row does not name them; none, or one for each.
      asked: columns by name, which the first row then holds even where all below are words.
    """
    cells = [list(column) for column in zip(*rows, strict=True)]
    first = rows[0]
    below = [column_of(None, column[1:], separator) for column in cells]
    # Among words `3,5` says nothing of how numbers are written.
    comma = any(
        c.kind in ("numbers", "nothing") and uses_comma(column, separator)
        for c, column in zip(below, cells, strict=True)
    )
    if comma:
        below = [column_of(None, column[1:], separator, comma) for column in cells]
    titles = [_is_title(cell, column) for cell, column in zip(first, below, strict=True)]
    wanted = {word for word in _words(asked or "") if not word.isdigit()}
    if any(titles) or not wanted.isdisjoint(cell.strip() for cell in first):
        named = [
            c._replace(name=cell.strip() or None) for cell, c in zip(first, below, strict=True)
        ]
        known = [is_known(cell) and not is_missing(cell) for cell in first]
        numbers = [c.kind in ("numbers", "dates") for c in below]
        doubtful = any(a and b for a, b in zip(known, numbers, strict=True))
        return Table(named, True, doubtful, comma)
    given = names if len(names) == len(first) else [""] * len(first)
    whole = [
        column_of(name or None, column, separator, comma)
        for name, column in zip(given, cells, strict=True)
    ]
    return Table(whole, False, False, comma)


def _is_title(cell: str, below: Column) -> bool:
    """Whether a cell is of no kind that the cells below it are."""
    if is_missing(cell) or below.kind in ("words", "nothing"):
        return False
    return date(cell) is None if below.kind == "dates" else not is_known(cell)


def column_of(
    name: str | None, cells: list[str], separator: str = "", elsewhere: bool = False
) -> Column:
    """A column of cells as they are written; `elsewhere` others have a decimal comma."""
    array = None if elsewhere else _plain_numbers(cells)
    if array is not None:
        return Column(name, "nothing" if np.isnan(array).all() else "numbers", array, cells)
    values = _numbers(cells, separator, elsewhere)
    there = [i for i, cell in enumerate(cells) if not is_missing(cell)]
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


def _plain_numbers(cells: list[str]) -> np.ndarray | None:
    """Where all are as Python writes them, which is quick."""
    try:
        array = np.array([float(cell) for cell in cells], np.float64)
    except ValueError:
        return None
    return None if any("_" in cell for cell in cells) else array


def _numbers(cells: list[str], separator: str, elsewhere: bool) -> list[float | None]:
    """Of each cell; None for what is no number, NaN for what is missing."""
    comma = uses_comma(cells, separator, elsewhere)
    truths = all(is_missing(cell) or truth(cell) is not None for cell in cells)
    read = truth if truths else partial(number, comma=comma)
    return [np.nan if is_missing(cell) else read(cell) for cell in cells]


# --- from columns to features -----------------------------------------------------------------


def found_of(path: Path, columns: list[Column], lines: list[int], asked: str | None) -> Found:
    """The features: the columns of numbers, or the ones asked for, words and dates encoded.

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
        chosen = pick(path, asked, [column.name for column in columns])
    parts = [_features(path, i, columns[i], lines) for i in chosen]
    if not parts:
        raise Mistake(
            f"{path} has no rows of numbers, only {listed(_reasons(columns))}; name with "
            "--columns those of words or dates that are to be encoded"
        )
    values, names, words = (list(chain(*part)) for part in zip(*parts, strict=True))
    found = Found(np.stack(values, 1), tuple(names), tuple(lines))
    encoded = frozenset(i for i, of_word in enumerate(words) if of_word)
    found = found._replace(encoded=encoded).told(columns=names)
    dropped = [(i, c) for i, c in enumerate(columns) if asked is None and i not in chosen]
    if not dropped:
        return found
    one = len(dropped) == 1
    full = any(column.kind != "nothing" for _, column in dropped)
    encode = f"; --columns NAMES encodes {'it' if one else 'them'}" if full else ""
    return found.told(
        f"{path.name}: {listed(_reasons(columns), 8)} {'is' if one else 'are'} left out{encode}",
        dropped=[column.name or i + 1 for i, column in dropped],
    )


def _reasons(columns: list[Column]) -> list[str]:
    """Of each column that is none of numbers, what it is."""
    reasons = []
    for i, column in enumerate(columns):
        if column.kind == "nothing":
            reasons.append(f"{column.said(i)} (no values)")
        elif column.kind != "numbers":
            example = next(cell for cell in column.cells if not is_missing(cell))[:30]
            reasons.append(f"{column.said(i)} ({column.kind}, such as {example!r})")
    return reasons


def pick(path: Path, asked: str, names: list[str | None]) -> list[int]:
    """Columns by their names, or by their numbers from 1."""
    words = _words(asked)
    if not words or not all(words):
        raise Mistake(f"--columns must be names or numbers with commas between, got {asked!r}")
    chosen = [_place(path, word, names) for word in words]
    if len(set(chosen)) < len(chosen):
        raise Mistake(f"--columns names a column twice: {asked}")
    return chosen


def _words(asked: str) -> list[str]:
    return [word.strip() for word in next(csv.reader([asked], skipinitialspace=True), [])]


def _place(path: Path, word: str, names: list[str | None]) -> int:
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
    path: Path, i: int, column: Column, lines: list[int]
) -> tuple[list[Any], list[str], list[bool]]:
    """The features that a column is made of, their names, and whether they are of words."""
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
        return [column.values - np.nanmin(column.values)], [f"{said} in days"], [False]
    if column.kind == "numbers":
        return [column.values], [said], [False]
    cells = np.array([cell.strip() for cell in column.cells])
    words = [word for word in dict.fromkeys(cells.tolist()) if not is_missing(word)]
    if len(words) > _MOST_WORDS:
        raise Mistake(
            f"--columns: {said} of {path} has {len(words)} different words, such as "
            f"{words[0]!r}, and up to {_MOST_WORDS} can be encoded; dates are where they are "
            "written like 2026-01-31"
        )
    one_hot = [(cells == word).astype(np.float64) for word in words]
    return one_hot, [f"{said} = {word!r}" for word in words], [True] * len(words)
