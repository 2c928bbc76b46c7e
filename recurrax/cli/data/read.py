"""From the name of a file to its sequences."""

from __future__ import annotations

import gzip
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from recurrax.cli.console import Mistake, as_mistakes, listed
from recurrax.cli.data.contents import FILLS, Contents, cleaned
from recurrax.cli.data.mask import NAMES, mask_in, without_empty
from recurrax.cli.data.table import (
    Rows,
    chosen_columns,
    column_of,
    features_of,
    table_contents,
    written,
)
from recurrax.cli.data.text_table import looks_like_table, read_rows
from recurrax.literal import visible
from recurrax.tasks import digit_sequences
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST = 256  # steps measured of a file unless --length says otherwise
_KINDS = {
    ".npy": "array",
    ".npz": "array",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "sheet",
    ".xlsm": "sheet",
    ".wav": "sound",
    ".wave": "sound",
}
# What an array that holds no floats is saved as, by the kind of its dtype.
_HOW_TO_SAVE = {
    **dict.fromkeys(
        "iu",
        "numbers with xs.astype('float32'), and token ids as one-hot rows, np.eye(vocabulary)[ids]",
    ),
    "b": "xs.astype('float32')",
    "c": "real and imaginary parts as features, np.concatenate([xs.real, xs.imag], -1)",
    "V": "one float array [T, I], such as numpy.lib.recfunctions.structured_to_unstructured(xs)",
    "M": "numbers, such as (xs - xs[0]) / np.timedelta64(1, 'D')",
    "m": "numbers, such as xs / np.timedelta64(1, 's')",
}


class Reading(NamedTuple):
    """What the options say of the data."""

    columns: str | None = None  # names or numbers, with commas between
    array: str | None = None  # of an .npz
    fill: str | None = None  # one of FILLS
    standardise: bool = False


class Sequences(NamedTuple):
    """What is measured."""

    name: str
    xs: np.ndarray  # float32 [T, B, I]
    whole: int  # how many steps there were to choose from
    notes: tuple[str, ...] = ()  # sentences on how the file was read
    done: Mapping[str, Any] = {}  # the same for JSON
    mask: np.ndarray | None = None  # bool [T, B], False where no step is; None: all are

    def first(self, count: int) -> Sequences:
        """Return the same with the first few sequences alone."""
        mask = None if self.mask is None else self.mask[:, :count]
        return self._replace(xs=self.xs[:, :count], mask=mask)


