"""`recurrax train` as its user runs it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import recurrax as rx
from recurrax.cli import run
from recurrax.cli.train.train_command import TrainOptions
from recurrax.cli.train.training_setup import CELLS, initialisers_for, training_setup

TINY = ["--length", "8", "--hidden", "4", "--batch", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of one run of twenty steps."""
    folder = tmp_path_factory.mktemp("train") / "run"
    args = [*TINY, "--clip", "0.5", "--init", "chrono", "--flow-every", "10", "--steps", "20"]
    assert run(["train", *args, "--out", str(folder)]) == 0
    return folder


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- a run ----------------------------------------------------------------------------------------


def test_what_a_run_leaves(trained):
    found = report(trained)
    assert (found["step"], found["solved"]) == (20, False)
    assert found["baseline"]["mse"] == pytest.approx(1 / 6)
    assert found["goal"] == {"metric": "mse", "is": "<", "value": 0.01}
    assert set(found["history"]) >= {"loss", "mse", "gradient_norm", "clip_fraction"}
    assert found["options"]["clip"] == 0.5
    assert (trained / "training.png").read_bytes().startswith(b"\x89PNG")
    assert len((trained / "history.jsonl").read_text().splitlines()) == 20
    assert not list(trained.glob(".*"))


def test_a_picture_that_fails_leaves_the_numbers(tmp_path, capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no font")

    with monkeypatch.context() as patch:
        patch.setattr("recurrax.plot.axes._write", broken)
        args = ["train", *TINY, "--steps", "2", "--no-progress", "--out", str(tmp_path / "run")]
        assert run(args) == 1
    captured = capsys.readouterr()
    assert "training.png cannot be made (RuntimeError: no font)" in captured.err
    assert "training.png" not in captured.out
    assert report(tmp_path / "run")["step"] == 2
    # The same run can be drawn once the fault is mended.
    assert run(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "training.png").exists()


def test_weights_are_those_before_and_after_and_the_flow_is_theirs(trained):
    cell, before = rx.interop.load(trained / "before.npz")
    _, after = rx.interop.load(trained / "after.npz")
    assert np.abs(before.w_rec - after.w_rec).max() > 1e-3
    xs = np.load(trained / "xs.npy")
    assert xs.shape == (8, 8, 2)
    for params, name in ((before, "start"), (after, "end")):
        decay = rx.flow.decay(cell, params, cell.initial_state(params, (8,)), xs)
        flow = report(trained)["gradient_flow"][name]
        np.testing.assert_allclose(flow["log_norm"], decay.log_norm, rtol=1e-5, atol=1e-5)


def test_the_network_with_its_readout_can_be_loaded(trained):
    network = rx.train.network(rx.cells.lstm(2, 4), 1)
    _, params = rx.interop.load(trained / "network.npz", network)
    _, cell_params = rx.interop.load(trained / "after.npz")
    np.testing.assert_array_equal(params.cell.w_rec, cell_params.w_rec)


def test_flow_compares_before_and_after(trained, tmp_path, capsys):
    files = [str(trained / name) for name in ("before.npz", "after.npz", "xs.npy")]
    args = ["--compare", *files[:2], "--data", files[2], "--out", str(tmp_path)]
    assert run(["flow", *args]) == 0
    assert "from before to after: the rate" in capsys.readouterr().out
    cells = json.loads((tmp_path / "gradient_flow.json").read_text())["cells"]
    flows = report(trained)["gradient_flow"]
    assert cells["before"]["rate"] == pytest.approx(flows["start"]["rate"], rel=1e-4)
    assert cells["after"]["rate"] == pytest.approx(flows["end"]["rate"], rel=1e-4)


# --- going on -------------------------------------------------------------------------------------


def test_a_run_that_goes_on_is_the_run_that_was_not_stopped(trained, tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--clip", "0.5", "--init", "chrono", "--flow-every", "10", "--steps", "10"]
    assert run(["train", *TINY, *options, "--out", str(folder)]) == 0
    assert run(["train", "--resume", "--out", str(folder), "--steps", "20", "--hidden", "4"]) == 0
    printed = capsys.readouterr().out
    assert "not solved in 20 steps; the goal is mse < 0.01." in printed
    _, params = rx.interop.load(folder / "network.npz", rx.train.network(rx.cells.lstm(2, 4), 1))
    _, whole = rx.interop.load(trained / "network.npz", rx.train.network(rx.cells.lstm(2, 4), 1))
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert report(folder)["options"] == report(trained)["options"]


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    folder, usual = tmp_path / "my run", rx.train.fit

    def pressed(*args, steps, **options):
        """What Ctrl-C after ten steps does."""
        raise rx.train.Interrupted("stopped", usual(*args, steps=10, **options))

    monkeypatch.setattr("recurrax.cli.train.train_command.fit", pressed)
    options = ["--steps", "20", "--no-progress", "--out", str(folder)]
    assert run(["train", *TINY, *options]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"recurrax: stopped after 10 of 20 steps; they are saved in {folder}. To go on:\n"
        f"  recurrax train --resume --out '{folder}' --no-progress\n"
    )
    assert (folder / "training.png").exists()
    assert not (folder / "after.npz").exists()
    monkeypatch.undo()
    assert run(["train", "--resume", "--out", str(folder)]) == 0
    assert report(folder)["step"] == 20


def test_ctrl_c_before_the_first_step(tmp_path, capsys, monkeypatch):
    def pressed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(rx.interop, "save", pressed)
    assert run(["train", *TINY, "--out", str(tmp_path / "a")]) == 130
    assert capsys.readouterr().err == (
        f"recurrax: stopped; what was saved before is in {tmp_path / 'a'}. To go on:\n"
        f"  recurrax train --resume --out {shlex.quote(str(tmp_path / 'a'))}\n"
    )
    monkeypatch.setattr("recurrax.cli.train.train_command.training_setup", pressed)
    assert run(["train", *TINY, "--out", str(tmp_path / "b")]) == 130
    assert capsys.readouterr().err == (
        "recurrax: stopped before the run began; nothing was written\n"
    )
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--cell", "gru"], "--cell gru contradicts the run in {}, which has --cell lstm; leave"),
        (["--text", "x"], "--text {cwd}/x contradicts the run in {}, which has no --text; leave"),
        (["--seed", "1"], "--seed 1 contradicts the run in {}, which has --seed 0; leave it out"),
        (["--steps", "9"], "--steps 9 is fewer than the 20 of the run in {}; leave it out"),
    ],
)
def test_what_contradicts_the_run(trained, capsys, args, text):
    assert run(["train", "--resume", "--out", str(trained), *args]) == 2
    said = capsys.readouterr().err
    assert said.startswith("recurrax: " + text.format(trained, cwd=Path.cwd()))
    assert said.count("\n") == 1


