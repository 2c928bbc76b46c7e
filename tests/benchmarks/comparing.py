"""Two or more ways to the same numbers: timed in turn, and their ratios beside what is asked."""

from __future__ import annotations

import math
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from .peers import loops, timed
from .training import markdown

if TYPE_CHECKING:
    from collections.abc import Callable


class Asked(NamedTuple):
    """What the ratio should be."""

    least: float = 0.0
    most: float = math.inf
    aim: float | None = None

    def __str__(self) -> str:
        if self.least:
            text = f"at least {self.least:g}"
        elif self.most < math.inf:
            text = f"at most {self.most:g}"
        else:
            return ""
        return text + (f", aim {self.aim:g}" if self.aim else "")


class Figure(NamedTuple):
    """The time of one side over that of another."""

    name: str
    of: str  # which cell or network, where several share the name
    asked: Asked
    ratios: list[float]  # by round; none if a side is missing

    @property
    def met(self) -> bool:
        middle = statistics.median(self.ratios) if self.ratios else math.nan
        return self.asked.least <= middle <= self.asked.most


class Outcome(NamedTuple):
    """Of one comparison."""

    case: str
    figures: list[Figure]
    seconds: dict[str, list[float]]  # of one call, by side and round
    compile: dict[str, float]  # seconds of the first call beyond those of the others
    notes: list[str]  # how well the sides agree; who is missing
    wrong: list[str]  # sides that do not agree


def in_turn(
    sides: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, Any], dict[str, list[float]], dict[str, float]]:
    """First results, and the seconds of a call by round, after those that compile and wake up."""
    calls = {name: partial(_waited, side) for name, side in sides.items()}
    results, first = {}, {}
    for name, call in calls.items():
        begin = time.perf_counter()
        results[name] = call()
        first[name] = time.perf_counter() - begin
    times = {name: loops(call) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds):
        start = number % len(names)  # another begins each round
        for name in names[start:] + names[:start]:
            seconds[name].append(timed(calls[name], times[name]))
    return results, seconds, {n: first[n] - statistics.median(seconds[n]) for n in names}


def _waited(side: Callable[[], Any]) -> Any:
    return jax.block_until_ready(side())


def ratios(over: list[float], under: list[float]) -> list[float]:
    """Of the two in the same round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def table(figures: list[Figure]) -> list[str]:
    """A row for each name: the median of each figure, and the range of all rounds."""
    rows = [["time of one over another", "asked", "measured", "range"]]
    for name in dict.fromkeys(figure.name for figure in figures):
        these = [figure for figure in figures if figure.name == name]
        everything = [ratio for figure in these for ratio in figure.ratios]
        row = [name, str(these[0].asked), ", ".join(map(_middle, these))]
        rows.append([*row, f"{min(everything):.2f} to {max(everything):.2f}" if everything else ""])
    return markdown(rows)


def _middle(figure: Figure) -> str:
    middle = f"{statistics.median(figure.ratios):.2f}" if figure.ratios else "not measured"
    return f"{figure.of} {middle}".strip()
