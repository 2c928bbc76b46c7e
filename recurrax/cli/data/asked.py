"""How a file is to be read, and what was found in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

FILLS = ("forward", "mean")


class Reading(NamedTuple):
    """What the options say of the data."""

    columns: str | None = None  # names or numbers, with commas between
    array: str | None = None  # of an .npz
    fill: str | None = None  # one of FILLS
    standardise: bool = False


class Found(NamedTuple):
    """The numbers of a file, whole."""

    values: np.ndarray  # float64 [T, I] or [T, B, I], NaN where missing; uint8 [T]: bytes of text
    names: tuple[str, ...] = ()  # of the features, as they are said; () without a header
    lines: tuple[int, ...] = ()  # of the file, of each time step; () if it has none
    encoded: frozenset[int] = frozenset()  # features that were made of words
    notes: tuple[str, ...] = ()  # sentences that the user should see
    done: Mapping[str, Any] = {}  # what was dropped, encoded and so on, for JSON

    def feature(self, i: int) -> str:
        """A feature, as it is said."""
        return self.names[i] if self.names else f"{'column' if self.lines else 'feature'} {i + 1}"

    def told(self, *notes: str, **done: Any) -> Found:
        """With more to say."""
        return self._replace(notes=self.notes + notes, done={**self.done, **done})


def listed(words: list[str], most: int = 4) -> str:
    """`a`, `a and b`, `a, b and c`; of many the first few."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
