"""What a publication says, what was measured here, and whether the two agree."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AGREES, DIFFERS, NOT_COMPARABLE = "agrees", "differs", "not comparable"


class Row(NamedTuple):
    """One number of a publication beside the same number measured here."""

    what: str  # such as "Lorenz: exponent"
    published: float  # nan where the publication says it in words only
    ours: float  # of several seeds the median
    range: tuple[float, float] | None  # over the seeds; None of one number
    tolerance: str  # in words, such as "+- 0.02"
    verdict: str  # one of AGREES, DIFFERS, NOT_COMPARABLE
    note: str  # a reason or a condition, "" for none


@dataclasses.dataclass(frozen=True)
class Claim:
    """Some numbers of one publication, and how they are measured here.

    Args:
      name: what the command knows it by.
      title: what is claimed, in one line.
      source: authors, year, and the place of the numbers (table, equation, file).
      setting: sizes, lengths and seeds that were used here.
      measure: `measure() -> rows`, deterministic.
      long: whether it trains for minutes.
    """

    name: str
    title: str
    source: str
    setting: str
    measure: Callable[[], Iterable[Row]]
    long: bool = False


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How far two numbers may be apart to agree: by a number, a fraction, or a factor.

    Example:
      >>> Tolerance("relative", 0.03).holds(2.0, 2.05), str(Tolerance("factor", 10.0))
      (True, 'a factor of 10')
    """

    kind: str
    size: float

    def holds(self, published: float, ours: float) -> bool:
        """Whether they agree; nothing agrees with NaN."""
        if self.kind == "factor":
            same_sign = published * ours > 0
            return same_sign and abs(math.log(ours / published)) <= math.log(self.size)
        most = self.size * (abs(published) if self.kind == "relative" else 1)
        return abs(ours - published) <= most

    def __str__(self) -> str:
        if self.kind == "factor":
            return f"a factor of {self.size:g}"
        return f"+- {100 * self.size:g} %" if self.kind == "relative" else f"+- {self.size:g}"


def absolute(size: float) -> Tolerance:
    """So much more or less."""
    return Tolerance("absolute", size)


def relative(size: float) -> Tolerance:
    """Such a fraction more or less."""
    return Tolerance("relative", size)


def factor(size: float) -> Tolerance:
    """Larger or smaller by a factor."""
    return Tolerance("factor", size)


def compared(
    what: str, published: float, ours: float | Iterable[float], within: Tolerance, note: str = ""
) -> Row:
    """A row that agrees or differs; of several seeds the median is what is compared."""
    middle, spread = _median_and_range(ours)
    verdict = AGREES if within.holds(published, middle) else DIFFERS
    return Row(what, published, middle, spread, str(within), verdict, note)


def stated(
    what: str, ours: float | Iterable[float], holds: bool, claim: str, note: str = ""
) -> Row:
    """A row of a publication's words, such as "all solve it", and whether they hold here."""
    middle, spread = _median_and_range(ours)
    return Row(what, math.nan, middle, spread, claim, AGREES if holds else DIFFERS, note)


def not_comparable(what: str, published: float, ours: float | Iterable[float], reason: str) -> Row:
    """A row of which too much is different, or too little is known, to compare."""
    middle, spread = _median_and_range(ours)
    return Row(what, published, middle, spread, "", NOT_COMPARABLE, reason)


def _median_and_range(ours: float | Iterable[float]) -> tuple[float, tuple[float, float] | None]:
    if isinstance(ours, (int, float)) or np.ndim(ours) == 0:  # type: ignore[arg-type]
        return float(ours), None  # type: ignore[arg-type]
    values = np.asarray(list(ours), np.float64)
    return float(np.median(values)), (float(values.min()), float(values.max()))
