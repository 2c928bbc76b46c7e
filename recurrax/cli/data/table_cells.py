"""What a cell of a table says: a number, a truth, a date, a word, or nothing."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "+nan", "nat", "null", "none", "nil"}
    | {"?", "-", "--", "."}
    | {"#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!"}  # what Excel could not compute
)
_LONGEST = 64  # characters of a number with commas
_TRUTHS = {"true": 1.0, "false": 0.0}
_GAP = r"[ '\u2019\u00a0\u202f]"  # between thousands, beside points and commas
_NUMERIC = re.compile(rf"[+-]?([\d.,]|{_GAP})*\d([\d.,]|{_GAP})*(e[+-]?\d+)?", re.I)
# No number with thousands begins with 0: `0,123` is a fraction.
_THOUSANDS = {
    ",": re.compile(r"[+-]?[1-9](\d{0,2}(,\d{3})+|\d?(,\d{2})+,\d{3})"),  # India's too: 1,23,456
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+"),
}
_GROUPED = re.compile(rf"[+-]?[1-9]\d{{0,2}}({_GAP}\d{{3}})+(?!\d|.*{_GAP})")
_GAPS = re.compile(_GAP)


def is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def truth(cell: str) -> float | None:
    """Return 1 for true, 0 for false, None for anything else."""
    return _TRUTHS.get(cell.strip().lower())


def number(cell: str, comma: bool = False) -> float | None:
    """Return a number, thousands set apart or not; None for what is none."""
    cell = cell.strip().replace("\u2212", "-")
    if "," in cell or comma:
        cell = _with_point(cell, comma)
    elif _GROUPED.match(cell):
        cell = _GAPS.sub("", cell)
    try:
        return None if "_" in cell else float(cell)  # Python's own 1_000 is no number of a table
    except ValueError:
        return None


def _with_point(cell: str, comma: bool) -> str:
    """Return a number as Python writes it, "" for what is none."""
    decimal, group = (",", ".") if comma else (".", ",")
    if _GROUPED.match(cell):
        cell = _GAPS.sub("", cell)
    if cell.count(decimal) > 1:
        return ""
    whole, point, rest = cell.partition(decimal)
    if group in whole:
        if not _THOUSANDS[group].fullmatch(whole):
            return ""
        whole = whole.replace(group, "")
    return whole + "." * bool(point) + rest


def written(value: float) -> str:
    """Return a number as a cell that nothing beside it makes one with thousands."""
    cell = repr(value)
    return f"{cell}e0" if _THOUSANDS["."].fullmatch(cell) else cell


def uses_comma(cells: list[str], separator: str, elsewhere: bool = False) -> bool:
    """Return whether the numbers of a column have a decimal comma.

    Args:
      cells: of the column.
      separator: of the columns; where it is no comma, `1,234` is taken for a fraction.
      elsewhere: whether other columns have one, so that `1,234` has one too, and `1.234` has none.
    """
    marked = [c.strip() for c in cells if ("," in c or (elsewhere and "." in c)) and _numeric(c)]
    with_comma = [cell for cell in marked if "," in cell]
    if not with_comma:
        return bool(marked) and all(_THOUSANDS["."].fullmatch(cell) for cell in marked)
    no_point = [cell for cell in with_comma if number(cell) is None]
    if no_point:  # lists such as 1,2,3 are no numbers either way
        return any(number(cell, comma=True) is not None for cell in no_point)
    usual = separator != "," or elsewhere
    return usual and not any("." in c or c.count(",") > 1 for c in with_comma)


def _numeric(cell: str) -> bool:
    return len(cell) < _LONGEST and _NUMERIC.fullmatch(cell.strip()) is not None


def date(cell: str) -> float | None:
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
    if truth(cell) is not None or date(cell) is not None:
        return True
    value = number(cell, comma=False)
    value = number(cell, comma=True) if value is None else value
    return value is not None and not math.isnan(value)
