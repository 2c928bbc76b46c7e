"""What do the ready experiments of `recurrax compare` come to?

    python -m tests.benchmarks.experiments [--only adding digits] [--results]

Runs `recurrax compare --experiment NAME` for each, three seeds of every pair of cell and cure, and
prints a row for each pair. They take some forty minutes on two cores, most of it `copying`;
`--out DIR` keeps pictures and numbers there, and `--read DIR` reads what lies there already.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .markers import asked, deliver, markers
from .training import markdown

NAMES = ("adding", "exploding", "clipping", "copying", "digits")
MARKERS = markers("experiments")
FILE = "comparison.json"


def run(name: str, out: Path) -> None:
    """One experiment, as a user asks for it."""
    command = [sys.executable, "-m", "recurrax", "compare", "--experiment", name, "--force"]
    subprocess.run([*command, "--out", str(out / name)], check=True)


def rows(name: str, found: dict[str, Any]) -> list[list[str]]:
    """A row for each pair of cell and cure."""
    metric = found["goal"][0]
    made = []
    for trial in found["trials"]:
        summary = trial["summary"]
        final = summary["final"][metric]
        low, high = (short(value) for value in final["range"])
        horizons = (
            short(summary[when]["horizon"]["median"], "no end") for when in ("start", "end")
        )
        made.append(
            [
                name,
                trial["cell"],
                trial["cure"],
                f"{summary['solved']} of {summary['seeds']}",
                f"{summary['solved_at_end']} of {summary['seeds']}",
                f"{metric} {short(final['median'])} ({low} to {high})",
                short(summary["final"]["loss"]["median"]),
                " to ".join(horizons),
            ]
        )
    return made


def short(value: Any, otherwise: str = "diverged") -> str:
    """Three digits of a number, which is a string in JSON where it is not finite."""
    if value is None:
        return "unknown"
    number = float(value)
    return f"{number:.3g}" if math.isfinite(number) else otherwise


def question(name: str, found: dict[str, Any]) -> str:
    """What counts as solved, beside a guess without memory."""
    metric, relation, goal = found["goal"]
    guess = found["baseline"]
    return (
        f"- {name}: T = {found['length']}; solved at {metric} {relation} {goal:g}; a guess without "
        f"memory has {metric} {guess[metric]:.4g} and loss {guess['loss']:.4g}"
    )


def text(found: dict[str, dict[str, Any]], when: str) -> str:
    """What stands between the markers."""
    heading = ["experiment", "cell", "cure", "reached the goal", "is there at the end"]
    heading += ["metric, median (range)", "loss", "horizon, from start to end"]
    table = [heading, *(row for name in found for row in rows(name, found[name]))]
    first = next(iter(found.values()))
    return "\n".join(
        [
            f"`python -m tests.benchmarks.experiments --results` wrote this on {when}, "
            f"recurrax {first['recurrax']}, jax {first['jax']}. A seed that diverged counts as the "
            "worst; medians are over the seeds.",
            "",
            *(question(name, each) for name, each in found.items()),
            "",
            *markdown(table),
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    import datetime

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, help="keep pictures and numbers in this folder")
    parser.add_argument("--read", type=Path, help="read what --out kept, and run nothing")
    given = asked(parser, MARKERS, arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.read or given.out or Path(scratch)
        for name in () if given.read else given.only:
            run(name, folder)
        paths = {name: folder / name / FILE for name in given.only}
        found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}
        newest = max(path.stat().st_mtime for path in paths.values())
    deliver(given, MARKERS, text(found, datetime.date.fromtimestamp(newest).isoformat()))


if __name__ == "__main__":
    main()
