"""Missing numbers filled, what is infinite refused, features brought to unit size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recurrax.cli.console import Mistake, listed

if TYPE_CHECKING:
    from pathlib import Path

    from recurrax.cli.data.contents import Contents

FILLS = ("forward", "mean")
_FAR = 10.0  # times larger or smaller than 1
_ALL_SAME = 1e-12  # a deviation below this part of the largest is rounding


def cleaned(
    path: Path, contents: Contents, fill: str | None, standardise: bool, say_size: bool
) -> Contents:
    """Return finite numbers; of unit size if asked, else with a note where they are far from it.

    Args:
      path: of the file.
      contents: its numbers.
      fill: one of `FILLS`, which says what stands for a missing number; None: they are refused.
      standardise: whether features are brought to unit size.
      say_size: whether to note those that are far from it.

    Raises:
      Mistake: if a number is infinite or too large, or a missing one cannot be filled.
    """
    infinite = np.isinf(contents.values)
    if infinite.any():
        raise Mistake(
            f"{path} is not finite: {_first(contents, infinite)}; drop or cap those steps, since "
            "one spoils all later ones"
        )
    contents = _filled(path, contents, fill)
    if standardise:
        return _standardised(path, contents)
    if np.abs(contents.values).max() > np.finfo(np.float32).max:
        raise Mistake(
            f"{path} holds numbers too large for float32; rescale the data, as --standardise does"
        )
    return _size_noted(path, contents) if say_size else contents


def _first(contents: Contents, which: np.ndarray) -> str:
    """Return the first of some numbers, and where it stands."""
    place = tuple(int(i) for i in np.argwhere(which)[0])
    if not contents.lines:
        return f"{contents.values[place]} at index {place} (from 0)"
    what = "a missing number" if np.isnan(contents.values[place]) else str(contents.values[place])
    return f"{what} in line {contents.lines[place[0]]}, {contents.feature(place[1])}"


# --- missing numbers ------------------------------------------------------------------------------


def _filled(path: Path, contents: Contents, how: str | None) -> Contents:
    """Return no missing numbers: each is the last before it, or the mean of its feature."""
    missing = np.isnan(contents.values)
    if not missing.any():
        return contents
    if how is None:
        total = int(missing.sum())
        raise Mistake(
            f"{path} is not finite: {_first(contents, missing)}, {total} such "
            f"number{'' if total == 1 else 's'} in all; drop or fill them, with --fill forward "
            "(the value before) or --fill mean, since one NaN spoils all later steps"
        )
    empty = np.argwhere(missing.all(0))
    if len(empty):
        feature = contents.feature(int(empty[0][-1]))
        raise Mistake(f"{path} has no value in {feature} to fill the others with; leave it out")
    per_feature = missing.reshape(-1, missing.shape[-1]).sum(0)
    counts = {contents.feature(int(i)): int(per_feature[i]) for i in np.flatnonzero(per_feature)}
    fill, words = (
        (_fill_forward, "the value before") if how == "forward" else (_fill_mean, "the mean")
    )
    said = listed([f"{count} in {name}" for name, count in counts.items()])
    note = f"{path.name}: missing numbers are filled with {words} ({said})"
    if how == "forward" and missing[0].any():
        note += "; at the start, with the first that there is"
    values = fill(contents.values, missing)
    return contents._replace(values=values).noted(note, filled={"how": how, "numbers": counts})


def _fill_forward(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    steps = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    last = np.maximum.accumulate(np.where(missing, -1, steps), axis=0)
    first = np.argmin(missing, axis=0)
    found: np.ndarray = np.take_along_axis(values, np.where(last < 0, first, last), axis=0)
    return found


def _fill_mean(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Fill with the mean over all times and sequences."""
    rows = values.reshape(-1, values.shape[-1])
    size = np.nanmax(np.abs(rows), axis=0)
    size[size == 0] = 1.0  # so that no sum overflows
    return np.where(missing, np.nanmean(rows / size, axis=0) * size, values)


# --- unit size ------------------------------------------------------------------------------------


def _standardised(path: Path, contents: Contents) -> Contents:
    """Return each feature less its mean, divided by its standard deviation, over all times."""
    rows = contents.values.reshape(-1, contents.values.shape[-1])
    size = np.abs(rows).max(0)
    size[size == 0] = 1.0  # so that no square overflows
    scaled = rows / size
    mean, deviation = scaled.mean(0), scaled.std(0)
    constant = deviation <= _ALL_SAME
    values = np.where(constant, 0.0, (scaled - mean) / np.where(constant, 1.0, deviation))
    done = {"mean": mean * size, "deviation": np.where(constant, 0.0, deviation * size)}
    values = values.reshape(contents.values.shape)
    contents = contents._replace(values=values).noted(standardised=done)
    if not constant.any():
        return contents
    names = [contents.feature(int(i)) for i in np.flatnonzero(constant)]
    be = "are constant, and become" if len(names) > 1 else "is constant, and becomes"
    return contents.noted(f"{path.name}: {listed(names)} {be} 0")


def _size_noted(path: Path, contents: Contents) -> Contents:
    """Return the same with a note on features far from unit size, if there are some."""
    largest = np.abs(contents.values).reshape(-1, contents.values.shape[-1]).max(0)
    numbers = np.array([i not in contents.one_hot for i in range(len(largest))])
    for far, verbs, effect in (
        (largest > _FAR, ("reaches", "reach"), "which alone saturates a cell"),
        (
            (largest < 1 / _FAR) & (largest > 0),
            ("stays below", "stay below"),
            "which a cell hardly notices",
        ),
    ):
        chosen = np.flatnonzero(numbers & far)
        if len(chosen):
            names = [contents.feature(int(i)) for i in chosen]
            return contents.noted(
                f"{path.name}: {listed(names)} {verbs[len(names) > 1]} "
                f"{largest[chosen].max():.3g}, far from unit size, {effect}; --standardise brings "
                "each feature to mean 0 and deviation 1"
            )
    return contents
