"""What `recurrax reproduce` says of its claims: a table for each, and a sentence for all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from recurrax.cli.console import listed, print_table, terminal
from recurrax.published.claim import VERDICTS

if TYPE_CHECKING:
    from recurrax.published import Reproduced, Row

_HEADINGS = ("number", "published", "ours (range)", "tolerance", "verdict", "note")
_WORDS = ("number", "tolerance", "verdict", "note")


def print_claim(found: Reproduced) -> None:
    """Print a table of its rows, the source and the setting."""
    claim, rows, seconds = found
    lines = [line(row) for row in rows]
    columns = len(_HEADINGS) if any(row.note for row in rows) else len(_HEADINGS) - 1
    screen = terminal()
    print_table(
        f"{claim.name}: {claim.title}",
        _HEADINGS[:columns],
        [one[:columns] for one in lines],
        left=_WORDS,
    )
    screen.print(f"source: {claim.source}")
    screen.print(f"here: {claim.setting}; {seconds:.1f} s\n")


def line(row: Row) -> tuple[str, ...]:
    """Return what is printed of a number."""
    ours = number(row.ours)
    if row.range is not None:
        low, high = map(number, row.range)
        ours += f" ({low} to {high})" if low != high else ""
    words = "in words" if math.isnan(row.published) else number(row.published)
    return row.what, words, ours, row.tolerance, row.verdict, row.note


def number(value: float) -> str:
    """Return four digits of a number, and all of a whole one."""
    whole = math.isfinite(value) and value == round(value) and abs(value) < 1e9
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def in_one_sentence(results: list[Reproduced], seconds: float) -> str:
    """Return how many numbers agree, differ and are not comparable, and which differ."""
    agree, differ, other = (sum(found.count(v) for found in results) for v in VERDICTS)
    these = [
        f"{found.claim.name} ({row.what})"
        for found in results
        for row in found.rows
        if row.verdict == VERDICTS[1]
    ]
    which = f": {listed(these, len(these))}" if these else ""
    return (
        f"{agree} agree, {other} cannot be compared, {differ} differ{which}; "
        f"{len(results)} claims in {seconds:.0f} s"
    )
