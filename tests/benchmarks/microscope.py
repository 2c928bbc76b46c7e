"""How fast is `rx.flow`, beside other libraries and beside one gradient?

    python -m tests.benchmarks.microscope

Each figure (`tests.benchmarks.microscope_figures`) sets a function of `rx.flow` beside what a user
would otherwise run, or beside one gradient of the same network: first both must find the same
numbers, then they are timed in turn. What is quoted is the median over the rounds of the ratio of
the two times within a round, and its range. Compilation is left out and listed by itself, except
where a peer's documented call compiles every time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from .comparing import Outcome, table
from .markers import RESULTS, markers, replace_between
from .microscope_figures import FIGURES, QUICK, Sizes
from .training import BUSY, load, machine, where

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKERS = markers("microscope")
LIBRARIES = ("recurrax", "jax", "jaxlib", "numpy", "optax", "chaotax", "lyapax")


class Run(NamedTuple):
    outcomes: list[Outcome]
    facts: dict[str, Any]  # versions, machine, date, load


def run(names: Iterable[str], sizes: Sizes, rounds: int) -> Run:
    """Measure every figure."""
    facts = machine() | {"rounds": rounds, "versions": versions(), "load": [load()]}
    facts["backend"] = f"{jax.default_backend()} ({jax.devices()[0].device_kind})"
    outcomes: list[Outcome] = []
    for name in names:
        print(name, file=sys.stderr)
        outcomes += FIGURES[name](sizes, rounds)
    facts["load"].append(load())
    return Run(outcomes, facts)


def versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def details(outcome: Outcome) -> list[str]:
    """Seconds, compilation, agreement."""
    lines = [outcome.case]
    for side, seconds in outcome.seconds.items():
        middle, extra = 1000 * statistics.median(seconds), outcome.compile[side]
        lines.append(f"  {side}: {middle:.4g} ms, the first call {extra:+.2f} s")
    lines += [f"  {note}" for note in outcome.notes]
    return lines + [f"  DISAGREES: {side}" for side in outcome.wrong]


def story(measured: Run) -> str:
    """What is printed."""
    lines = [*where(measured.facts), measured.facts["platform"], ""]
    if measured.facts["load"][0] > BUSY * measured.facts["cores"]:
        lines += ["the machine was busy: LAPACK's threads, which wait for each other, suffer most"]
    for outcome in measured.outcomes:
        lines += details(outcome)
    figures = [figure for outcome in measured.outcomes for figure in outcome.figures]
    lines += ["", *table(figures), ""]
    missed = [f"not as asked: {f.name} {f.of}".strip() for f in figures if not f.met]
    lines += missed or ["all figures are as asked"]
    return "\n".join(lines)


def results_text(measured: Run) -> str:
    """What stands between the markers in RESULTS.md."""
    facts, outcomes = measured.facts, measured.outcomes
    lines = [
        f"`python -m tests.benchmarks.microscope --results` wrote this on {facts['date']}: medians "
        "of the ratios of two times, taken in turn, and their ranges.",
        "",
        *table([figure for outcome in outcomes for figure in outcome.figures]),
        "",
        f"Measured on {'; '.join(where(facts))}.",
    ]
    missing = {note: None for o in outcomes for note in o.notes if " missing: " in note}
    return "\n".join(lines + [f"- {note}" for note in missing])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="write all raw numbers to this file")
    parser.add_argument("--results", action="store_true", help="write the table into RESULTS.md")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {given.rounds}")
    if given.results:
        replace_between(RESULTS, MARKERS, None)
    measured = run(given.only, QUICK if given.quick else Sizes(), given.rounds)
    print(story(measured))
    if given.json:
        outcomes = [
            {**o._asdict(), "figures": [f._asdict() for f in o.figures]} for o in measured.outcomes
        ]
        text = json.dumps({**measured.facts, "outcomes": outcomes}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")
    if any(o.wrong for o in measured.outcomes):
        raise SystemExit("not all sides agree" + (", RESULTS.md is as it was" * given.results))
    if given.results:
        replace_between(RESULTS, MARKERS, results_text(measured))


if __name__ == "__main__":
    main()