def read(source: str, length: int | None, batch: int, asked: Reading | None = None) -> Sequences:
    """Read `digits` or a file, clean it as asked, and cut it to length and batch.

    Args:
      source: `digits`, or a path, whose ending says how the file is read: a table (`.csv`, `.tsv`,
        `.parquet`, `.xlsx`), arrays (`.npy`, `.npz`), sound (`.wav`), any of them in a `.gz`;
        anything else is text, read as bytes. An `.npz` may hold a `mask` or `lengths` beside it.
      length: time steps, or None for all of them, of a file at most `LONGEST`.
      batch: sequences; of one long sequence, as many windows spread over it.
      asked: which columns or array, and what is filled or rescaled; None: as it is.

    Raises:
      Mistake: if it cannot be read, is ragged, empty, not finite, or shorter than asked.
    """
    for flag, value in (("--length", length), ("--batch", batch)):
        if value is not None and value < 1:
            raise Mistake(f"{flag} must be at least 1, got {value}")
    asked = Reading() if asked is None else asked
    if asked.fill not in (None, *FILLS):
        raise Mistake(f"--fill must be {' or '.join(FILLS)}, got {asked.fill!r}")
    path = Path(source)
    try:
        kind = _kind_of(source, path)
        _check_options(source, kind, asked)
        contents = _contents(path, kind, asked)
    except OSError as error:
        raise Mistake(
            f"{path} cannot be read ({error.strerror or error}); name a file you may read"
        ) from None
    if kind != "text":
        contents = cleaned(path, contents, asked.fill, asked.standardise, kind != "digits")
    name, rows, mask = visible(path.name), contents.values, contents.mask
    whole = rows.shape[0]
    if length is not None and length > whole:
        raise Mistake(f"--length {length} is longer than {name}, which has {steps_of(whole)}")
    steps = min(whole, LONGEST) if length is None else length
    if rows.ndim == 3:
        xs = rows[:steps, :batch]
        mask = None if mask is None else mask[:steps, :batch]
    else:
        starts = np.linspace(0, whole - steps, min(batch, whole // steps)).astype(int)
        xs = np.stack([rows[start : start + steps] for start in starts], 1)
        if mask is not None:
            mask = np.stack([mask[start : start + steps] for start in starts], 1)
    if kind == "text":
        xs = np.eye(256, dtype=np.float32)[xs]
    notes = tuple(map(visible, contents.notes))
    if mask is not None:
        xs, mask, note = without_empty(name, xs, mask)
        contents, notes = contents.noted(steps=mask.sum(0)), (*notes, note)
    return Sequences(name, xs.astype(np.float32), whole, notes, contents.done, mask)


def _kind_of(source: str, path: Path) -> str:
    """Return the kind by the ending of the name, of what is inside for `.gz`; else it is text."""
    if source == "digits":
        return "digits"
    try:
        there = path.exists()
    except ValueError:  # a zero in the name
        there = False
    if not there:
        raise Mistake(
            f"--data {source}: no such file; give digits, or a path to a .csv, .tsv, .npy, .npz, "
            ".parquet, .xlsx, .wav or text file"
        )
    if path.is_dir():
        raise Mistake(f"--data {source} is a folder; name a file in it")
    if not path.is_file():
        raise Mistake(f"--data {source} is a pipe or a device; save what it gives in a file first")
    name = path.name.lower().removesuffix(".gz")
    return _KINDS.get(Path(name).suffix, "text")


def _check_options(source: str, kind: str, asked: Reading) -> None:
    """Refuse an option that means nothing for data of this kind."""
    if asked.array is not None and kind != "array":
        raise Mistake(f"--array is for an .npz of several arrays, not for {source}")
    if kind in ("digits", "text"):
        what = "digits" if kind == "digits" else "text, which is read as bytes"
        for flag, there in (
            ("--columns", asked.columns is not None),
            ("--fill", asked.fill is not None),
            ("--standardise", asked.standardise and kind == "text"),
        ):
            if there:
                raise Mistake(f"{flag} is for files of numbers, not for {what}")


def _contents(path: Path, kind: str, asked: Reading) -> Contents:
    """Return the numbers of a file, as they stand in it."""
    if kind == "digits":
        with as_mistakes(ImportError):
            return Contents(np.asarray(digit_sequences().xs, np.float64))
    with path.open("rb") as raw:
        compressed = path.suffix.lower() == ".gz" and raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = cast("IO[Any]", gzip.GzipFile(fileobj=raw)) if compressed else raw
        if kind in ("text", "table"):
            try:
                content: bytes = file.read()
            except (EOFError, gzip.BadGzipFile, zlib.error):
                raise Mistake(f"{path} is a damaged .gz file; compress the data again") from None
            if kind == "text":
                return _text(path, content)
            return table_contents(path, read_rows(path, content), asked.columns)
        if kind == "sheet":
            return table_contents(path, _sheet(path, file), asked.columns)
        if kind == "parquet":
            columns = [column_of(name, cells) for name, cells in _parquet(path, file)]
            count = len(columns[0].values) if columns else 0
            return features_of(path, columns, list(range(1, count + 1)), asked.columns)
        contents = _array(path, file, asked.array) if kind == "array" else _sound(path, file)
    if asked.columns is None:
        return contents
    chosen = chosen_columns(path, asked.columns, [None] * contents.values.shape[-1])
    names = tuple(f"feature {i + 1}" for i in chosen)
    contents = contents._replace(values=contents.values[..., chosen], names=names)
    return contents.noted(columns=list(names))


@contextmanager
def _readable(path: Path, as_what: str, instead: str, needs: str = "") -> Iterator[None]:
    """Refuse in a sentence what the library that reads a file stumbles over, or its absence."""
    try:
        yield
    except (Mistake, OSError):
        raise
    except ImportError:
        raise Mistake(f"{path} needs {needs}; or save it as .csv") from None
    except Exception:  # zip, XML, a header's own parser: each library has errors of its own
        raise Mistake(f"{path} cannot be read as {as_what}; {instead}") from None


def _text(path: Path, content: bytes) -> Contents:
    """Return any other file as text, each byte a one-hot row of 256; as bytes until it is cut."""
    if not content:
        raise Mistake(f"{path} is empty; give a text file with at least one byte")
    contents = Contents(np.frombuffer(content, np.uint8))
    if b"\0" in content:
        return contents.noted(f"{path.name} holds more than text; each of its bytes is measured")
    if not looks_like_table(content):
        return contents
    return contents.noted(
        f"{path.name} looks like a table of numbers, but by its name it is text, of which each "
        "byte is measured; name it .csv to measure the numbers"
    )


def _array(path: Path, file: IO[Any], name: str | None) -> Contents:
    """Read a `.npy`, or one array of an `.npz`: `xs`, the only one, or the one of that name."""
    instead = "write it with np.save(path, xs), xs being one float array [T, I] or [T, B, I]"
    beside: dict[str, np.ndarray] = {}
    with _readable(path, "a NumPy file of plain numbers", instead):
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if name is not None:
                raise Mistake(f"--array {name} is for an .npz; {path} holds one array without name")
            array = loaded
        else:
            with loaded:
                chosen = _chosen(path, loaded.files, name)
                array = np.asarray(loaded[chosen])
                names = [n for n in NAMES if n in loaded.files and n != chosen]
                beside = {n: np.asarray(loaded[n]) for n in names}
    if array.dtype.kind != "f":
        save = _HOW_TO_SAVE.get(array.dtype.kind, "numbers with xs.astype('float32')")
        raise Mistake(f"{path} holds {array.dtype}, expected floating point; save {save}")
    whole = array[:, None] if array.ndim == 1 else array
    if whole.ndim not in (2, 3) or 0 in whole.shape:
        raise Mistake(
            f"{path} has shape {array.shape}, expected [T, I] or [T, B, I] with T, B, I >= 1"
        )
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite: refused later
        return Contents(whole.astype(np.float64), mask=mask_in(path, beside, whole.shape))


def _chosen(path: Path, names: list[str], asked: str | None) -> str:
    others = [name for name in names if name not in NAMES] or names
    if asked is None and ("xs" in names or len(others) == 1):
        return "xs" if "xs" in names else others[0]
    there = listed(names, 12)
    if not names:
        raise Mistake(f"{path} holds no array; save one with np.savez(path, xs=xs)")
    if asked is None:
        raise Mistake(f"{path} holds {len(names)} arrays ({there}); name one with --array NAME")
    if asked not in names:
        raise Mistake(f"--array {asked}: {path} has no such array; it holds {there}")
    return asked


def _sound(path: Path, file: IO[Any]) -> Contents:
    """Read a `.wav`: one time step a sample between -1 and 1, one feature a channel."""
    from scipy.io import wavfile

    as_what, instead = "a .wav of plain samples (PCM or float)", "convert it with an audio program"
    with _readable(path, as_what, instead), warnings.catch_warnings(record=True) as seen:
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


def _parquet(path: Path, file: IO[Any]) -> list[tuple[str, list[str]]]:
    """Read columns by their names with pyarrow, or else with pandas."""
    needs = "pyarrow or pandas to be read: pip install pyarrow"
    with _readable(path, "a .parquet file", "write it again", needs):
        try:
            import pyarrow.parquet

            table = pyarrow.parquet.ParquetFile(file).read()
            values = [column.to_pylist() for column in table.columns]
            columns = list(zip(table.column_names, values, strict=True))
        except ImportError:
            import pandas

            columns = [(str(name), c.tolist()) for name, c in pandas.read_parquet(file).items()]
        return [(name, [_cell(value) for value in values]) for name, values in columns]


def _sheet(path: Path, file: IO[Any]) -> Rows:
    """Read the first sheet of a workbook."""
    needs = "openpyxl to be read: pip install openpyxl"
    with _readable(path, "an .xlsx workbook", "save it as one", needs), warnings.catch_warnings():
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
