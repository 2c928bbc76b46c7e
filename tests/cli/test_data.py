"""Real data from files: what is read, and each way it can be wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from recurrax.cli.data import read
from recurrax.cli.mistakes import Mistake


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


@pytest.mark.parametrize("header", ["", "time,value\n"])
def test_csv_with_and_without_header(tmp_path, header):
    path = tmp_path / "xs.csv"
    path.write_text(header + "1,2\n\n3,4.5\n")
    np.testing.assert_array_equal(read(str(path), None, 1).xs[:, 0], [[1, 2], [3, 4.5]])


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
        ("a.csv", "1,2\n3\n", "is ragged: line 2 has 1 column, line 1 has 2"),
        ("a.csv", "1,2\n3,x\n", "line 2, column 2 is 'x', expected a number"),
        ("a.csv", "", "has no rows of numbers"),
        ("a.csv", "time,value\n", "has no rows of numbers"),
        ("a.csv", "1\nnan\n", "is not finite: nan at index (1, 0) (from 0); drop or fill"),
        ("a.csv", "1\n1e300\n", "holds numbers too large for float32"),
        ("a.csv", b"\xff\xfe1", "cannot be read as a table of text in UTF-8"),
        ("a.txt", "", "is empty; give a text file with at least one byte"),
        ("a.npy", "not numpy", "cannot be read as a NumPy file of plain numbers"),
        ("a.npz", "not a zip", "cannot be read as a NumPy file of plain numbers"),
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
    with fails("holds 2 arrays (a, b); name the one to measure xs"):
        read(str(tmp_path / "xs.npz"), None, 1)


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


def test_length_and_batch_out_of_range():
    with fails("--length 65 is longer than digits, which has 64 steps"):
        read("digits", 65, 1)
    with fails("--length must be at least 1, got 0"):
        read("digits", 0, 1)
    with fails("--batch must be at least 1, got -3"):
        read("digits", None, -3)
