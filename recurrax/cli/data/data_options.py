"""Which data are measured: the options of every command that reads a file."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from recurrax.cli.console import Mistake
from recurrax.cli.data.read import Reading, Sequences, read
from recurrax.cli.options import arg, flag_of, integer


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The data, and how they are read, cleaned and cut."""

    data: Annotated[str | None, arg("DATA", "digits")] = "digits"
    """digits (scikit-learn's, pixel by pixel), or a path to a table, one time step a row (.csv, .tsv, .xlsx, .parquet), to an array [T, I] or [T, B, I] (.npy, .npz; beside it in the .npz mask, bool [T, B], or lengths, ints [B]), to sound (.wav, one feature a channel), or to any text file (read as bytes, one-hot); each may be a .gz."""  # noqa: E501
    columns: Annotated[str | None, arg("NAMES", "all that hold numbers")] = None
    """Columns of a table to measure, by name or by number from 1, comma-separated; words among them become one-hot, dates days since the first."""  # noqa: E501
    array: Annotated[str | None, arg("NAME", "xs, or the only one")] = None
    """Array of an .npz to measure."""
    fill: Annotated[str | None, arg("HOW", "missing numbers are refused")] = None
    """forward (the value before, at the start the first there is) or mean (of the whole column): what stands for a missing number, such as an empty cell, NA, nan, null or ?."""  # noqa: E501
    standardise: bool = False
    """Subtract each feature's mean over the whole file, and divide by its standard deviation."""
    length: Annotated[int | None, arg("INT", "all; of a file at most 256"), integer("--length")] = (
        None
    )
    """Time steps T to measure."""
    batch: Annotated[int, integer("--batch")] = 16
    """Sequences B to measure; one long sequence is cut into as many windows."""

    def refuse_without_data(self) -> None:
        """Refuse options that are about the data where there are none."""
        for name in ("columns", "array", "fill", "standardise"):
            if getattr(self, name):
                raise Mistake(f"{flag_of(name)} is about the data: name them with --data")

    def sequences(self) -> Sequences:
        """Return the sequences that are asked for."""
        asked = Reading(self.columns, self.array, self.fill, self.standardise)
        return read(self.data or "digits", self.length, self.batch, asked)
