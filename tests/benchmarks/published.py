"""Which published numbers does `recurrax reproduce` find again?

    python -m tests.benchmarks.published [--only NAME ...] [--long] [--results]

Runs the command and prints a row for each number. Without `--long` it takes a minute or two, with
it most of an hour. `--out DIR` keeps reproduced.json there; `--read FILE ...` reads such files and
runs nothing, of a claim that is in several of them the last.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recurrax.cli.reproduce.verdicts import number
from recurrax.published import names

from .markers import asked, deliver, markers
from .training import markdown

MARKERS = markers("published")
FILE = "reproduced.json"
HEADINGS = ["claim", "number", "published", "ours (range)", "tolerance", "verdict", "note"]


def run(names: list[str], long: bool, out: Path) -> Path:
    """What the command writes, as a user asks for it."""
    command = [sys.executable, "-m", "recurrax", "reproduce", *names, *["--long"][: int(long)]]
    subprocess.run([*command, "--out", str(out)], check=True)
    return out / FILE


def row(name: str, found: dict[str, Any]) -> list[str]:
    """Of one number."""
    published = float(found["published"])  # a string in JSON where it is not finite
    ours = number(float(found["ours"]))
    low, high = (number(float(end)) for end in found["range"] or (0, 0))
    spread = f" ({low} to {high})" if low != high else ""
    words = "in words" if math.isnan(published) else number(published)
    told = [found[key].replace("|", "\\|") for key in ("tolerance", "verdict", "note")]
    return [name, found["what"].replace("|", "\\|"), words, ours + spread, *told]


def machine(document: dict[str, Any]) -> str:
    """Where a file was measured, and with what."""
    versions = ", ".join(f"{it} {document[it]}" for it in ("recurrax", "jax", "jaxlib", "numpy"))
    where = f"{document['device']}, {document['cores']} cores"
    return f"{versions}, Python {document['python']}, {where}"


def text(documents: list[dict[str, Any]], when: str) -> str:
    """What stands between the markers."""
    claims = {name: claim for it in documents for name, claim in it["claims"].items()}
    numbers = [(name, each) for name, claim in claims.items() for each in claim["rows"]]
    verdicts = [each["verdict"] for _, each in numbers]
    counts = ", ".join(f"{verdicts.count(it)} {it}" for it in dict.fromkeys(verdicts))
    missing = ", ".join(name for name in names(long=True) if name not in claims) or "none"
    told = [
        f"- {name}, {claim['seconds']:.0f} s{', with `--long`' if claim['long'] else ''}: "
        f"{claim['title']}. Source: {claim['source']}. Here: {claim['setting']}."
        for name, claim in claims.items()
    ]
    return "\n".join(
        [
            f"`python -m tests.benchmarks.published --results` wrote this on {when}: {counts}. "
            "Of several seeds or starts ours is the median or the published one, beside the range. "
            f"Claims that were not run: {missing}.",
            "",
            *told,
            "",
            *markdown([HEADINGS, *(row(name, each) for name, each in numbers)]),
            "",
            f"Measured with {'; '.join(dict.fromkeys(map(machine, documents)))}.",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="names of claims")
    parser.add_argument("--long", action="store_true", help="also those that train for minutes")
    parser.add_argument("--out", type=Path, help=f"keep {FILE} in this folder")
    parser.add_argument("--read", type=Path, nargs="+", help="read such files, and run nothing")
    given = asked(parser, MARKERS, arguments)
    with tempfile.TemporaryDirectory() as scratch:
        files = given.read or [run(given.only, given.long, given.out or Path(scratch))]
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        newest = max(path.stat().st_mtime for path in files)
    deliver(given, MARKERS, text(documents, datetime.date.fromtimestamp(newest).isoformat()))


if __name__ == "__main__":
    main()
