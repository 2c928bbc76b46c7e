"""`recurrax advise` as its user runs it."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import recurrax as rx
from recurrax.cli import run

SMALL = ["--cell", "elman", "--hidden", "4", "--seeds", "2", "--cures", "critical,chrono"]


@pytest.fixture(scope="module")
def advised(tmp_path_factory):
    """The folder of one run that proves on a short task, and the same asked of the library."""
    folder = tmp_path_factory.mktemp("advised")
    budget = ["--prove", "--steps", "20", "--train-batch", "8"]
    args = ["advise", "--task", "adding", "--horizon", "16", *SMALL, *budget, "--out", str(folder)]
    assert run(args) == 0
    return folder, args


def test_numbers_are_those_of_the_library(advised):
    folder, _ = advised
    document = json.loads((folder / "advice.json").read_text())
    found = rx.advise(
        rx.cells.elman(2, 4),
        rx.tasks.adding(16),
        horizon=16,
        key=jax.random.key(0),
        seeds=2,
        cures=["critical", "chrono"],
    )
    assert [option["name"] for option in document["starts"]] == [
        option.candidate.name for option in found.options
    ]
    for told, option in zip(document["starts"], found.options, strict=True):
        assert float(told["distance"]) == pytest.approx(option.distance, rel=1e-3, abs=1e-3)
    assert document["proof"]["goal"] == ["mse", "<", 0.01]
    assert sum("trial" in option for option in document["starts"]) == 2
    assert document["starts"][0]["code"] == found.best.candidate.code


def test_what_is_printed_holds_the_table_the_verdict_and_the_code(advised, capsys):
    folder, args = advised
    assert run(args) == 0
    printed = capsys.readouterr().out
    document = json.loads((folder / "advice.json").read_text())
    for option in document["starts"]:
        assert option["name"].split()[0] in printed
    assert document["verdict"] in printed
    for line in document["starts"][0]["code"].splitlines():
        assert line in printed
    assert "a level to clip gradients at" in printed
    assert (folder / "advice.png").stat().st_size > 20_000


def test_data_of_ones_own(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 4, 3)))
    args = ["advise", "--data", str(tmp_path / "x.npy"), *SMALL, "--out", str(tmp_path), "--json"]
    assert run(args) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["wanted"] == 20
    assert "proof" not in document or document["proof"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--horizon", "0"], "horizon must be from 1"),
        (["--length", "20", "--horizon", "30"], "Give longer sequences"),
        (["--horizon", "far"], "--horizon must be a number, got 'far'"),
        (["--task", "addin"], "adding"),
        (["--cell", "lstn"], "lstm"),
        (["--cures", "chrona"], "chrono"),
        (["--hidden", "0"], "hidden_size"),
        (["--task", "adding", "--data", "digits"], "exclude each other"),
        (["--data", "digits", "--prove"], "nothing of what is to be learnt"),
        (["--fill", "mean"], "--fill is about the data: name them with --data"),
        (["--seeds", "0"], "seeds"),
        (["--data", "nowhere.npy"], "nowhere.npy"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, tmp_path, capsys):
    assert run(["advise", *words, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err.strip()
    assert sentence in told
    assert len(told.splitlines()) == 1


def test_data_that_are_not_finite_or_ragged(tmp_path, capsys):
    xs = np.ones((9, 2, 2))
    xs[3, 1, 0] = np.nan
    np.save(tmp_path / "nan.npy", xs)
    np.savez(tmp_path / "ragged.npz", xs=np.ones((9, 2, 2)), lengths=[9, 4])
    for name, sentence in {"nan.npy": "nan", "ragged.npz": "different lengths"}.items():
        assert run(["advise", "--data", str(tmp_path / name), "--out", str(tmp_path)]) == 2
        assert sentence in capsys.readouterr().err
