"""Files of programs: spreadsheets and parquet, where a reader is installed, and sound."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
import pytest

from recurrax.cli.console import Mistake
from recurrax.cli.data.read import Reading, read


@pytest.fixture
def sheet(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in ([None], ["city", "a", "flag"], ["Rome", 1, True], ["Oslo", 4.5, False]):
        book.active.append(row)
    book.create_sheet("other")
    book.save(tmp_path / "a.xlsx")
    return str(tmp_path / "a.xlsx")


def test_a_sheet(sheet):
    data = read(sheet, None, 1)
    assert data.xs[:, 0].tolist() == [[1, 1], [4.5, 0]]
    assert data.notes == (
        "a.xlsx: of 2 sheets the first is read, 'Sheet'",
        "a.xlsx: column 'city' (words, such as 'Rome') is left out; --columns NAMES encodes it",
    )
    assert read(sheet, None, 1, Reading(columns="city")).xs[:, 0].tolist() == [[1, 0], [0, 1]]


def test_numbers_of_a_sheet_are_no_texts(tmp_path):
    """Beside texts with decimal commas 1.234 stays what it is."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["0,5", 1.25, 1.234], ["1,5", 3, 2.345]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    data = read(str(tmp_path / "a.xlsx"), None, 1)
    np.testing.assert_allclose(data.xs[:, 0], [[0.5, 1.25, 1.234], [1.5, 3, 2.345]], rtol=1e-6)


def test_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"city": ["Rome", "Oslo"], "a": [1, None], "b": [0.5, 2.0], "flag": [True, False]}
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
    with pytest.raises(Mistake, match="a missing number in line 2, column 'a'"):
        read(str(tmp_path / "a.parquet"), None, 1)
    data = read(str(tmp_path / "a.parquet"), None, 1, Reading(fill="mean"))
    assert data.xs[:, 0].tolist() == [[1, 0.5, 1], [1, 2, 0]]
    assert data.done["dropped"] == ["city"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.parquet", "needs pyarrow or pandas to be read: pip install pyarrow; or save it as"),
        ("a.xlsx", "needs openpyxl to be read: pip install openpyxl; or save it as .csv"),
    ],
)
def test_a_reader_that_is_not_installed_is_named(tmp_path, monkeypatch, name, text):
    for module in ("pyarrow", "pyarrow.parquet", "pandas", "openpyxl"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(Mistake, match=re.escape(text)):
        read(str(tmp_path / name), None, 1)


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx", "a.wav"])
def test_what_is_not_what_its_name_says(tmp_path, name):
    pytest.importorskip({"a.parquet": "pyarrow", "a.xlsx": "openpyxl"}.get(name, "scipy"))
    for content in (b"", b"1,2\n", b"PK\x03\x04zz", b"RIFF no", b"PAR1 no"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Mistake, match="cannot be read as a"):
            read(str(tmp_path / name), None, 1)


# --- sound ----------------------------------------------------------------------------------------

WAVE = np.array([[0, 0.5], [-1, 0.25]])


def wav(samples) -> bytes:
    wavfile = pytest.importorskip("scipy.io.wavfile")
    buffer = io.BytesIO()
    wavfile.write(buffer, 8000, samples)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "samples",
    [
        (WAVE * 2**15).astype(np.int16),
        (WAVE * 2**31).astype(np.int32),
        (WAVE * 128 + 128).astype(np.uint8),
        WAVE.astype(np.float32),
        WAVE,
    ],
)
def test_sound_is_scaled_to_unit_range(tmp_path, samples):
    (tmp_path / "a.wav").write_bytes(wav(samples))
    data = read(str(tmp_path / "a.wav"), None, 1)
    np.testing.assert_array_equal(data.xs[:, 0], WAVE)
    assert dict(data.done) == {"samples_per_second": 8000}


def test_one_channel_and_a_file_cut_short(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav((WAVE[:, 1] * 2**15).astype(np.int16))[:-2])
    data = read(str(tmp_path / "a.wav"), None, 1)
    assert data.xs[:, 0].tolist() == [[0.5]]
    assert data.notes == ("a.wav ends before its header says; what is there is read",)
    (tmp_path / "b.wav").write_bytes(wav(np.zeros(0, np.int16)))
    with pytest.raises(Mistake, match="holds no sample"):
        read(str(tmp_path / "b.wav"), None, 1)
