"""A run's folder after an editor, a full disk or a careless hand: told, kept, gone on from."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import warnings

import numpy as np
import pytest
from close import says
from train.small import fit, same, without_speed

from recurrax.train.history import History

STEPS = [2, 4, 6, 8]
OPTIONS = {"report_every": 2, "checkpoint_every": 4, "flow_every": 4}
ROWS = [
    {"step": 2, "loss": 0.5, "gradient_norm": math.inf},
    {"step": 4, "loss": 0.25, "gradient_norm": math.nan},
    {"step": 6, "loss": 0.125, "gradient_norm": 3.0, "test_loss": 1.0},
    {"step": 8, "loss": -0.5, "gradient_norm": 4.0},
]
NAMES = ("loss", "gradient_norm")


@pytest.fixture
def whole(tmp_path):
    """The history of `ROWS`, with its file."""
    history = History(tmp_path / "history.jsonl")
    for row in ROWS:
        history.append(row)
    return history


def lines(*places: int) -> str:
    """The rows at these places, as they are written."""
    words = {math.inf: '"inf"', 3.0: "3.0", 4.0: "4.0"}
    texts = []
    for place in places:
        row = ROWS[place]
        norm = words.get(row["gradient_norm"], '"nan"')
        more = ', "test_loss": 1.0' if "test_loss" in row else ""
        start = f'{{"step": {row["step"]}, "loss": {row["loss"]}, "gradient_norm": {norm}'
        texts.append(start + more + "}\n")
    return "".join(texts)


ALL = lines(0, 1, 2, 3)

# By name: what the file holds, what is said of it, and the steps that are lost.
DAMAGE = {
    "cut": (ALL[:120], "row 3 is not that of step 6 as it was written", [6, 8]),
    "ends": (lines(0, 1), "it ends before row 3, that of step 6", [6, 8]),
    "empty": ("", "it ends before row 1, that of step 2", STEPS),
    "doubled": (ALL * 2, "row 5 is none that follows step 8", []),
    "reversed": (lines(3, 2, 1, 0), "row 1 is not that of step 2 as it was written", []),
    "one lacks": (lines(0, 2, 3), "row 2 is not that of step 4 as it was written", [4]),
    "one twice": (lines(0, 1, 1, 2, 3), "row 3 is not that of step 6 as it was written", []),
    "blank lines": (ALL.replace("\n", "\n\n"), "row 2 is not that of step 4", []),
    "a digit": (ALL.replace("0.25", "0.26"), "row 2 is not that of step 4", [4]),
    "strange rows after": (ALL + "x\n", "row 5 is none that follows step 8", []),
    "no step": (ALL.replace('"step": 4, ', ""), "row 2 is not that of step 4", [4]),
    "flag": (ALL.replace('"step": 2', '"step": true'), "row 1 is not that of step 2", [2]),
    "2^63": (ALL.replace('"step": 2', f'"step": {2**63}'), "row 1 is not that of step 2", [2]),
    "digits": (ALL.replace('"step": 2', '"step": ' + "9" * 5000), "row 1 is not", [2]),
    "list": (ALL.replace("0.25", "[1, 2]"), "row 2 is not that of step 4", [4]),
    "flow": (ALL.replace("0.25", '0.25, "flow": {"rate": 1}'), "row 2 is not", [4]),
    "no rows": ("[1]\n2\nnull\n{}\n", "row 1 is not that of step 2", STEPS),
    "deep": ("[" * 100_000, "row 1 is not that of step 2", STEPS),
    "long": ("x" * (1 << 21) + "\n" + ALL, "row 1 is not that of step 2", STEPS),
    "bytes": ("\udcff\0" * 99 + "\n" + ALL, "row 1 is not that of step 2", []),
    "false mark": ('{"step": 2, "lost": [1]}\n' + lines(1, 2, 3), "row 1 is not", [2]),
}


def resumed(path, ledger):
    """A history that goes on from a file, and what was told."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        history = History(path, ledger, NAMES)
    return history, [str(warning.message) for warning in heard]


