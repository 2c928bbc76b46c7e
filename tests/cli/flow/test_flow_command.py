"""The command as its user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.cli import run

SMALL = ["flow", "--hidden", "6", "--batch", "3", "--length", "40"]


@pytest.fixture
def out(tmp_path):
    return ["--out", str(tmp_path)]


def measured(tmp_path) -> dict:
    return json.loads((tmp_path / "gradient_flow.json").read_text())["cells"]


def sentences(err: str) -> list[str]:
    """What was said on standard error, beside a bar that slow work shows."""
    return [line for line in err.splitlines() if line.startswith("recurrax: ")]


def test_prints_a_table_and_writes_picture_and_numbers(out, tmp_path, capsys):
    assert run([*SMALL, *out]) == 0
    printed = capsys.readouterr().out
    for word in ("elman", "lstm", "gru", "spectral", "bounds", "horizon", "verdict", "wrote"):
        assert word in printed
    assert (tmp_path / "gradient_flow.png").read_bytes().startswith(b"\x89PNG")
    cells = measured(tmp_path)
    assert list(cells) == ["elman", "lstm", "gru"]
    assert np.shape(cells["lstm"]["log_norm"]) == (40, 3)


def test_numbers_are_those_of_the_library(out, tmp_path):
    assert run([*SMALL, *out, "--cells", "gru", "--seed", "7"]) == 0
    cell = rx.cells.gru(1, 6)
    params = cell.init(jax.random.key(7))
    xs = rx.tasks.digit_sequences().xs[:40, :3]
    decay = rx.flow.decay(cell, params, cell.initial_state(params, (3,)), xs)
    gru = measured(tmp_path)["gru"]
    np.testing.assert_allclose(gru["log_norm"], decay.log_norm, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gru["rate"], rx.flow.rate(decay), rtol=1e-5, atol=1e-6)
    assert gru["verdict"] == rx.flow.verdict(decay)


def test_recurrent_scale_makes_the_vanilla_network_vanish_or_explode(tmp_path):
    for scale, verdict in (("0.5", "vanishes"), ("2", "explodes")):
        folder = tmp_path / scale
        args = ["--cells", "elman", "--recurrent-scale", scale, "--out", str(folder)]
        assert run(["flow", "--hidden", "32", "--batch", "2", *args]) == 0
        elman = measured(folder)["elman"]
        assert elman["verdict"] == verdict
        assert elman["spectral_radius"] == pytest.approx([float(scale)], rel=1e-5)
    assert measured(tmp_path / "0.5")["elman"]["bounds_promise"] == "must vanish"


def test_forget_bias_lengthens_the_memory_of_the_lstm(tmp_path):
    rates = []
    for bias in ("0", "3"):
        folder = tmp_path / bias
        assert run([*SMALL, "--cells", "lstm", "--forget-bias", bias, "--out", str(folder)]) == 0
        rates.append(np.median(measured(folder)["lstm"]["rate"]))
    assert rates[0] < rates[1]


def test_json_alone_on_standard_output(out, capsys):
    assert run([*SMALL, *out, "--cells", "elman", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["data"] == {"name": "digits", "T": 40, "B": 3, "I": 1}
    assert document["recurrax"] == rx.__version__
    assert captured.err == ""


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_from_a_file(tmp_path, suffix):
    cell = rx.stack(rx.cells.lstm(1, 4), rx.cells.elman(4, 5, activation="relu"))
    path = tmp_path / f"weights{suffix}"
    rx.interop.save(path, cell.init(jax.random.key(3)))
    args = ["--params", str(path), "--out", str(tmp_path), "--length", "10", "--batch", "2"]
    assert run(["flow", *args]) == 0
    stack = measured(tmp_path)["stack"]
    assert stack["N"] == 13
    assert stack["spectral_radius"] is None


@pytest.mark.parametrize(
    "cell",
    [
        rx.cells.gru(1, 4, dtype=jnp.bfloat16),
        rx.stack(rx.stack(rx.cells.gru(1, 3), rx.cells.elman(3, 2)), rx.cells.elman(2, 2)),
    ],
)
def test_weights_of_other_kinds(tmp_path, cell):
    rx.interop.save(tmp_path / "w.npz", cell.init(jax.random.key(0)))
    args = ["--params", str(tmp_path / "w.npz"), "--out", str(tmp_path)]
    assert run(["flow", *args, "--length", "4", "--batch", "1"]) == 0


def test_sequences_of_different_lengths(tmp_path):
    """A row that ends before the others is measured as it is alone."""
    xs = np.random.default_rng(0).normal(size=(9, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "both.npz", xs=xs, lengths=np.array([9, 5]))
    np.savez(tmp_path / "short.npz", xs=xs[:5, 1:])
    args = ["--cells", "elman", "--hidden", "4", "--out", str(tmp_path)]
    assert run(["flow", "--data", str(tmp_path / "both.npz"), *args]) == 0
    both = measured(tmp_path)["elman"]
    assert run(["flow", "--data", str(tmp_path / "short.npz"), *args]) == 0
    short = measured(tmp_path)["elman"]
    np.testing.assert_allclose(np.array(both["log_norm"])[:5, 1:], short["log_norm"], rtol=1e-4)
    np.testing.assert_allclose(np.array(both["log_norm"])[4:, 1], short["log_norm"][4] * 5, 1e-4)
    np.testing.assert_allclose(both["rate"][1:], short["rate"], rtol=1e-4)


def test_large_state_is_probed_and_says_so(tmp_path, capsys):
    args = ["--cells", "elman", "--hidden", "513", "--length", "3", "--batch", "1"]
    assert run(["flow", *args, "--out", str(tmp_path)]) == 0
    assert measured(tmp_path)["elman"]["probes"] == 32
    assert "32 random directions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (
            ["--cells", "lstm,rnn"],
            "--cells: unknown cell 'rnn'; choose from elman,",
        ),
        (["--cells", "gru,gru"], "--cells names a cell twice: gru,gru"),
        (["--hidden", "0"], "--hidden must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
        (["--recurrent-scale", "nan"], "--recurrent-scale must be finite, got nan"),
        (["--forget-bias", "inf"], "forget_bias must be finite, got inf"),
        (["--data", "nothing.csv"], "no such file; give digits, or a path to"),
        (["--params", "nothing.npz"], "no such file: nothing.npz"),
        (["--params", "weights.bin"], "path must end in .npz or .safetensors"),
        (["--params", "w.npz", "--cells", "lstm"], "--cells and --params exclude each other"),
        (["--params", "w.npz", "--hidden", "3"], "--hidden and --params exclude each other"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, capsys, monkeypatch, args, text):
    monkeypatch.chdir(tmp_path)
    assert run(["flow", *args]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.startswith("recurrax: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_weights_for_other_data(tmp_path, capsys):
    rx.interop.save(tmp_path / "w.npz", rx.cells.gru(3, 4).init(jax.random.key(0)))
    assert run(["flow", "--params", str(tmp_path / "w.npz"), "--out", str(tmp_path)]) == 2
    assert "takes 3 features a step, but digits has 1" in capsys.readouterr().err


def test_overflow_of_the_network_is_told(tmp_path, capsys):
    xs = np.ones((256, 1), np.float32)
    np.save(tmp_path / "xs.npy", xs)
    cell = rx.cells.elman(1, 4, activation="relu")
    params = cell.init(jax.random.key(0))
    params = params._replace(w_rec=np.full((4, 4), 0.5, np.float32))
    rx.interop.save(tmp_path / "w.npz", params)
    args = ["--data", str(tmp_path / "xs.npy"), "--params", str(tmp_path / "w.npz")]
    assert run(["flow", *args, "--recurrent-scale", "3", "--out", str(tmp_path)]) == 2
    assert "The forward pass overflows there" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(["flow", "--out", str(tmp_path / "file" / "below")]) == 2
    assert "cannot be written (Not a directory); name a folder of your own" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "give a command: flow"),
        (["nope"], "unknown command 'nope'; choose from flow"),
        (["flow", "--nope"], "unknown option '--nope' (see recurrax flow --help)"),
        (
            ["flow", "--hiden", "3"],
            "unknown option '--hiden'; did you mean --hidden? (see recurrax",
        ),
        (["flow", "--hidden", "abc"], "--hidden must be a whole number, got 'abc'\n"),
        (["flow", "--length", "2.5"], "--length must be a whole number, got '2.5'\n"),
        (["flow", "--batch"], "--batch must be a whole number, got nothing\n"),
        (["flow", "--recurrent-scale", "a b"], "--recurrent-scale must be a number, got 'a b'\n"),
        (
            ["flow", "--compare", "before.npz"],
            "--compare needs two files, BEFORE AFTER; got before",
        ),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(capsys, args, text):
    assert run(args) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"recurrax: {text}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_help(capsys):
    for args, text in ((["--help"], "flow"), (["flow", "--help"], "--compare BEFORE AFTER")):
        with pytest.raises(SystemExit) as stopped:
            run(args)
        assert stopped.value.code == 0
        assert text in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--params", "--compare"])
def test_weights_that_are_not_finite(tmp_path, capsys, flag):
    params = rx.cells.gru(1, 4).init(jax.random.key(0))
    good, bad = str(tmp_path / "good.npz"), str(tmp_path / "bad.npz")
    rx.interop.save(good, params)
    rx.interop.save(bad, params._replace(b=params.b.at[2].set(jnp.inf)))
    files = [bad] if flag == "--params" else [good, bad]
    assert run(["flow", flag, *files, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"recurrax: {flag} {bad}: params.b is not finite: inf at index (2,), 1 such entry in all. "
        "Did training diverge?\n"
    )


def test_a_file_of_other_arrays(tmp_path, capsys):
    path = tmp_path / "w.npz"
    np.savez(path, weight_ih=np.ones((4, 1)), weight_hh=np.ones((4, 4)))
    assert run(["flow", "--params", str(path), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"recurrax: --params {path} holds the arrays weight_ih, weight_hh, but what is needed is a "
        "file that rx.interop.save wrote: put them into params, such as "
        "rx.cells.GRUParams(w_in, w_rec, b, unit), and save those\n"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("$\\frac{a$_[bold]:smile:", None),
        ("bad\udcff\udcfe", "bad\ufffd\ufffd"),
        ("two\nlines\x1b[1m", r"two\nlines\x1b[1m"),
        ("日本", None),
    ],
)
def test_the_name_of_a_file_is_shown_letter_by_letter(tmp_path, capsys, name, said):
    path = tmp_path / f"{name}.csv"
    path.write_text("[bold]a,$x$,city\n10,2000,Rome\n30,4500,Oslo\n")
    args = ["--data", str(path), "--cells", "elman", "--hidden", "2", "--batch", "1"]
    assert run(["flow", *args, "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{said or name}.csv: T = 2 steps, B = 1, I = 2\n")
    dropped, far = sentences(captured.err)
    assert dropped == (
        f"recurrax: {said or name}.csv: column 'city' (words, such as 'Rome') is left out; "
        "--columns NAMES encodes it"
    )
    assert "column '[bold]a' and column '$x$' reach 4.5e+03, far from unit size" in far
    assert (tmp_path / "gradient_flow.png").read_bytes().startswith(b"\x89PNG")
    data = json.loads((tmp_path / "gradient_flow.json").read_text())["data"]
    assert data["name"] == f"{said or name}.csv"
    assert data["dropped"] == ["city"]
    assert [f"recurrax: {note}" for note in data["notes"]] == [dropped, far]


def test_names_of_weights_that_look_the_same(tmp_path, capsys):
    files = [str(tmp_path / f"{name}.npz") for name in ("a\udcff", "a\udcfe")]
    for path in files:
        rx.interop.save(path, rx.cells.elman(1, 2).init(jax.random.key(0)))
    args = ["--compare", *files, "--length", "3", "--batch", "1", "--out", str(tmp_path)]
    assert run(["flow", *args]) == 0
    assert [name.split(" ")[-1] for name in measured(tmp_path)] == ["(before)", "(after)"]


@pytest.mark.parametrize("report", [[], ["--report"]])
def test_a_picture_that_fails_leaves_the_numbers(out, tmp_path, capsys, monkeypatch, report):
    def broken(*args, **kwargs):
        raise ValueError("no\nfont")

    monkeypatch.setattr("recurrax.plot.axes._write", broken)
    args = ["flow", "--length", "3", "--batch", "1", "--cells", "elman", "--hidden", "2"]
    assert run([*args, *out, *report]) == 1
    captured = capsys.readouterr()
    assert "verdict" in captured.out
    assert captured.out.rstrip().endswith(".json")
    assert r"cannot be made (ValueError: no\nfont); the numbers are not touched" in captured.err
    assert len(sentences(captured.err)) == (7 if report else 1)
    stem = "gradient_report" if report else "gradient_flow"
    assert "elman" in json.loads((tmp_path / f"{stem}.json").read_text())["cells"]
    if report:
        page = (tmp_path / "gradient_report.html").read_text("utf-8")
        assert page.count("cannot be made (ValueError: no") == 7


def test_plain_ascii_terminal(tmp_path):
    (tmp_path / "日本.csv").write_text("1\n.5\n")
    command = [sys.executable, "-m", "recurrax", "flow", "--data", "日本.csv", "--cells", "elman"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, env=ascii_only)
    assert done.returncode == 0, done.stderr
    assert b"verdict" in done.stdout
    assert done.stdout.startswith(rb"\u65e5\u672c.csv: T = 2 steps")


def test_module_and_exit_code(tmp_path):
    command = [sys.executable, "-m", "recurrax", "flow", "--hidden", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "recurrax: --hidden must be at least 1, got 0\n"
    assert done.stdout == ""


def test_missing_extras_are_named(monkeypatch, capsys):
    import recurrax.__main__ as entry

    monkeypatch.setattr(entry, "_installed", lambda name: name != "tyro")
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "recurrax: the command needs tyro: pip install 'recurrax[all]'\n"
    )
