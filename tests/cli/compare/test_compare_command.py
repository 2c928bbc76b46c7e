"""`recurrax compare` as its user runs it."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from recurrax.cli import run
from recurrax.cli.compare.compare_command import DEFAULTS, EXPERIMENTS, CompareOptions
from recurrax.cli.compare.comparison_table import line, sentence, summary
from recurrax.cli.console import plain
from recurrax.train import Trial
from recurrax.train.presets import CELLS, CURES

SMALL = ["compare", "--length", "8", "--hidden", "4", "--steps", "4", "--report-every", "2"]
SMALL += ["--batch", "4", "--seeds", "2"]


def test_prints_a_table_and_writes_picture_and_numbers(tmp_path, capsys):
    args = [*SMALL, "--cells", "elman,irnn", "--cures", "clip", "--rate", "0.01,irnn=0.002"]
    args += ["--out", str(tmp_path)]
    assert run(args) == 0
    captured = capsys.readouterr()
    for word in ("adding: T = 8", "0.1667", "elman", "irnn", "solved", "0 of 2", "wrote"):
        assert word in captured.out
    assert "irnn, clip: mse" in captured.err
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((tmp_path / "comparison.json").read_text())
    check_shape(document)
    assert [trial["learning_rate"] for trial in document["trials"]] == [0.01, 0.002]
    # Nothing is written over.
    assert run(args) == 2
    words = capsys.readouterr().err
    assert "would be written over; give another --name or --out, or --force" in words
    assert json.loads((tmp_path / "comparison.json").read_text()) == document


def test_a_picture_that_fails_leaves_the_numbers(tmp_path, capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no font")

    monkeypatch.setattr("recurrax.plot.axes._write", broken)
    args = ["--cells", "elman", "--cures", "none", "--out", str(tmp_path)]
    assert run([*SMALL, *args]) == 1
    captured = capsys.readouterr()
    assert captured.out.rstrip().endswith("comparison.json")
    assert "comparison.png cannot be made (RuntimeError: no font)" in captured.err
    assert json.loads((tmp_path / "comparison.json").read_text())["trials"]


def check_shape(document):
    """What a reader of the file relies on."""
    assert list(document) == [
        *("recurrax", "jax", "options", "task", "length", "goal", "baseline", "trials")
    ]
    assert (document["task"], document["length"]) == ("adding", 8)
    assert document["goal"] == ["mse", "<", 0.01]
    assert document["options"]["cells"] == "elman,irnn"
    first = document["trials"][0]
    assert list(first) == [
        *("cell", "cure", "learning_rate", "step", "history", "solved_at", "solved_at_end"),
        *("diverged", "final", "start", "end", "seconds", "summary"),
    ]
    assert first["step"] == [2, 4]
    assert sorted(first["history"]) == ["clip_fraction", "gradient_norm", "loss", "mse"]
    assert np.shape(first["history"]["mse"]) == (2, 2)
    assert np.isnan(np.asarray(first["solved_at"], float)).all()
    assert first["solved_at_end"] == [False, False]
    assert np.shape(first["start"]["rate"]) == np.shape(first["end"]["horizon"]) == (2,)


def test_json_alone_on_standard_output(tmp_path, capsys):
    args = ["--cells", "gru", "--cures", "none", "--out", str(tmp_path), "--json", "--name", "a"]
    assert run([*SMALL, *args]) == 0
    assert json.loads(capsys.readouterr().out)["trials"][0]["cell"] == "gru"
    assert (tmp_path / "a.png").exists()


def trial(lost, metric="mse", values=(0.02, 0.001, 3.0)):
    """Three seeds, of which some have diverged, the last ones; the first two reached the goal."""
    gone = np.arange(3) >= 3 - lost
    loss = np.where(gone, np.nan, values)
    flow = SimpleNamespace(
        rate=np.where(gone, np.nan, [-0.5, -0.25, 1]), horizon=np.where(gone, np.nan, [6, 12, 99])
    )
    return Trial(
        cell="lstm",
        cure="clip",
        learning_rate=0.1,
        step=np.array([5]),
        history={"loss": loss[None], metric: loss[None]},
        solved_at=np.array([5, 5, np.nan]),
        solved_at_end=np.array([False, True, False]),
        diverged=gone,
        final={"loss": loss, metric: loss if metric == "mse" else np.asarray(values)},
        start=flow,
        end=flow,
        seconds=1.0,
    )


MSE, ACCURACY = ("mse", "<", 0.01), ("accuracy", ">", 0.9)


@pytest.mark.parametrize(
    ("found", "goal", "row"),
    [
        (
            trial(0),
            MSE,
            "lstm clip|2 of 3 1 at the end|0.02 0.001 to 3|-0.250 -0.250|12 12",
        ),
        (
            trial(1),
            MSE,
            "lstm clip|2 of 3 1 at the end 1 diverged|0.02 0.001 to diverged|"
            "-0.375 (2 of 3) -0.375 (2 of 3)|9 (2 of 3) 9 (2 of 3)",
        ),
        (
            trial(3),
            MSE,
            "lstm clip|2 of 3 1 at the end 3 diverged|diverged|unknown unknown|unknown unknown",
        ),
        (
            # The outputs of the last seed are NaN, and yet right as often as a guess.
            trial(1, "accuracy", (0.95, 0.8, 0.99)),
            ACCURACY,
            "lstm clip|2 of 3 1 at the end 1 diverged|0.8 diverged to 0.95|0.95|"
            "-0.375 (2 of 3) -0.375 (2 of 3)|9 (2 of 3) 9 (2 of 3)",
        ),
    ],
    ids=["none", "one", "all", "accuracy"],
)
def test_a_seed_that_has_diverged_is_the_worst_and_hides_no_other(found, goal, row):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "|".join(line(found, goal)).replace("\n", " ") == row
        words = sentence(found, goal)
        numbers = json.dumps(plain(summary(found, goal)))
    assert "nan" not in (row + words + numbers).lower()
    assert "solved by 2 of 3, 1 at the end" in words
    assert f'"diverged": {int(found.diverged.sum())}' in numbers


def test_the_numbers_say_what_the_table_says():
    assert summary(trial(1), MSE) == {
        "seeds": 3,
        "solved": 2,
        "solved_at_end": 1,
        "diverged": 1,
        "final": {
            "loss": {"median": 0.02, "range": [0.001, np.inf]},
            "mse": {"median": 0.02, "range": [0.001, np.inf]},
        },
        "start": {"rate": {"median": -0.375, "seeds": 2}, "horizon": {"median": 9, "seeds": 2}},
        "end": {"rate": {"median": -0.375, "seeds": 2}, "horizon": {"median": 9, "seeds": 2}},
    }


def test_a_comparison_in_which_all_diverge(tmp_path, capsys):
    """From the command to the files, without a nan to read."""
    args = ["--cells", "elman-exploding", "--cures", "none", "--out", str(tmp_path)]
    assert run([*SMALL, *args, "--optimizer", "sgd", "--rate", "1e20"]) == 0
    captured = capsys.readouterr()
    assert "2 diverged" in captured.out
    assert "A seed that has diverged counts as the worst." in captured.out
    assert "mse diverged after" in captured.err
    assert "nan" not in captured.out + captured.err
    (found,) = json.loads((tmp_path / "comparison.json").read_text())["trials"]
    assert found["summary"]["diverged"] == 2
    assert found["summary"]["final"]["mse"] == {"median": "inf", "range": ["inf", "inf"]}


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_an_experiment_is_options_of_the_command(name):
    asked = CompareOptions(experiment=name).settled()
    assert set(asked) == set(DEFAULTS)
    assert set(asked["cells"].split(",")) <= {*CELLS, "irnn"}
    assert set(asked["cures"].split(",")) <= set(CURES)
    assert CompareOptions(experiment=name, steps=3).settled() == asked | {"steps": 3}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--task", "ading"], "there is no task 'ading'; did you mean 'adding'?"),
        (["--cells", "lstn"], "cells: there is no cell 'lstn'; did you mean 'lstm'?"),
        (["--cells", "gru,"], "--cells must be names with commas between them, got 'gru,'"),
        (["--cures", "clipp"], "cures: there is no cure 'clipp'; did you mean 'clip'?"),
        (["--experiment", "copyin"], "--experiment: there is no experiment 'copyin'; did you mean"),
        (["--optimizer", "adan"], "--optimizer: there is no optimizer 'adan'; did you mean 'adam'"),
        (["--rate", "fast"], "--rate must be a number, or names with numbers as in"),
        (["--rate", "1,fast"], "--rate must be a number, or names with numbers as in"),
        (["--rate", "1,1"], "--rate says twice what it is for default: 1,1"),
        (["--rate", "1,gru=0"], "learning_rate must be above 0, got 0"),
        (["--rate", "1,rnn=1"], "learning_rate names 'rnn', which is neither a cell nor a pair"),
        (["--steps", "0"], "steps must be a positive integer, got 0"),
        (["--task", "text"], "--task text needs --text FILE, the text to learn from"),
        (["--text", "book.txt"], "--text is for --task text, not for adding"),
        (["--task", "digits", "--length", "9"], "--length does not go with --task digits"),
        (["--name", "a/b"], "--name must be the name of a file without folders, got 'a/b'"),
        (["--seed", "-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
        (
            ["--cells", "gru", "--cures", "detach"],
            "state",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, capsys, args, text):
    assert run(["compare", *args, "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.strip().startswith("recurrax: ")
    assert captured.out == ""
    assert not list(tmp_path.iterdir())
