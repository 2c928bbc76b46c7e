"""Missing numbers filled, what is infinite refused, features brought to unit size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recurrax.cli.data.asked import FILLS, Found, listed
from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path

_FAR = 10.0  # times larger or smaller than 1
_ALL_SAME = 1e-12  # a deviation below this part of the largest is rounding


def filled(path: Path, found: Found, how: str | None) -> Found:
    """Without missing numbers: each is the last before it, or the mean of its feature.

    Args:
      path: of the file.
      found: without infinite numbers.
      how: one of `FILLS`, or None.

    Raises:
      Mistake: if there are some and it is not said how to fill them, or a feature has no others.
    """
    missing = np.isnan(found.values)
    if not missing.any():
        return found
    if how is None:
        raise Mistake(
            f"{path} is not finite: {_where(found, missing)}, {_count(int(missing.sum()))} in "
            "all; drop or fill them, with --fill forward (the value before) or --fill mean, since "
            "one NaN spoils all later steps"
        )
    per_feature = missing.reshape(-1, missing.shape[-1]).sum(0)
    series = missing.all(0)
    if series.any():
        feature = found.feature(int(np.argwhere(series)[0][-1]))
        raise Mistake(f"{path} has no value in {feature} to fill the others with; leave it out")
    fill = _fill_forward if how == FILLS[0] else _fill_mean
    counts = {found.feature(int(i)): int(per_feature[i]) for i in np.flatnonzero(per_feature)}
    said = listed([f"{count} in {name}" for name, count in counts.items()])
    words = "the value before" if how == FILLS[0] else "the mean"
    note = f"{path.name}: missing numbers are filled with {words} ({said})"
    first = how == FILLS[0] and missing[0].any()
    note += "; at the start, with the first that there is" if first else ""
    values = fill(found.values, missing)
    return found._replace(values=values).told(note, filled={"how": how, "numbers": counts})


def _fill_forward(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    steps = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    last = np.maximum.accumulate(np.where(missing, -1, steps), axis=0)
    first = np.argmin(missing, axis=0)
    found: np.ndarray = np.take_along_axis(values, np.where(last < 0, first, last), axis=0)
    return found


def _fill_mean(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Of all times and sequences."""
    rows = values.reshape(-1, values.shape[-1])
    size = np.nanmax(np.abs(rows), axis=0)
    size[size == 0] = 1.0  # so that no sum overflows
    return np.where(missing, np.nanmean(rows / size, axis=0) * size, values)


def check_not_infinite(path: Path, found: Found) -> None:
    infinite = np.isinf(found.values)
    if infinite.any():
        raise Mistake(
            f"{path} is not finite: {_where(found, infinite)}; drop or cap those steps, since "
            "one spoils all later ones"
        )


def check_size(path: Path, found: Found) -> None:
    if np.abs(found.values).max() > np.finfo(np.float32).max:
        raise Mistake(
            f"{path} holds numbers too large for float32; rescale the data, as --standardise does"
        )


def _where(found: Found, which: np.ndarray) -> str:
    """The first of some numbers, and where it stands."""
    place = tuple(int(i) for i in np.argwhere(which)[0])
    if not found.lines:
        return f"{found.values[place]} at index {place} (from 0)"
    what = "a missing number" if np.isnan(found.values[place]) else str(found.values[place])
    return f"{what} in line {found.lines[place[0]]}, {found.feature(place[1])}"


def _count(count: int) -> str:
    return f"{count} such number{'' if count == 1 else 's'}"


# --- unit size ----------------------------------------------------------------------------------


def standardised(path: Path, found: Found) -> Found:
    """Each feature less its mean, divided by its standard deviation, over all times."""
    rows = found.values.reshape(-1, found.values.shape[-1])
    size = np.abs(rows).max(0)
    size[size == 0] = 1.0  # so that no square overflows
    scaled = rows / size
    mean, deviation = scaled.mean(0), scaled.std(0)
    constant = deviation <= _ALL_SAME
    values = np.where(constant, 0.0, (scaled - mean) / np.where(constant, 1.0, deviation))
    done = {"mean": mean * size, "deviation": np.where(constant, 0.0, deviation * size)}
    found = found._replace(values=values.reshape(found.values.shape)).told(standardised=done)
    if not constant.any():
        return found
    names = [found.feature(int(i)) for i in np.flatnonzero(constant)]
    be = "are constant, and become" if len(names) > 1 else "is constant, and becomes"
    return found.told(f"{path.name}: {listed(names)} {be} 0")


def size_told(path: Path, found: Found) -> Found:
    """With a sentence on features far from unit size, if there are some."""
    largest = np.abs(found.values).reshape(-1, found.values.shape[-1]).max(0)
    numbers = np.array([i not in found.encoded for i in range(len(largest))])
    large = numbers & (largest > _FAR)
    small = numbers & (largest < 1 / _FAR) & (largest > 0)
    if large.any():
        verb, size, effect = "reach", largest[large].max(), "which alone saturates a cell"
    elif small.any():
        verb, size, effect = "stay below", largest[small].max(), "which a cell hardly notices"
    else:
        return found
    names = [found.feature(int(i)) for i in np.flatnonzero(large if large.any() else small)]
    verb = verb if len(names) > 1 else verb.replace("reach", "reaches").replace("stay", "stays")
    return found.told(
        f"{path.name}: {listed(names)} {verb} {size:.3g}, far from unit size, {effect}; "
        "--standardise brings each feature to mean 0 and deviation 1"
    )
