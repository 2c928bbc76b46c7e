"""What a file holds, and the sequences that are cut from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

# Between the columns of a table that is written as text.
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas", " ": "spaces"}
LONGEST = 256  # steps measured of a file unless --length says otherwise


class Rows(NamedTuple):
    """The cells of a table as they are written, all rows of one length."""

    cells: list[list[str]]
    lines: list[int]  # where each row ends in the file
    separator: str = ""  # between the columns; of a sheet there is none
    names: tuple[str, ...] = ()  # of the columns, from a comment right before the first row
    notes: tuple[str, ...] = ()


class Contents(NamedTuple):
    """The numbers of a file, whole."""

    values: np.ndarray  # float64 [T, I] or [T, B, I], NaN where missing; uint8 [T]: bytes of text
    names: tuple[str, ...] = ()  # of the features, as they are said; () without a header
    lines: tuple[int, ...] = ()  # of the file, of each time step; () if it has none
    one_hot: frozenset[int] = frozenset()  # features that were made of words
    notes: tuple[str, ...] = ()  # sentences that the user should see
    done: Mapping[str, Any] = {}  # what was dropped, encoded and so on, for JSON

    def feature(self, i: int) -> str:
        """Return a feature as it is said."""
        return self.names[i] if self.names else f"{'column' if self.lines else 'feature'} {i + 1}"

    def noted(self, *notes: str, **done: Any) -> Contents:
        """Return the same with more to say."""
        return self._replace(notes=self.notes + notes, done={**self.done, **done})


class Sequences(NamedTuple):
    """What is measured."""

    name: str
    xs: np.ndarray  # float32 [T, B, I]
    whole: int  # how many steps there were to choose from
    notes: tuple[str, ...] = ()  # sentences on how the file was read
    done: Mapping[str, Any] = {}  # the same for JSON
