"""What a benchmark writes into RESULTS.md, between two markers of its own."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

RESULTS = Path(__file__).with_name("RESULTS.md")


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


def asked(
    parser: argparse.ArgumentParser, lines: tuple[str, str], arguments: list[str] | None
) -> argparse.Namespace:
    """The arguments, `--results` among them; the markers are looked for before the work."""
    parser.add_argument("--results", action="store_true", help=f"write it into {RESULTS.name}")
    given = parser.parse_args(arguments)
    if given.results:
        replace_between(RESULTS, lines, None)
    return given


def deliver(given: argparse.Namespace, lines: tuple[str, str], text: str) -> None:
    """Print the text; write it between the markers, if that is asked for."""
    print(text)
    if given.results:
        replace_between(RESULTS, lines, text)


def printed(script: str, text: str) -> str:
    """What a script printed, as it stands."""
    today = datetime.date.today().isoformat()
    head = f"`python -m tests.benchmarks.{script} --results` wrote this on {today}:"
    return f"{head}\n\n```text\n{text}\n```"
