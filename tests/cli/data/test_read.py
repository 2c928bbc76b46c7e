"""Real data from files: what is read, and each way it can be wrong."""

from __future__ import annotations

import gzip
import os
import re

import numpy as np
import pytest

from recurrax.cli.console import Mistake
from recurrax.cli.data.read import Reading, read


def fails(text: str):
    return pytest.raises(Mistake, match=re.escape(text))


def test_digits_are_the_first_sequences_whole():
    data = read("digits", None, 5)
    assert data.xs.shape == (64, 5, 1)
    assert data.whole == 64


def test_array_of_sequences_is_cut_to_length_and_batch(tmp_path):
    xs = np.random.default_rng(0).normal(size=(20, 6, 3))
    np.save(tmp_path / "xs.npy", xs)
    data = read(str(tmp_path / "xs.npy"), 7, 4)
    np.testing.assert_array_equal(data.xs, xs[:7, :4].astype(np.float32))


def test_one_long_sequence_is_cut_into_windows_from_first_to_last(tmp_path):
    xs = np.arange(100.0)[:, None]
    np.savez(tmp_path / "xs.npz", xs=xs, other=np.ones(3))
    data = read(str(tmp_path / "xs.npz"), 10, 4)
    assert data.xs.shape == (10, 4, 1)
    np.testing.assert_array_equal(data.xs[:, 0, 0], np.arange(10))
    np.testing.assert_array_equal(data.xs[:, -1, 0], np.arange(90, 100))


def test_a_series_without_features_has_one(tmp_path):
    np.save(tmp_path / "xs.npy", np.ones(300, np.float32))
    data = read(str(tmp_path / "xs.npy"), None, 16)
    assert data.xs.shape == (256, 1, 1)
    assert data.whole == 300


def test_text_is_read_as_one_hot_bytes(tmp_path):
    path = tmp_path / "story.txt"
    path.write_bytes("aé".encode())
    xs = read(str(path), None, 1).xs
    assert xs.shape == (3, 1, 256)
    np.testing.assert_array_equal(xs[:, 0].argmax(-1), list("aé".encode()))
    np.testing.assert_array_equal(xs.sum(-1), 1)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", "", "is empty; give a text file with at least one byte"),
        ("a.npy", "not numpy", "cannot be read as a NumPy file of plain numbers"),
        ("a.npz", "not a zip", "cannot be read as a NumPy file of plain numbers"),
        ("a.csv.gz", b"\x1f\x8b\x08", "is a damaged .gz file; compress the data again"),
    ],
)
def test_bad_file(tmp_path, name, content, text):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with fails(text):
        read(str(path), None, 1)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.ones((5, 2), int), "holds int64, expected floating point; save numbers with"),
        (np.ones(3, bool), "holds bool, expected floating point; save xs.astype('float32')"),
        (np.ones(3, complex), "save real and imaginary parts as features, np.concatenate([xs.real"),
        (np.zeros(3, [("a", "f4")]), "structured_to_unstructured(xs)"),
        (np.zeros(3, "M8[D]"), "save numbers, such as (xs - xs[0]) / np.timedelta64(1, 'D')"),
        (np.float64(1.5), "has shape (), expected [T, I] or [T, B, I]"),
        (np.array(["a", "b"]), "expected floating point"),
        (np.array([{}, None], object), "cannot be read as a NumPy file of plain numbers"),
        (np.ones((2, 2, 2, 2)), "has shape (2, 2, 2, 2), expected [T, I] or [T, B, I]"),
        (np.ones((0, 3)), "has shape (0, 3), expected [T, I] or [T, B, I]"),
        (np.full((3, 1), np.inf), "is not finite: inf at index (0, 0)"),
    ],
)
def test_bad_array(tmp_path, array, text):
    np.save(tmp_path / "xs.npy", array, allow_pickle=True)
    with fails(text):
        read(str(tmp_path / "xs.npy"), None, 1)


def test_several_arrays_without_xs(tmp_path):
    np.savez(tmp_path / "xs.npz", a=np.ones(3), b=np.ones(3))
    with fails("holds 2 arrays (a and b); name one with --array NAME"):
        read(str(tmp_path / "xs.npz"), None, 1)
    with fails("--array c: "):
        read(str(tmp_path / "xs.npz"), None, 1, Reading(array="c"))
    assert read(str(tmp_path / "xs.npz"), None, 1, Reading(array="b")).whole == 3


