"""What a file holds: missing numbers filled, what is infinite refused, features of unit size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.cli.console import Mistake, listed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILLS = ("forward", "mean")
_FAR = 10.0  # times larger or smaller than 1
_ALL_SAME = 1e-12  # a deviation below this part of the largest is rounding


class Contents(NamedTuple):
    """The numbers of a file, whole."""

    values: np.ndarray  # float64 [T, I] or [T, B, I], NaN where missing; uint8 [T]: bytes of text
    names: tuple[str, ...] = ()  # of the features, as they are said; () without a header
    lines: tuple[int, ...] = ()  # of the file, of each time step; () if it has none
    one_hot: frozenset[int] = frozenset()  # features that were made of words
    notes: tuple[str, ...] = ()  # sentences that the user should see
    done: Mapping[str, Any] = {}  # what was dropped, encoded and so on, for JSON
    mask: np.ndarray | None = None  # bool, as values without their last axis; None: all is there

    def feature(self, i: int) -> str:
        """Return a feature as it is said."""
        return self.names[i] if self.names else f"{'column' if self.lines else 'feature'} {i + 1}"

    def features(self, which: np.ndarray) -> list[str]:
        """Return the features where a mask `[I]` is true as they are said."""
        return [self.feature(int(i)) for i in np.flatnonzero(which)]

    def rows(self) -> np.ndarray:
        """Return the features of all times and sequences that are there, `[T * B, I]`."""
        rows: np.ndarray = self.values.reshape(-1, self.values.shape[-1])
        return rows if self.mask is None else rows[self.mask.ravel()]

    def hidden(self) -> np.ndarray:
        """Return what is masked, and so is not looked at, to go with `values`."""
        return np.zeros((), bool) if self.mask is None else ~self.mask[..., None]

    def first(self, which: np.ndarray) -> str:
        """Return the first of some numbers, and where it stands."""
        place = tuple(int(i) for i in np.argwhere(which)[0])
        value = self.values[place]
        if not self.lines:
            return f"{value} at index {place} (from 0)"
        what = "a missing number" if np.isnan(value) else str(value)
        return f"{what} in line {self.lines[place[0]]}, {self.feature(place[1])}"

    def noted(self, *notes: str, **done: Any) -> Contents:
        """Return the same with more to say."""
        return self._replace(notes=self.notes + notes, done={**self.done, **done})


def cleaned(
    path: Path, contents: Contents, fill: str | None, standardise: bool, say_size: bool
) -> Contents:
    """Return finite numbers: missing ones filled, or refused, features of unit size if asked.

    With `say_size` those that stay far from unit size are noted.
    """
    infinite = np.isinf(contents.values) & ~contents.hidden()
    if infinite.any():
        raise Mistake(
            f"{path} is not finite: {contents.first(infinite)}; drop or cap those steps, since "
            "one spoils all later ones"
        )
    missing = np.isnan(contents.values) & ~contents.hidden()
    if missing.any():
        contents = _filled(path, contents, missing, fill)
    if standardise:
        return _standardised(path, contents)
    if np.abs(contents.rows()).max() > np.finfo(np.float32).max:
        raise Mistake(
            f"{path} holds numbers too large for float32; rescale the data, as --standardise does"
        )
    largest = np.abs(contents.rows()).max(0)
    numbers = np.array([i not in contents.one_hot for i in range(len(largest))])
    large = numbers & (largest > _FAR)
    small = numbers & (largest < 1 / _FAR) & (largest > 0)
    for chosen, one, several, effect in (
        (large, "reaches", "reach", "which alone saturates a cell"),
        (small, "stays below", "stay below", "which a cell hardly notices"),
    ):
        if say_size and chosen.any():
            names = contents.features(chosen)
            return contents.noted(
                f"{path.name}: {listed(names)} {several if len(names) > 1 else one} "
                f"{largest[chosen].max():.3g}, far from unit size, {effect}; --standardise brings "
                "each feature to mean 0 and deviation 1"
            )
    return contents


def _filled(path: Path, contents: Contents, missing: np.ndarray, how: str | None) -> Contents:
    """Return no missing numbers: each is the last before it, or the mean of its feature."""
    if how is None:
        total = int(missing.sum())
        raise Mistake(
            f"{path} is not finite: {contents.first(missing)}, {total} such "
            f"number{'' if total == 1 else 's'} in all; drop or fill them, with --fill forward "
            "(the value before) or --fill mean, since one NaN spoils all later steps"
        )
    gap = missing | contents.hidden()
    empty = np.argwhere(gap.all(0) & missing.any(0))
    if len(empty):
        feature = contents.feature(int(empty[0][-1]))
        raise Mistake(f"{path} has no value in {feature} to fill the others with; leave it out")
    per_feature = missing.reshape(-1, missing.shape[-1]).sum(0)
    counts = {contents.feature(i): int(count) for i, count in enumerate(per_feature) if count}
    said = listed([f"{count} in {name}" for name, count in counts.items()])
    start = ""
    if how == "forward":
        words = "the value before"
        steps = np.arange(len(missing)).reshape(-1, *[1] * (missing.ndim - 1))
        last = np.maximum.accumulate(np.where(gap, -1, steps), axis=0)
        source = np.where(last < 0, np.argmin(gap, axis=0), last)
        values = np.take_along_axis(contents.values, source, axis=0)
        if (missing & (last < 0)).any():
            start = "; at the start, with the first that there is"
    else:
        words = "the mean"
        rows = contents.rows()
        size = _largest(rows)
        values = np.where(missing, np.nanmean(rows / size, axis=0) * size, contents.values)
    return contents._replace(values=values).noted(
        f"{path.name}: missing numbers are filled with {words} ({said}){start}",
        filled={"how": how, "numbers": counts},
    )


def _largest(rows: np.ndarray) -> np.ndarray:
    """Return the size of each feature, by which rows are divided so that no sum overflows."""
    size: np.ndarray = np.nanmax(np.abs(rows), axis=0)
    return np.where(size == 0, 1.0, size)


def _standardised(path: Path, contents: Contents) -> Contents:
    """Return each feature less its mean, divided by its standard deviation, over all times."""
    rows = contents.rows()
    size = _largest(rows)
    scaled = rows / size
    mean, deviation = scaled.mean(0), scaled.std(0)
    constant = deviation <= _ALL_SAME
    centred = contents.values / size - mean
    values = np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))
    done = {"mean": mean * size, "deviation": np.where(constant, 0.0, deviation * size)}
    contents = contents._replace(values=values)
    notes = []
    if constant.any():
        names = contents.features(constant)
        be = "are constant, and become" if len(names) > 1 else "is constant, and becomes"
        notes = [f"{path.name}: {listed(names)} {be} 0"]
    return contents.noted(*notes, standardised=done)
