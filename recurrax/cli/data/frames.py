"""Tables of programs: parquet files and spreadsheets, where a package that reads them is there."""

from __future__ import annotations

import warnings
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from recurrax.cli.data.cells import written
from recurrax.cli.data.table import Column, column_of
from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path


def read_parquet(path: Path, file: IO[Any]) -> list[Column]:
    """Columns by pyarrow, or else by pandas."""
    try:
        try:
            import pyarrow.parquet

            table = pyarrow.parquet.ParquetFile(file).read()
            names, columns = table.column_names, table.columns
        except ImportError:
            import pandas

            frame = pandas.read_parquet(file)
            names = [str(name) for name in frame.columns]
            columns = [frame.iloc[:, i] for i in range(len(names))]
    except ImportError:
        raise Mistake(
            f"{path} needs pyarrow or pandas to be read: pip install pyarrow; or save it as .csv"
        ) from None
    except OSError:
        raise
    except Exception:  # each package has errors of its own
        raise Mistake(f"{path} cannot be read as a .parquet file; write it again") from None
    return [_column(name, column) for name, column in zip(names, columns, strict=True)]


def _column(name: str, column: Any) -> Column:
    """Numbers as they are, anything else by how it is written."""
    objects = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
    if all(value is None or type(value) in (int, float) for value in objects):
        values = np.array([np.nan if value is None else value for value in objects], np.float64)
        kind = "nothing" if np.isnan(values).all() else "numbers"
        return Column(name, kind, values, [])
    return column_of(name, [_written(value) for value in objects])


def read_sheet(path: Path, file: IO[Any]) -> tuple[list[list[str]], list[int], tuple[str, ...]]:
    """The rows of the first sheet of a workbook, their numbers in it, and what to say of it."""
    try:
        import openpyxl
    except ImportError:
        raise Mistake(
            f"{path} needs openpyxl to be read: pip install openpyxl; or save it as .csv"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and such that are no numbers
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            rows = [[_written(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
            titles = [each.title for each in book.worksheets]
    except OSError:
        raise
    except Exception:  # zip, XML and the package's own
        raise Mistake(f"{path} cannot be read as an .xlsx workbook; save it as one") from None
    full = [i for i, row in enumerate(rows) if any(row)] or [0]
    width = max((len(row) for row in rows), default=0)
    rows = [row + [""] * (width - len(row)) for row in rows]
    notes: tuple[str, ...] = ()
    if len(titles) > 1:
        notes = (f"{path.name}: of {len(titles)} sheets the first is read, {titles[0]!r}",)
    span = range(full[0], full[-1] + 1) if rows else range(0)
    return [rows[i] for i in span], [i + 1 for i in span], notes


def _written(value: Any) -> str:
    """A cell as a table of text would hold it."""
    if value is None:
        return ""
    if type(value) is float:
        return written(value)
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
