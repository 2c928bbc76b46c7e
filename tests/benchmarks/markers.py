"""What a benchmark writes into the README, between two markers of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def markers(name: str) -> tuple[str, str]:
    """The lines before and after what a benchmark writes."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def replace_between(path: Path, lines: tuple[str, str], text: str | None) -> None:
    """Write the text between the markers; None only sees that they are there."""
    begin, end = lines
    before, found_begin, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise SystemExit(f"{path.name} needs the lines {begin} and {end}, in this order")
    if text is not None:
        path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