def test_a_folder_with_a_run_is_not_written_over(trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert run(["train", *TINY, "--out", str(trained)]) == 2
    assert "holds a run already: --resume goes on with it, another folder begins anew; nothing" in (
        capsys.readouterr().err
    )
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_folder_with_other_results_is_not_written_over(tmp_path, capsys):
    (tmp_path / "report.json").write_text("mine")
    assert run(["train", *TINY, "--out", str(tmp_path)]) == 2
    assert "has a report.json that is not of a run by this command" in capsys.readouterr().err
    assert names(tmp_path) == {"report.json"}


def test_damage(trained, tmp_path, capsys):
    assert run(["train", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert "holds no run to go on with; leave --resume out to begin one" in capsys.readouterr().err
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_bytes((trained / "run.json").read_bytes())
    checkpoint = folder / "checkpoints" / "00000020"
    checkpoint.mkdir(parents=True)
    assert run(["train", "--resume", "--out", str(folder)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"recurrax: checkpoint {checkpoint} is damaged and left aside")
    assert said[-1].startswith(f"recurrax: no checkpoint in {folder / 'checkpoints'} can be read.")
    (folder / "run.json").write_text("{")
    assert run(["train", "--resume", "--out", str(folder)]) == 2
    assert "run.json is damaged, or of another version of recurrax" in capsys.readouterr().err


def test_damage_that_is_made_good(trained, tmp_path, capsys):
    """What follows from the options is made anew; a row that is lost is told."""
    folder = shutil.copytree(trained, tmp_path / "run")
    history = folder / "history.jsonl"
    history.write_text("".join(history.read_text().splitlines(keepends=True)[1:]))
    (folder / "before.npz").write_bytes(b"junk")
    (folder / "xs.npy").write_bytes((folder / "xs.npy").read_bytes()[:200])
    for name in ("report.json", "after.npz"):
        (folder / name).unlink()
    (folder / "report.json").mkdir()
    os.mkfifo(folder / "after.npz")
    assert run(["train", "--resume", "--no-progress", "--out", str(folder)]) == 0
    said = capsys.readouterr()
    assert set(said.err.splitlines()) == {
        f"recurrax: {folder / 'before.npz'} is damaged; it is kept as before.npz.damaged1, and "
        "made anew",
        f"recurrax: {folder / 'xs.npy'} is damaged; it is kept as xs.npy.damaged1, and made anew",
        f"recurrax: {folder / 'after.npz'} is no file; it is kept as after.npz.damaged1, and made "
        "anew",
        f"recurrax: {folder / 'report.json'} is no file; it is kept as report.json.damaged1, and "
        "made anew",
        f"recurrax: history {history} is damaged: row 1 is not that of step 1 as it was written; "
        "1 of 20 rows are lost and NaN, of step 1. The damaged one is kept as "
        "history.jsonl.damaged1",
    }
    assert "lost" in said.out
    for name in ("before.npz", "after.npz", "xs.npy", "network.npz"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()
    found, right = report(folder)["history"], report(trained)["history"]
    assert found.pop("lost") == [1]
    assert {name: ends["end"] for name, ends in found.items()} == {
        name: ends["end"] for name, ends in right.items()
    }
    history.unlink()
    assert run(["train", "--resume", "--no-progress", "--out", str(folder)]) == 0
    said = capsys.readouterr()
    assert "it is gone; 20 of 20 rows are lost and NaN, of steps 1, 2, 3, 4, ..., 20" in said.err
    assert "How fast is lost with the history." in " ".join(said.out.split())


@pytest.mark.parametrize("value", [True, [], {}, -(10**400), "a\0b", "\ud800"])
def test_a_record_with_a_value_of_another_kind(trained, tmp_path, capsys, value):
    record = json.loads((trained / "run.json").read_text())
    for name in record["options"].keys() - {"text_digest"}:
        changed = record | {"options": record["options"] | {name: value}}
        (tmp_path / "run.json").write_text(json.dumps(changed))
        assert run(["train", "--resume", "--out", str(tmp_path)]) == 2, name
        said = capsys.readouterr().err
        assert said.startswith("recurrax: ")
        assert said.count("\n") == 1
    for text in ("[" * 100_000, "[]", "3", json.dumps(record | {"options": {}})):
        (tmp_path / "run.json").write_text(text)
        assert run(["train", "--resume", "--out", str(tmp_path)]) == 2
        assert "run.json is damaged, or of another version of recurrax" in capsys.readouterr().err
    assert names(tmp_path) == {"run.json"}


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--task", "ading"], "--task: unknown task 'ading'; did you mean adding? Choose from"),
        (["--cell", "lsmt"], "--cell: unknown cell 'lsmt'; did you mean lstm? Choose from elman,"),
        (["--cell", "xyz"], "--cell: unknown cell 'xyz'; choose from elman, elman-relu, lstm, gru"),
        (["--optimizer", "adm"], "--optimizer: unknown optimizer 'adm'; did you mean adam? Choose"),
        (["--init", "crono"], "--init: unknown initialiser 'crono'; did you mean chrono? Choose"),
        (["--init", "critical"], "--init critical does not fit the cell lstm; choose from chr"),
        (["--init", "forget_bias"], "--init forget_bias needs a number, such as --init forget_"),
        (["--init", "uniform-gate=2"], "--init uniform_gate takes no number, got 'uniform-gate=2'"),
        (["--init", "chrono=x"], "--init chrono= needs a number, got 'x'"),
        (["--init", "chrono=1"], "--init chrono: t_max must be at least 2 steps, got 1.0"),
        (["--clip", "0"], "--clip must be a finite number above 0, got 0; leave it out for no cl"),
        (["--clip", "-1"], "--clip must be a finite number above 0, got -1; leave it out"),
        (["--rate", "nan"], "--rate must be a finite number above 0, got nan\n"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--hidden", "9" * 400], "--hidden must be below 2^31, got more\n"),
        (["--flow-every", "0"], "--flow-every must be at least 1, got 0"),
        (["--length", "1"], "--task adding: "),
        (["--task", "digits", "--length", "9"], "--length does not go with --task digits, whose"),
        (["--task", "text"], "--task text needs --text FILE, the text to learn from"),
        (["--text", "a.txt"], "--text is for --task text, not for adding"),
        (["--task", "text", "--text", "none"], "--task text: path"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, capsys, monkeypatch, args, text):
    monkeypatch.chdir(tmp_path)
    assert run(["train", *args, "--out", "run"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"recurrax: {text}")
    assert (said.err.count("\n"), said.out) == (1, "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["run[1]", "a?", "file/run"])
def test_a_folder_that_cannot_hold_checkpoints_is_left_alone(tmp_path, capsys, name):
    (tmp_path / "file").touch()
    assert run(["train", "--out", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.startswith("recurrax: --out: directory must ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_folder(capsys):
    assert run(["train"]) == 2
    assert capsys.readouterr().err == (
        "recurrax: give --out FOLDER, where the run is kept, such as --out run\n"
    )


def test_text(tmp_path, capsys, monkeypatch):
    """Too short, then long enough, then changed since."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.txt"
    file.write_text("abc")
    args = ["--task", "text", "--text", "a.txt", *TINY, "--steps", "2", "--out", "run"]
    assert run(["train", *args]) == 2
    assert "is too short for T = 8" in capsys.readouterr().err
    file.write_text("the same again and " * 20)
    assert run(["train", *args]) == 0
    printed = capsys.readouterr().out
    assert "bits per byte, test data" in printed
    assert "trained for 2 steps." in printed
    file.write_text("something else")
    assert run(["train", "--resume", "--out", "run"]) == 2
    assert f"--text {file.resolve()} has changed since the run began" in capsys.readouterr().err


def test_a_run_that_diverges_is_told(tmp_path, capsys):
    args = ["--cell", "elman-relu", "--init", "identity=3", "--optimizer", "sgd", "--rate", "1e30"]
    assert run(["train", *TINY, *args, "--steps", "3", "--out", str(tmp_path / "run")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "training has diverged. A --clip or a smaller --rate may hold it." in printed
    assert report(tmp_path / "run")["gradient_flow"]["end"] is None


# --- the setup ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_every_initialiser_that_is_offered_fits(cell):
    asked = {"task": "adding", "length": 8, "text": None, "cell": cell, "hidden": 4, "clip": None}
    asked |= {"optimizer": "adam", "rate": 0.1, "steps": 1, "batch": 1, "flow_every": None}
    made = [
        training_setup(
            asked | {"seed": 0, "init": "forget_bias=2" if name == "forget_bias" else name}
        )
        for name in initialisers_for(cell)
    ]
    assert len({each.network.cell for each in made}) == len(made)


def test_chrono_replaces_the_forget_bias_of_the_lstm(trained):
    _, params = rx.interop.load(trained / "before.npz")
    expected = rx.cells.lstm(2, 4, forget_bias=0.0, bias_init=rx.cures.init.chrono(8))
    np.testing.assert_array_equal(params.b, expected.init(jax.random.key(0)).b)


def test_every_option_is_in_the_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        run(["train", "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for name in TrainOptions.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in printed
