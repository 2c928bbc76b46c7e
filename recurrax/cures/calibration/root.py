"""Where a measured rate has a wanted value: the search, which knows neither cells nor params.

A quick measurement of the whole range tells how many such numbers there are and about where. The
careful one, which costs ten times as much, is then asked near one of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Measure = Callable[[float], float]  # of a number

_POINTS = 25  # of the whole range
_FEWER = 9  # of what lies between two of them
_CLOSE = 1e-5  # nats a step from what is wanted: no need to look closer
_REACHED = 1e-3  # what is near enough where the rate only comes close
_MOST = 1e3  # in place of an infinite rate, with which one cannot interpolate
_WIDENINGS = 12


class Range(NamedTuple):
    """The numbers that are searched: evenly in their logs where all are positive."""

    low: float
    high: float

    def points(self, low: float, high: float, count: int = _POINTS) -> Any:
        found = self.inverse(np.linspace(self.along(low), self.along(high), count))
        found[0], found[-1] = low, high  # to the bit, so that they are not measured again
        return found

    def along(self, number: Any) -> Any:
        """Where a number is, on the scale on which they are spread evenly."""
        return np.log(np.maximum(number, self.low)) if self.low > 0 else np.asarray(number, float)

    def inverse(self, place: Any) -> Any:
        return np.exp(place) if self.low > 0 else place


class Root(NamedTuple):
    """A number with the wanted rate, and about where there are others."""

    number: float
    others: tuple[float, ...]


class Unreachable(Exception):
    """No number has the wanted rate, and why."""


def find_root(
    quick: Measure,
    careful: Measure,
    range_: Range,
    present: float,
    target: float,
    *,
    slack: float,
    allowed: Measure,
) -> Root:
    """The number nearest to the present one at which the careful measurement is the target.

    Args:
      quick: the rate at a number, within the slack; NaN where it cannot be measured since the state
        overflows, which counts as growing without bound.
      careful: the rate itself.
      range_: the numbers that are looked at.
      present: the number that changes nothing.
      target: the wanted rate.
      slack: how far the two measurements can be apart.
      allowed: how far from the target the rate may be at a number where it jumps over it.

    Raises:
      Unreachable: if there is none.
    """
    near, exact = _Errors(quick, target), _Errors(careful, target)
    numbers, errors = _scan(near, range_)
    tried: dict[tuple[float, float], Unreachable] = {}
    for measured in (near, exact):
        if measured is exact:  # what the quick rates do not settle, the careful ones do
            unsure = np.abs(errors) <= slack
            errors[unsure] = [exact(number) for number in numbers[unsure]]
        crossed = _crossed(numbers, errors, range_, present)
        for ends in crossed:
            bracket = None if ends in tried else _bracket(measured, exact, range_, *ends)
            if bracket is None:
                continue
            _refine(exact, *bracket)
            try:
                number = _best(exact, allowed)
            except Unreachable as reason:
                tried[ends] = reason
                continue
            known = {ends, *tried, *(at for at in crossed if at[0] <= number <= at[1])}
            others = [where for at, where in crossed.items() if at not in known]
            return Root(number, tuple(sorted(where for where in others if math.isfinite(where))))
    if tried:
        raise next(iter(tried.values()))
    exact(numbers[np.argmin(np.abs(errors))])
    return Root(_best(exact, allowed), ())


class _Errors:
    """How far a rate is from the target, each measured once."""

    def __init__(self, measure: Measure, target: float) -> None:
        self.measure, self.target = measure, target
        self.known: dict[float, float] = {}

    def __call__(self, number: float) -> float:
        number = float(number)
        if number not in self.known:
            error = np.nan_to_num(self.measure(number) - self.target, nan=_MOST)
            self.known[number] = float(np.clip(error, -_MOST, _MOST))
        return self.known[number]

    def told(self, error: float) -> str:
        """The rate, in words."""
        if abs(error) < _MOST:
            return f"{error + self.target:.4g}"
        return "an overflow" if error > 0 else "-inf"


def _scan(near: _Errors, range_: Range) -> tuple[Any, Any]:
    """Points of the range, closer where the target may just be reached between them; their errors.

    The two are in the order of the numbers.
    """
    numbers = range_.points(range_.low, range_.high)
    errors = np.array([near(number) for number in numbers])
    if not len(_crossings(errors)):
        k = int(np.argmin(np.abs(errors)))
        closer = range_.points(numbers[max(k - 1, 0)], numbers[min(k + 1, _POINTS - 1)])
        numbers = np.unique(np.append(numbers, closer))
        errors = np.array([near(number) for number in numbers])
    return numbers, errors


def _crossings(errors: Any) -> Any:
    """After which points the sign changes."""
    return np.flatnonzero(np.diff(errors > 0))


def _crossed(
    numbers: Any, errors: Any, range_: Range, present: float
) -> dict[tuple[float, float], float]:
    """Between which points the sign changes, the nearest to the present number first, and where.

    NaN beside an infinite rate, where it jumps as likely as not.
    """
    places = _crossings(errors)
    ends = range_.along(np.stack([numbers[places], numbers[places + 1]]))
    low, high = errors[places], errors[places + 1]
    where = ends[0] + (ends[1] - ends[0]) * low / (low - high)
    finite = np.maximum(np.abs(low), np.abs(high)) < _MOST
    roots = np.where(finite, range_.inverse(where), np.nan)
    order = np.argsort(np.abs(where - range_.along(present)), kind="stable")
    between = np.stack([numbers[places], numbers[places + 1]], 1)[order].tolist()
    return dict(zip(map(tuple, between), roots[order].tolist(), strict=True))


def _bracket(
    measured: _Errors, exact: _Errors, range_: Range, low: float, high: float
) -> tuple[float, float] | None:
    """Two numbers between which the exact error changes its sign, near a root of the other one.

    First there, and half as far again from there as the root is by the error. Then outwards.
    """
    numbers = range_.points(low, high, _FEWER)
    errors = np.array([measured(number) for number in numbers])
    places = _crossings(errors)
    if not len(places):  # none by the careful ones, where the quick ones saw an end of it
        return None
    at = int(places[len(places) // 2])
    ends = range_.along(numbers[at : at + 2])
    slope = (errors[at + 1] - errors[at]) / (ends[1] - ends[0])
    begin = ends[0] - errors[at] / slope
    error = exact(range_.inverse(begin))
    furthest = 2 * (ends[1] - ends[0])
    step = np.clip(-1.5 * error / slope, -furthest, furthest)
    return _widened(exact, range_, *sorted(range_.inverse(np.array([begin, begin + step]))))


def _widened(exact: _Errors, range_: Range, low: float, high: float) -> tuple[float, float] | None:
    """Go outwards from an interval until the sign changes within it."""
    ends = [max(float(low), range_.low), min(float(high), range_.high)]
    for _ in range(_WIDENINGS):
        errors = [exact(end) for end in ends]
        if errors[0] * errors[1] <= 0 or min(map(abs, errors)) <= _CLOSE:
            return ends[0], ends[1]
        nearer = int(abs(errors[1]) < abs(errors[0]))
        if ends[nearer] == range_[nearer]:
            nearer = 1 - nearer
        places = range_.along(np.array(ends))
        step = (2 * nearer - 1) * 2 * (places[1] - places[0])
        moved = float(range_.inverse(places[nearer] + step))
        ends[nearer] = min(max(moved, range_.low), range_.high)
    return None


def _refine(exact: _Errors, low: float, high: float) -> None:
    """Measure where the error is smaller and smaller, until it is small enough or jumps."""
    from scipy.optimize import brentq  # here, since it takes longer to load than all cures together

    def error(number: float) -> float:
        found = exact(number)
        return 0.0 if abs(found) <= _CLOSE else found

    if error(low) and error(high):
        brentq(error, low, high, xtol=1e-6, rtol=1e-6, maxiter=60, disp=False)


def _best(exact: _Errors, allowed: Measure) -> float:
    """The number with the smallest error of all that were measured, or beside a jump.

    Raises:
      Unreachable: if that is too large.
    """
    numbers = np.array(sorted(exact.known))
    errors = np.array([exact.known[number] for number in numbers])
    best = int(np.argmin(np.abs(errors)))
    if abs(errors[best]) <= _REACHED:
        return float(numbers[best])
    places = _crossings(errors)
    if not len(places):
        raise Unreachable(f"the nearest is {exact.told(errors[best])}, at {numbers[best]:.4g}")
    beside = np.append(places, places + 1)
    best = int(beside[np.argmin(np.abs(errors[beside]))])
    if abs(errors[best]) <= allowed(float(numbers[best])):
        return float(numbers[best])
    at = places[np.argmin(numbers[places + 1] - numbers[places])]
    raise Unreachable(
        f"it jumps from {exact.told(errors[at])} to {exact.told(errors[at + 1])} at "
        f"{numbers[at + 1]:.4g}, where longer or more sequences may smooth it"
    )
