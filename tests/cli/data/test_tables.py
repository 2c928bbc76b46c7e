"""Tables as people have them: each is read right, or refused in a sentence."""

from __future__ import annotations

import re

import numpy as np
import pytest

from recurrax.cli.console import Mistake
from recurrax.cli.data.read import Reading, read

XS = [[1, 2], [3, 4.5]]


def of(tmp_path, content, name="a.csv", **asked):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(str(path), None, 1, Reading(**asked))


def numbers(data):
    return data.xs[:, 0].tolist()


@pytest.mark.parametrize(
    "content",
    [
        "1,2\n3,4.5\n",
        "time,value\r\n1,2\r\n3,4.5\r\n",
        "1,2\r3,4.5",
        "\n\n1,2\n\n3,4.5\n   \n,\n",
        '"a","b"\n"1","2"\n"3","4.5"\n',
        "a,a\n1,2,\n3,4.5,\n",
        "a;b\n1;2\n3;4.5\n",
        "a\tb\n1\t2\n3\t4.5\n",
        "a|b\n1|2\n3|4.5\n",
        "a b\n1   2\n3 4.5\n",
        "# of yesterday\n1,2\n3,4.5\n",
        "[bold]x,:smile:\n1, 2\n3, 4.5\n\x1a",
        "flag,b\n1,2\n3,4.5\n".encode("utf-8-sig"),
        *("größe,b\n1,2\n3,4.5\n".encode(f"utf-{size}") for size in ("16", "16-le", "16-be", "32")),
    ],
)
def test_read_without_a_word(tmp_path, content):
    data = of(tmp_path, content)
    assert (numbers(data), data.notes) == (XS, ())


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("date,a,b\n2020-01-01,1,2\n2020-01-02,3,4.5\n", "column 'date' (dates, such as '2020-01"),
        ("Rome,1,2\nOslo,3,4.5\n", "column 1 (words, such as 'Rome') is left out; --columns NAMES"),
        ('n,a,b\n"Doe; J,",1,2\n"two\nlines",3,4.5\n', "column 'n' (words, such as 'Doe; J,')"),
        ('c,a,b\n"#ff",1,2\n"#fe",3,4.5\n', "column 'c' (words, such as '#ff')"),
        ("a,b,c\n1,2,\n3,4.5,\n", "column 'c' (no values) is left out"),
        ("a_id,a,b\n1_0,1,2\n2_0,3,4.5\n", "column 'a_id' (words, such as '1_0')"),
        ("t;a;b\n12 345 67;1;2\n12 345 68;3;4.5\n", "column 't' (words, such as '12 345 67')"),
        ("t;a;b\n030 123;1;2\n030 124;3;4.5\n", "column 't' (words, such as '030 123')"),
        ("a;b\n1,0;2\n3;4,5\n", "read with a decimal comma, columns set apart by semicolons"),
        ("2020-01-01;1,0;2\n2020-01-02;3,0;4,5\n", "decimal comma"),
        ("rot;1,0;2,0\nblau;3,0;4,5\n", "decimal comma"),
        ("sep=;\na;b\n1;2\n3;4,5\n", "decimal comma"),
        ("größe,b\n1,2\n3,4.5\n".encode("latin-1"), "a.csv is not UTF-8; it is read as Latin-1"),
        ("1,2\n# a pause\n3,4.5\n", "1 line beginning with # left out as comment"),
        ("date,2019,2020\n2020-01-01,1,2\n2020-01-02,3,4.5\n", "line 1 is taken for names"),
    ],
)
def test_what_was_done_is_said(tmp_path, content, note):
    data = of(tmp_path, content)
    assert numbers(data) == XS
    assert any(note in said for said in data.notes), data.notes


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x;y\n1.234,5;2\n2.000.000,25;3\n", [[1234.5, 2], [2000000.25, 3]]),
        ("x;y\n1,5;1.000\n2,25;2.000\n", [[1.5, 1000], [2.25, 2000]]),
        ('x,y\n"1,234.5",2\n"2,000",3\n', [[1234.5, 2], [2000, 3]]),
        ('x,y\n1.125,"1,23,456.5"\n2.250,"2,00,000"\n', [[1.125, 123456.5], [2.25, 200000]]),
        ('x,y\n"1,125","0,5"\n"2,250","1,5"\n', [[1.125, 0.5], [2.25, 1.5]]),
        ('x,rgb\n1.125,"1,2,3"\n2.250,"4,5,6"\n', [[1.125], [2.25]]),
        ("x,y\n1'234.5,2\n2'000,3\n", [[1234.5, 2], [2000, 3]]),
        ('x,y\n"0,125",2\n"0,5","1,250"\n', [[0.125, 2], [0.5, 1.25]]),
        ("x;y\n0,5;0.125\n1,5;0.250\n", [[0.5, 0.125], [1.5, 0.25]]),
        ('x,y,z\nfoo,"10,20",1.250\nbar,a,2.125\nbaz,b,3.500\n', [[1.25], [2.125], [3.5]]),
        ("x;y\n1\u202f234,5;2\n2\u00a0000,0;3\n", [[1234.5, 2], [2000, 3]]),
        ("x,y\n\u22121e3,true\n2E3,FALSE\n", [[-1000, 1], [2000, 0]]),
    ],
)
def test_numbers_as_people_write_them(tmp_path, content, expected):
    assert numbers(of(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("columns", "expected", "names"),
    [
        ("b,1", [[2, 5], [4, 6], [7, 8]], ["column 'b'", "column 'x, y'"]),
        ('"x, y"', [[5], [6], [8]], ["column 'x, y'"]),
        ("day", [[0], [2.5], [1]], ["column 'day' in days"]),
        ("city,b", [[1, 0, 2], [0, 1, 4], [0, 0, 7]], None),
    ],
)
def test_columns_that_are_asked_for(tmp_path, columns, expected, names):
    table = '"x, y",day,city,b\n5,2020-01-01,Rome,2\n6,2020-01-03T12:00,Oslo,4\n8,2020-01-02,NA,7\n'
    data = of(tmp_path, table, columns=columns)
    assert numbers(data) == expected
    assert data.done["columns"] == names or names is None
    assert data.notes == ()


def test_names_in_a_comment(tmp_path):
    assert numbers(of(tmp_path, "# by hand\n# a,b\n1,2\n3,4.5\n", columns="b")) == [[2], [4.5]]


def test_a_tsv_has_tabs_unless_it_has_not(tmp_path):
    assert numbers(of(tmp_path, "1\t2\n3\t4.5\n", "a.tsv")) == XS
    assert numbers(of(tmp_path, "1,2\n3,4.5\n", "a.tsv")) == XS


@pytest.mark.parametrize(
    ("content", "asked", "text"),
    [
        ("1,2\n3\n", {}, "is ragged: line 2 has 1 column, line 1 has 2"),
        ("a,b\n1,2\n3,4,5\n", {}, "is ragged: line 3 has 3 columns, line 1 has 2"),
        ("1,2\n3,x\n", {}, "line 2, column 2 is 'x', expected a number as in most others"),
        ('1.125,"1,234.5"\n2.250,"12,34.5"\n3,"3,000"\n', {}, "column 2 is '12,34.5', expected a"),
        ("", {}, "has no rows of numbers; expected one time step a line"),
        ("\n  \n", {}, "has no rows of numbers"),
        ("time,value\n", {}, "has no rows of numbers, only column 1 (words, such as 'time')"),
        ("1\nnan\n", {}, "is not finite: a missing number in line 2, column 1, 1 such number"),
        ("1\ninf\n", {"fill": "mean"}, "is not finite: inf in line 2, column 1; drop or cap"),
        ("inf\nnan\n", {"fill": "mean"}, "is not finite: inf in line 1, column 1; drop or cap"),
        ("1\n1e300\n", {}, "holds numbers too large for float32; rescale the data, as --standard"),
        (b"\xff\xfe1", {}, "cannot be read as a table of text; it may be a file of another kind"),
        (b"PK\x03\x04\0", {}, "it begins like a zip archive, as .xlsx and .npz are"),
        (b"1,2\n3,\0\n", {}, "cannot be read as a table of text"),
        ("1," + "9" * 200_000, {}, "has no rows of numbers, only column 1 (words, such as"),
        ('a,b\n"1,2\n3,4\n', {}, "is ragged"),
        ("a,a\n1,2\n", {"columns": "a"}, "has that name at 1 and 2; give the number"),
        ("a,b\n1,2\n", {"columns": "c"}, "has no such column; it has the columns 'a' and 'b'"),
        ("1,2\n", {"columns": "3"}, "has no such column; it has 2 columns without names"),
        ("a,b\n1,2\n", {"columns": "a,1"}, "--columns names a column twice: a,1"),
        ("a,b\n1,2\n", {"columns": ","}, "--columns must be names or numbers with commas"),
        ("a,b\n1,\n", {"columns": "b"}, "--columns: column 'b' of "),
        ("a\n" + "".join(f"w{i}\n" for i in range(257)), {"columns": "a"}, "257 different words"),
    ],
)
def test_refused_in_a_sentence(tmp_path, content, asked, text):
    with pytest.raises(Mistake, match=re.escape(text)):
        of(tmp_path, content, **asked)


# --- cleaning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["", "NA", "NaN", "null", "?", "n/a", "-", "None", "#N/A"])
def test_a_missing_cell_is_filled_as_asked(tmp_path, cell):
    table = f"a,b\n1,2\n{cell},4.5\n4,7\n"
    with pytest.raises(Mistake, match=r"line 3, column 'a', 1 such number in all; .* --fill mean"):
        of(tmp_path, table)
    data = of(tmp_path, table, fill="forward")
    assert numbers(data) == [[1, 2], [1, 4.5], [4, 7]]
    assert data.done["filled"] == {"how": "forward", "numbers": {"column 'a'": 1}}
    assert data.notes == (
        "a.csv: missing numbers are filled with the value before (1 in column 'a')",
    )
    assert numbers(of(tmp_path, table, fill="mean"))[1] == [2.5, 4.5]


def test_a_step_without_values_is_a_step(tmp_path):
    assert numbers(of(tmp_path, "1,2\n,\n3,4\n", fill="forward")) == [[1, 2], [1, 2], [3, 4]]
    data = of(tmp_path, "a,b\n,2\n3,4\n", fill="forward")
    assert numbers(data) == [[3, 2], [3, 4]]
    assert "at the start, with the first that there is" in data.notes[0]


def test_sequences_are_filled_each_along_its_time(tmp_path):
    nan = np.nan
    np.save(tmp_path / "xs.npy", np.array([[[1.0], [nan]], [[nan], [3.0]], [[nan], [4.0]]]))
    path = str(tmp_path / "xs.npy")
    forward, mean = (read(path, None, 2, Reading(fill=how)).xs for how in ("forward", "mean"))
    np.testing.assert_array_equal(forward[..., 0], [[1, 3], [1, 3], [1, 4]])
    np.testing.assert_allclose(mean[..., 0], [[1, 8 / 3], [8 / 3, 3], [8 / 3, 4]], rtol=1e-6)
    np.save(path, np.full((2, 1), nan))
    with pytest.raises(Mistake, match="has no value in feature 1 to fill the others with"):
        read(path, None, 1, Reading(fill="mean"))


def test_a_number_far_from_unit_size_is_said_and_standardised(tmp_path):
    table = "a,b,c,d\n1e300,.5,7,2\n-1e300,1,7,3\n"
    data = of(tmp_path, table, standardise=True)
    np.testing.assert_allclose(numbers(data), [[1, -1, 0, -1], [-1, 1, 0, 1]], rtol=1e-6)
    assert data.notes == ("a.csv: column 'c' is constant, and becomes 0",)
    np.testing.assert_allclose(data.done["standardised"]["mean"], [0, 0.75, 7, 2.5])
    (large,) = of(tmp_path, "a,b\n1000,.5\n2000,1\n").notes
    assert large.startswith("a.csv: column 'a' reaches 2e+03, far from unit size, which alone sat")
    assert "--standardise" in large
    (small,) = of(tmp_path, "1e-5,1e-4\n").notes
    assert small.startswith("a.csv: column 1 and column 2 stay below 0.0001, far from unit size")


def test_words_made_one_hot_are_not_far_from_unit_size(tmp_path):
    data = of(tmp_path, "c,a\n" + "x,1\n" * 200 + "y,1\n", columns="c,a")
    assert data.notes == ()