def check_found(history, lacking):
    """The rows that are not lost are those of the run, the lost ones NaN."""
    found = history.arrays()
    assert found["step"].tolist() == STEPS
    for name in NAMES:
        right = [math.nan if row["step"] in lacking else row[name] for row in ROWS]
        np.testing.assert_array_equal(found[name], right)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_told_and_kept_aside(whole, tmp_path, name):
    path = tmp_path / "history.jsonl"
    text, reason, lacking = DAMAGE[name]
    content = text.encode("utf-8", "surrogateescape")
    path.write_bytes(content)
    history, (said,) = resumed(path, whole.ledger)
    check_found(history, lacking)
    assert said.startswith(f"history {path} is damaged: {reason}")
    assert said.endswith(". The damaged one is kept as history.jsonl.damaged1")
    loss = ", ".join(map(str, lacking)) if lacking else "all 4 rows of the run were found"
    assert loss in said
    assert (tmp_path / "history.jsonl.damaged1").read_bytes() == content
    # It is told once: the file says from now on what it lacks, and the run goes on as ever.
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in written if "lost" in row] == lacking
    history.append({"step": 10, "loss": 1.0})
    again, said = resumed(path, history.ledger)
    assert said == []
    assert same(again.arrays(), history.arrays())
    path.write_text(ALL)  # what was lost may be found again
    check_found(resumed(path, whole.ledger)[0], [])


@pytest.mark.parametrize(
    "text",
    [
        ALL,
        ALL[:-1],
        ALL.replace("\n", "\r\n"),
        ALL.replace(", ", ","),
        ALL + '{"step": 10, "loss": 1.0}\n{"step": 12, "lo',
        ALL + "\0" * 100,
    ],
)
def test_what_a_kill_leaves_and_other_line_ends_are_no_damage(whole, tmp_path, text):
    path = tmp_path / "history.jsonl"
    path.write_bytes(text.encode())
    history, said = resumed(path, whole.ledger)
    assert said == []
    check_found(history, [])
    assert path.read_text() == ALL


def test_each_damaged_file_is_kept(whole, tmp_path):
    for count in (1, 2):
        (tmp_path / "history.jsonl").write_text(f"{count}\n")
        resumed(tmp_path / "history.jsonl", whole.ledger)
        assert (tmp_path / f"history.jsonl.damaged{count}").read_text() == f"{count}\n"


IN_PLACE = {
    "nothing": (lambda path: None, "it is gone"),
    "a folder": (lambda path: path.mkdir(), "it cannot be read: it is a folder"),
    "a pipe": (os.mkfifo, "it cannot be read: it is no file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "it is gone"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "it cannot be read: Too many"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it cannot be read: it is no file"),
}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("part", [".history.jsonl.part", "history.jsonl"])
def test_something_else_in_its_place(whole, tmp_path, name, part):
    """Or in that of the file which takes its place, of which nothing is said."""
    path, (make, reason) = tmp_path / "history.jsonl", IN_PLACE[name]
    path.write_text(ALL + lines(0))
    (tmp_path / part).unlink(missing_ok=True)
    make(tmp_path / part)
    history, (said,) = resumed(path, whole.ledger)
    if part != "history.jsonl":
        assert "row 5 is none that follows step 8; all 4 rows of the run were found" in said
        check_found(history, [])
    else:
        assert said.startswith(f"history {path} is damaged: {reason}")
        assert "4 of 4 rows are lost" in said
        assert "2, 4, 6, 8" in said
        check_found(history, STEPS)
        assert os.path.lexists(tmp_path / "history.jsonl.damaged1") == (name != "nothing")
    assert path.is_file()


def test_many_lost_rows_are_not_all_named(tmp_path):
    history = History(tmp_path / "history.jsonl")
    for step in range(1, 21):
        history.append({"step": step})
    (tmp_path / "history.jsonl").unlink()
    with pytest.warns(
        UserWarning,
        match=r"it is gone; 20 of 20 rows are lost and NaN, of steps 1, 2, 3, 4, \.\.\., 20\Z",
    ):
        History(tmp_path / "history.jsonl", history.ledger)