@pytest.mark.parametrize("dtype", ["f2", ">f4", "<f8", "g"])
def test_floats_of_any_size_and_order(tmp_path, dtype):
    xs = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "xs.npy", xs.astype(dtype))
    np.testing.assert_array_equal(read(str(tmp_path / "xs.npy"), None, 1).xs[:, 0], xs)


def test_features_of_an_array_by_number(tmp_path):
    np.save(tmp_path / "xs.npy", np.arange(6.0).reshape(2, 3))
    data = read(str(tmp_path / "xs.npy"), None, 1, Reading(columns="3,1"))
    np.testing.assert_array_equal(data.xs[:, 0], [[2, 0], [5, 3]])
    with fails("--columns 4: "):
        read(str(tmp_path / "xs.npy"), None, 1, Reading(columns="4"))


def test_damaged_compressed_file(tmp_path):
    path = tmp_path / "xs.npz"
    np.savez_compressed(path, xs=np.random.default_rng(0).normal(size=(200, 3)))
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(bytes(content))
    with fails("cannot be read as a NumPy file of plain numbers"):
        read(str(path), None, 1)


def test_no_such_file_and_a_folder(tmp_path):
    with fails("no such file; give digits, or a path to"):
        read(str(tmp_path / "nothing.csv"), None, 1)
    with fails("is a folder; name a file in it"):
        read(str(tmp_path), None, 1)
    with fails("cannot be read (File name too long); name a file you may read"):
        read("x" * 5000, None, 1)
    with fails("no such file"):
        read("a\0b.csv", None, 1)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "xs.csv")
    with fails("is a pipe or a device; save what it gives in a file first"):
        read(str(tmp_path / "xs.csv"), None, 1)


@pytest.mark.parametrize(
    ("source", "asked", "text"),
    [
        ("digits", {"fill": "mean"}, "--fill is for files of numbers, not for digits"),
        ("a.txt", {"columns": "1"}, "--columns is for files of numbers, not for text, which is"),
        ("a.txt", {"standardise": True}, "--standardise is for files of numbers, not for text"),
        ("a.txt", {"array": "x"}, "--array is for an .npz of several arrays, not for a.txt"),
        ("digits", {"fill": "zero"}, "--fill must be forward or mean, got 'zero'"),
    ],
)
def test_options_that_do_not_go_with_the_data(tmp_path, monkeypatch, source, asked, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with fails(text):
        read(source, None, 1, Reading(**asked))


def test_what_gzip_has_made_small(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"1,2\n3,4.5\n"))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"ab"))
    np.testing.assert_array_equal(
        read(str(tmp_path / "a.csv.gz"), None, 1).xs[:, 0], [[1, 2], [3, 4.5]]
    )
    assert read(str(tmp_path / "a.txt.gz"), None, 1).xs[:, 0].argmax(-1).tolist() == [97, 98]


def test_bytes_that_are_no_text_are_said(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"a\0")
    (note,) = read(str(tmp_path / "a.mat"), None, 1).notes
    assert note == "a.mat holds more than text; each of its bytes is measured"


@pytest.mark.parametrize(
    ("content", "table"),
    [
        ("time,value\n0,1\n1,2.5\n", True),
        ("# of yesterday\r\n1 -2e3\r\n\r\n3 4.5\r\n", True),
        ("2020-01-01;1,5\n2020-01-02;2,5\n", True),
        ("one, two\nbuckle my shoe\n", False),
        ("chapter\n1\nIt was 1984.\n", False),
        ("12", False),
    ],
)
def test_a_table_that_is_named_like_a_text_is_said(tmp_path, content, table):
    (tmp_path / "a.txt").write_bytes(content.encode())
    data = read(str(tmp_path / "a.txt"), None, 1)
    assert data.xs.shape == (len(content), 1, 256)
    said = "a.txt looks like a table of numbers, but by its name it is text, of which each byte"
    assert [note.startswith(said) for note in data.notes] == [True] * table


def test_length_and_batch_out_of_range():
    with fails("--length 65 is longer than digits, which has 64 steps"):
        read("digits", 65, 1)
    with fails("--length must be at least 1, got 0"):
        read("digits", 0, 1)
    with fails("--batch must be at least 1, got -3"):
        read("digits", None, -3)
