"""Files that a library reads: arrays, sound, parquet, spreadsheets; each in a sentence if not."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from recurrax.cli.console import Mistake, listed
from recurrax.cli.data.contents import Contents, Rows
from recurrax.cli.data.table_cells import written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOW_TO_SAVE = {
    "i": (
        "numbers with xs.astype('float32'), and token ids as one-hot rows, np.eye(vocabulary)[ids]"
    ),
    "b": "xs.astype('float32')",
    "c": "real and imaginary parts as features, np.concatenate([xs.real, xs.imag], -1)",
    "V": "one float array [T, I], such as numpy.lib.recfunctions.structured_to_unstructured(xs)",
    "M": "numbers, such as (xs - xs[0]) / np.timedelta64(1, 'D')",
    "m": "numbers, such as xs / np.timedelta64(1, 's')",
}
_HOW_TO_SAVE["u"] = _HOW_TO_SAVE["i"]


@contextmanager
def _readable(path: Path, as_what: str, needs: str = "", instead: str = "") -> Iterator[None]:
    """Refuse in a sentence what the library that reads a file stumbles over, or its absence."""
    try:
        yield
    except (Mistake, OSError):
        raise
    except ImportError:
        raise Mistake(f"{path} needs {needs}; or save it as .csv") from None
    except Exception:  # zip, XML, a header's own parser: each library has errors of its own
        raise Mistake(f"{path} cannot be read as {as_what}; {instead}") from None


# --- arrays ---------------------------------------------------------------------------------------


def read_array(path: Path, file: IO[Any], name: str | None) -> Contents:
    """Read a `.npy`, or one array of an `.npz`: `xs`, the only one, or the one of that name."""
    with _readable(
        path,
        "a NumPy file of plain numbers",
        instead="write it with np.save(path, xs), xs being one float array [T, I] or [T, B, I]",
    ):
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if name is not None:
                raise Mistake(f"--array {name} is for an .npz; {path} holds one array without name")
            array = loaded
        else:
            with loaded:
                array = np.asarray(loaded[_chosen(path, loaded.files, name)])
    if array.dtype.kind != "f":
        save = _HOW_TO_SAVE.get(array.dtype.kind, "numbers with xs.astype('float32')")
        raise Mistake(f"{path} holds {array.dtype}, expected floating point; save {save}")
    whole = array[:, None] if array.ndim == 1 else array
    if whole.ndim not in (2, 3) or 0 in whole.shape:
        raise Mistake(
            f"{path} has shape {array.shape}, expected [T, I] or [T, B, I] with T, B, I >= 1"
        )
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite: refused later
        return Contents(whole.astype(np.float64))


def _chosen(path: Path, names: list[str], asked: str | None) -> str:
    if asked is None and ("xs" in names or len(names) == 1):
        return "xs" if "xs" in names else names[0]
    there = listed(names, 12)
    if not names:
        raise Mistake(f"{path} holds no array; save one with np.savez(path, xs=xs)")
    if asked is None:
        raise Mistake(f"{path} holds {len(names)} arrays ({there}); name one with --array NAME")
    if asked not in names:
        raise Mistake(f"--array {asked}: {path} has no such array; it holds {there}")
    return asked


# --- sound ----------------------------------------------------------------------------------------


def read_sound(path: Path, file: IO[Any]) -> Contents:
    """Read a `.wav`: one time step a sample between -1 and 1, one feature a channel."""
    from scipy.io import wavfile

    with (
        _readable(
            path,
            "a .wav of plain samples (PCM or float)",
            instead="convert it with an audio program",
        ),
        warnings.catch_warnings(record=True) as seen,
    ):
        warnings.simplefilter("always")
        rate, samples = wavfile.read(file)
    if not samples.size:
        raise Mistake(f"{path} holds no sample; give a .wav with at least one")
    values = samples.astype(np.float64)
    if samples.dtype.kind == "u":  # of 8 bits or fewer, silence is in the middle
        values = (values - 128) / 128
    elif samples.dtype.kind == "i":
        values /= -float(np.iinfo(samples.dtype).min)
    contents = Contents(values if values.ndim == 2 else values[:, None])
    if any("prematurely" in str(warning.message) for warning in seen):
        contents = contents.noted(f"{path.name} ends before its header says; what is there is read")
    return contents.noted(samples_per_second=int(rate))


# --- tables of programs ---------------------------------------------------------------------------


def read_parquet(path: Path, file: IO[Any]) -> list[tuple[str, list[str]]]:
    """Read columns by their names with pyarrow, or else with pandas."""
    with _readable(
        path,
        "a .parquet file",
        needs="pyarrow or pandas to be read: pip install pyarrow",
        instead="write it again",
    ):
        try:
            import pyarrow.parquet

            table = pyarrow.parquet.ParquetFile(file).read()
            values = [column.to_pylist() for column in table.columns]
            columns = list(zip(table.column_names, values, strict=True))
        except ImportError:
            import pandas

            columns = [(str(name), c.tolist()) for name, c in pandas.read_parquet(file).items()]
        return [(name, [_cell(value) for value in values]) for name, values in columns]


def read_sheet(path: Path, file: IO[Any]) -> Rows:
    """Read the first sheet of a workbook."""
    with (
        _readable(
            path,
            "an .xlsx workbook",
            needs="openpyxl to be read: pip install openpyxl",
            instead="save it as one",
        ),
        warnings.catch_warnings(),
    ):
        import openpyxl

        warnings.simplefilter("ignore")  # of styles and such that are no numbers
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        rows = [[_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)]
        titles = [each.title for each in book.worksheets]
    full = [i for i, row in enumerate(rows) if any(row)]
    span = range(full[0], full[-1] + 1) if full else range(0)
    width = max((len(row) for row in rows), default=0)
    notes: tuple[str, ...] = ()
    if len(titles) > 1:
        notes = (f"{path.name}: of {len(titles)} sheets the first is read, {titles[0]!r}",)
    cells = [rows[i] + [""] * (width - len(rows[i])) for i in span]
    return Rows(cells, [i + 1 for i in span], notes=notes)


def _cell(value: Any) -> str:
    """Return a value as a table of text would hold it."""
    if value is None:
        return ""
    if type(value) is float:
        return written(value)
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
