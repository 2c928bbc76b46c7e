"""What a publication says, what was measured here, and whether the two agree."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# A note for what stands in the column of published numbers and is none.
NOT_PUBLISHED = "measured before with other code, not published"
VERDICTS = AGREES, DIFFERS, NOT_COMPARABLE = "agrees", "differs", "not comparable"


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
      float64: whether `measure` runs in float64, else in float32, whatever JAX is set to.

    Example:
      >>> import recurrax as rx
      >>> def rows():
      ...     yield rx.published.stated("17 is prime", 17, all(17 % k for k in range(2, 17)), "yes")
      >>> rx.published.Claim("prime", "17 is prime", "Euclid", "no divisor", rows).long
      False
    """

    name: str
    title: str
    source: str
    setting: str
    measure: Callable[[], Iterable[Row]]
    long: bool = False
    float64: bool = False


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How far two numbers may be apart to agree.

    Args:
      kind: `absolute` or `relative`: so much, or such a fraction, more or less. `factor`: larger or
        smaller by it. `range`: so far outside the range over several seeds. `most` or `least`: the
        published number is a bound of ours, and ours is beyond it by so much.
      size: how much, 0 or more; of a factor 1 or more.

    Raises:
      ValueError: if there is no such kind, or the size does not go with it.

    Example:
      >>> import recurrax as rx
      >>> rx.published.Tolerance("relative", 0.03).holds(2.0, 2.05)
      True
      >>> str(rx.published.Tolerance("factor", 10.0))
      'a factor of 10'
    """

    kind: str
    size: float

    def __post_init__(self) -> None:
        if self.kind not in _WORDS:
            raise ValueError(f"kind must be one of {', '.join(_WORDS)}; got {self.kind!r}")
        least = 1 if self.kind == "factor" else 0
        if not least <= self.size < math.inf:
            raise ValueError(f"size of {self.kind} must be at least {least}, got {self.size}")

    def holds(
        self, published: float, ours: float, spread: tuple[float, float] | None = None
    ) -> bool:
        """Whether they agree; nothing agrees with NaN."""
        low, high = spread or (ours, ours)
        if ours == published:
            return True
        match self.kind:
            case "factor":
                same_sign = published * ours > 0
                return same_sign and abs(math.log(ours / published)) <= math.log(self.size)
            case "range":
                return low - self.size <= published <= high + self.size
            case "most":
                return ours <= published + self.size
            case "least":
                return ours >= published - self.size
        most = self.size * (abs(published) if self.kind == "relative" else 1)
        return abs(ours - published) <= most

    def __str__(self) -> str:
        shown = 100 * self.size if self.kind == "relative" else self.size
        return _WORDS[self.kind].format(f"{shown:g}")


_WORDS = {
    "absolute": "+- {}",
    "relative": "+- {} %",
    "factor": "a factor of {}",
    "range": "the range +- {}",
    "most": "at most",
    "least": "at least",
}


def absolute(size: float) -> Tolerance:
    """So much more or less."""
    return Tolerance("absolute", size)


def relative(size: float) -> Tolerance:
    """Such a fraction more or less."""
    return Tolerance("relative", size)


def factor(size: float) -> Tolerance:
    """Larger or smaller by a factor."""
    return Tolerance("factor", size)


def of_range(size: float) -> Tolerance:
    """So far outside the range over several seeds."""
    return Tolerance("range", size)


def at_most() -> Tolerance:
    """The published number is the most that ours may be."""
    return Tolerance("most", 0)


def at_least() -> Tolerance:
    """The published number is the least that ours may be."""
    return Tolerance("least", 0)


def compared(
    what: str,
    published: float,
    ours: float | Iterable[float],
    within: Tolerance,
    note: str = "",
    *,
    others: Iterable[float] = (),
) -> Row:
    """A row that agrees or differs; of several seeds the median is what is compared.

    Args:
      what: the number's name.
      published: its value in the publication.
      ours: its value here, or one for each seed.
      within: how far the two may be apart.
      note: a reason or a condition.
      others: more values, which are in the range and not in the median.

    Example:
      >>> import recurrax as rx
      >>> near = rx.published.Tolerance("absolute", 0.02)
      >>> row = rx.published.compared("exponent", 1.02, [1.03, 1.01, 1.05], near)
      >>> row.ours, row.range, row.tolerance, row.verdict
      (1.03, (1.01, 1.05), '+- 0.02', 'agrees')
    """
    middle, spread = _median_and_range(ours)
    ends = [*(spread or [middle]), *(float(other) for other in others)]
    spread = (min(ends), max(ends)) if len(ends) > 1 else None
    agree = within.holds(float(published), middle, spread)
    verdict = AGREES if agree else DIFFERS
    return Row(what, float(published), middle, spread, str(within), verdict, note)


def stated(
    what: str, ours: float | Iterable[float], holds: bool, claim: str, note: str = ""
) -> Row:
    """A row of a publication's words, such as "all solve it", and whether they hold here.

    Args:
      what: the number's name.
      ours: its value here, or one for each seed.
      holds: whether what is claimed is so here.
      claim: the words, short enough for a column.
      note: a reason or a condition.

    Example:
      >>> import recurrax as rx
      >>> wrong = [0, 3]
      >>> rx.published.stated("wrong", wrong, max(wrong) == 0, "none is wrong").verdict
      'differs'
    """
    middle, spread = _median_and_range(ours)
    return Row(what, math.nan, middle, spread, claim, AGREES if holds else DIFFERS, note)


def not_comparable(what: str, published: float, ours: float | Iterable[float], reason: str) -> Row:
    """A row of which too much is different, or too little is known, to compare.

    Args:
      what: the number's name.
      published: its value in the publication; nan for words.
      ours: its value here, or one for each seed.
      reason: what is different.

    Example:
      >>> import recurrax as rx
      >>> rx.published.not_comparable("wrong", 0, 12, "trained for a tenth as long").verdict
      'not comparable'
    """
    middle, spread = _median_and_range(ours)
    return Row(what, float(published), middle, spread, "", NOT_COMPARABLE, reason)


def _median_and_range(ours: float | Iterable[float]) -> tuple[float, tuple[float, float] | None]:
    if hasattr(ours, "__iter__") and not hasattr(ours, "ndim"):
        ours = list(ours)
    values = np.asarray(ours, np.float64)
    if values.ndim == 0:
        return float(values), None
    if not values.size:
        raise ValueError("ours must be a number or several, got none")
    return float(np.median(values)), (float(values.min()), float(values.max()))