# --- the whole folder -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of eight steps, and the run of ten that it should become."""
    folder = tmp_path_factory.mktemp("a run, ü")
    fit(8, directory=folder / "run", **OPTIONS)
    return folder / "run", fit(10, **OPTIONS)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run."""
    return shutil.copytree(trained[0], tmp_path / "run")


def cut_history(run):
    path = run / "history.jsonl"
    path.write_bytes(path.read_bytes()[:200])


def in_place(name, make):
    """Something else where a checkpoint, or a part of one, is or would be."""

    def damage(run):
        path = run / "checkpoints" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        make(path)

    return damage


def older_and_cut(run):
    """Then the rows of the checkpoint before are asked for."""
    in_place("00000008", lambda path: path.mkdir())(run)
    cut_history(run)


def strays(run):
    """Of later steps, which may not count as the last few that are kept."""
    for step in (97, 98, 99):
        (run / "checkpoints" / f"{step:08d}").mkdir()


FOLDERS = {
    "history": (cut_history, {"history"}),
    "older checkpoint, cut history": (older_and_cut, {"checkpoint", "history"}),
    "strays of later steps": (strays, {"checkpoint"}),
    "a pipe for a checkpoint": (in_place("00000008", os.mkfifo), {"checkpoint"}),
    "a file for a checkpoint": (in_place("00000008", lambda path: path.touch()), {"checkpoint"}),
    "a pipe in a checkpoint": (in_place("00000008/about/metadata", os.mkfifo), {"checkpoint"}),
    "a huge file in a checkpoint": (
        in_place(
            "00000008/about/metadata", lambda path: (path.touch(), os.truncate(path, 1 << 30))
        ),
        {"checkpoint"},
    ),
    "a file where one will be": (in_place("00000010", lambda path: path.touch()), {"checkpoint"}),
    "a link where one will be": (
        in_place("00000010", lambda path: path.symlink_to("none")),
        {"checkpoint"},
    ),
    "a file like a temporary": (
        in_place("00000010.orbax-checkpoint-tmp", lambda path: path.touch()),
        set(),
    ),
    "no number": (in_place("²", lambda path: path.mkdir()), set()),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_damaged_folder_is_gone_on_from(trained, run, name):
    damage, words = FOLDERS[name]
    damage(run)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = fit(10, directory=run, resume=True, **OPTIONS)
    assert {str(warning.message).split(" ")[0] for warning in heard} == words
    whole = trained[1]
    assert same((found.params, found.opt_state), (whole.params, whole.opt_state))
    assert found.history["step"].tolist() == whole.history["step"].tolist()
    if "history" not in words:
        assert same(without_speed(found.history), without_speed(whole.history))
    known = ~np.isnan(found.history["steps_per_second"])
    np.testing.assert_array_equal(found.history["loss"][known], whole.history["loss"][known])


@pytest.mark.parametrize(
    "make", [lambda path: path.touch(), os.mkfifo, lambda path: path.symlink_to("none")]
)
@pytest.mark.parametrize("resume", [True, False])
def test_no_folder_of_checkpoints(tmp_path, make, resume):
    make(tmp_path / "checkpoints")
    text = (
        f"{tmp_path / 'checkpoints'} must be a folder of checkpoints, but cannot be read as one ("
    )
    with pytest.raises(ValueError, match=re.escape(text)):
        fit(4, directory=tmp_path, resume=resume)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("none")
    for name, nearest in (("file", "file"), ("file/run", "file"), ("link", "link")):
        text = f"directory must be a folder, but {tmp_path / nearest} is a file"
        with says(ValueError, text):
            fit(4, directory=tmp_path / name)


@pytest.mark.parametrize("name", ["run[1]", "a*", "a?", "gs:", "\udcff", "[x]/run"])
def test_a_directory_whose_checkpoints_could_not_be_read_again(tmp_path, name):
    text = (
        "directory must have a path in UTF-8, without any of [ * ? and no part of which ends in a "
        f"colon, so that its checkpoints can be read again; got {str(tmp_path / name)!r}"
    )
    with says(ValueError, text):
        fit(4, directory=tmp_path / name)
