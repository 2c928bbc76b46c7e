"""`recurrax diagnose` as its user runs it."""

from __future__ import annotations

import io
import json
import pickle
import re
import sys
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import jax
import numpy as np
import pytest

import recurrax as rx
from recurrax.cli import run
from recurrax.cli.diagnose.diagnose_command import DiagnoseOptions

H, I, T, B = 4, 2, 24, 3
LAYERS = ["layer0/forward", "layer0/backward", "layer1/forward", "layer1/backward"]


def weights(prefix="", *, forget=-4.0):
    """A state_dict of a torch.nn.LSTM, two layers in both directions, the second's gates shut."""
    rng = np.random.default_rng(0)
    arrays = {}
    for layer, size in ((0, I), (1, 2 * H)):
        for side in ("", "_reverse"):
            shapes = {"weight_ih": (4 * H, size), "weight_hh": (4 * H, H), "bias_ih": (4 * H,)}
            for name, shape in (shapes | {"bias_hh": (4 * H,)}).items():
                values = rng.uniform(-0.5, 0.5, shape).astype(np.float32)
                if name == "bias_hh":
                    values[H : 2 * H] = forget if layer else 2.0
                arrays[f"{prefix}{name}_l{layer}{side}"] = values
    return arrays


def one_layer(prefix="", size=I, **changed):
    """A state_dict of a torch.nn.RNN, of which the activation is not known."""
    rng = np.random.default_rng(1)
    shapes = {"weight_ih_l0": (H, size), "weight_hh_l0": (H, H)}
    arrays = {
        name: 0.4 * rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }
    return {prefix + name: array for name, array in (arrays | changed).items()}


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory):
    """The folder of one run along sequences of three lengths, its words, and what was printed."""
    folder = tmp_path_factory.mktemp("diagnosed")
    np.savez(folder / "model.npz", **weights())
    xs = np.random.default_rng(2).normal(size=(T, B, I))
    np.savez(folder / "data.npz", xs=xs, lengths=[T, T, 12])
    args = [str(folder / "model.npz"), "--data", str(folder / "data.npz"), "--out", str(folder)]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert run(["diagnose", *args]) == 0
    return folder, args, printed.getvalue()


def test_numbers_are_those_of_the_library(diagnosed):
    folder, *_ = diagnosed
    document = json.loads((folder / "diagnosis.json").read_text())
    assert list(document["layers"]) == LAYERS
    assert (document["data"]["T"], document["data"]["B"], document["data"]["I"]) == (T, B, I)
    with np.load(folder / "data.npz") as data:
        mask = rx.length_mask(data["lengths"], T)
        xs = data["xs"].astype(np.float32)
    found = rx.diagnose(folder / "model.npz", xs=xs, mask=mask)
    for layer in found.layers:
        numbers = document["layers"][layer.name]
        assert numbers["cause"] == layer.cause
        np.testing.assert_allclose(numbers["log_norm"], layer.decay.log_norm, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(numbers["rate"], layer.rate, rtol=1e-4, atol=1e-5)
        assert [gate["name"] for gate in numbers["gates"]] == list("ifgo")
    assert document["layers"]["layer1/forward"]["cause"] == "forget gates shut"
    before, after = (
        document["layers"]["layer1/forward"]["findings"][0][when] for when in ("before", "after")
    )
    assert float(after["horizon"]) > 2 * float(before["horizon"])


def test_the_page_holds_everything(diagnosed):
    folder, *_ = diagnosed
    page = (folder / "diagnosis.html").read_text("utf-8")
    assert "<h1>Diagnosis of model.npz</h1>" in page
    assert re.findall("<h2>(.*?)</h2>", page) == LAYERS
    assert page.count('src="data:image/png;base64,') == 1
    assert "In short: forget gates shut (layer1/forward and layer1/backward); " in page
    assert "<pre>params = params._replace(b=params.b.at[4:8].add(" in page
    assert re.search(r"\(with it: .*horizon \S+ -&gt; ", page)
    assert "FORGET GATES SHUT: " in page
    assert not re.search(r"(src|href)=.http", page)  # nothing is fetched when it is opened
    assert (folder / "diagnosis.png").read_bytes().startswith(b"\x89PNG")


def test_tables_and_sentences(diagnosed):
    folder, _, printed = diagnosed
    assert printed.startswith("model.npz, fed data.npz [24, 3, 2]")
    for word in (*LAYERS, "horizon", "top exponent", "gate f", "w_rec of f", "radius", "norm"):
        assert word in printed
    assert printed.count("FORGET GATES SHUT: ") == 2
    assert printed.count("    params = params._replace(b=params.b.at[4:8].add(") >= 2
    assert "In short: " in printed
    for name in ("diagnosis.html", "diagnosis.png", "diagnosis.json"):
        assert str(folder / name) in printed.splitlines()[-1]


def test_noise_is_said_and_json_alone_is_printed(tmp_path, capsys):
    np.savez(tmp_path / "model.npz", **one_layer("head.", H), **one_layer("tail.", H))
    args = [str(tmp_path / "model.npz"), "--out", str(tmp_path), "--json", "--length", "12"]
    assert run(["diagnose", *args, "--activation", "tanh"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert document["data"]["fed"].startswith("unit normal noise [12, 8, 4]")
    assert "no data was given" in document["data"]["fed"]
    assert [name.split("/")[0] for name in document["layers"]] == ["head", "tail"]
    assert document["options"]["activation"] == "tanh"


def test_a_cell_that_does_not_tell_its_gates(tmp_path, capsys):
    pytest.importorskip("onnx")
    golden = Path(__file__).parents[2] / "golden" / "cells.onnx"
    args = ["--prefix", "before", "--length", "8", "--out", str(tmp_path)]
    assert run(["diagnose", str(golden), *args]) == 0
    assert "gru-reset-before, 3 inputs, 4 units" in capsys.readouterr().out
    assert (tmp_path / "diagnosis.png").exists()


def test_a_picture_that_fails_leaves_the_rest(diagnosed, tmp_path, capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("no font")

    monkeypatch.setattr("recurrax.plot.axes._write", broken)
    assert run(["diagnose", *diagnosed[1][:3], "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("cannot be made (ValueError: no font)") == 2  # in the page as well
    assert captured.out.rstrip().endswith("diagnosis.json")
    assert "diagnosis.png" not in captured.out
    assert "In short" in (tmp_path / "diagnosis.html").read_text("utf-8")


# --- bad input -----------------------------------------------------------------------------------


class Malicious:
    """What leaves a file behind once it is unpickled."""

    def __reduce__(self):
        return open, ("executed", "w")


def refused(args, capsys):
    """The one sentence on standard error."""
    assert run(["diagnose", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("recurrax: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.npz"])
def test_a_malicious_pickle_is_not_executed(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name == "m.npz":
        np.savez(name, weight_hh_l0=np.array([Malicious()], object))
    else:
        (tmp_path / name).write_bytes(pickle.dumps({"weight_hh_l0": Malicious()}))
    assert name in refused([name], capsys)
    assert not (tmp_path / "executed").exists()


def test_files_that_are_cut_off(tmp_path, capsys):
    good = tmp_path / "good.safetensors"
    rx.interop.save(good, rx.cells.gru(2, 3).init(jax.random.key(0)))
    whole = good.read_bytes()
    for name in ("cut.safetensors", "cut.npz", "cut.keras", "cut.onnx", "cut.h5", "cut.pt"):
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert name in refused([str(tmp_path / name)], capsys)


def test_files_that_declare_too_much(tmp_path, capsys):
    entry = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"weight_hh_l0": entry}).encode()
    path = tmp_path / "large.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "weight_hh_l0" in refused([str(path)], capsys)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight_hh_l0.npy", bytes(120_000_000))
    assert "is not read" in refused([str(path)], capsys)


@pytest.mark.parametrize(
    ("arrays", "args", "text"),
    [
        ({"w": np.ones((2, 3))}, [], r"holds no recurrent layer\. It holds w \[2, 3\]"),
        (one_layer(weight_hh_l0=np.ones((H, H + 1))), [], r"weight_hh_l0 .*\[4, 5\]|\[4, 4\]"),
        (one_layer(), [], r'activation="tanh".*\(on the command line --activation\)'),
        (one_layer(), ["--activation", "sinus"], "activation must be .*'sinus'"),
        (weights(), ["--activation", "tanh"], "activation says nothing of .*lstm of torch"),
        (
            one_layer(weight_hh_l0=np.full((H, H), np.nan)),
            ["--activation", "tanh"],
            r"weight_hh_l0 is not finite: nan at index \(0, 0\)",
        ),
        (
            one_layer("a.") | one_layer("b."),
            ["--prefix", "c", "--activation", "tanh"],
            "no recurrent layer under prefix 'c'.*'a': .*'b': ",
        ),
        (
            one_layer("a.") | one_layer("b."),
            ["--data", "data.npy", "--activation", "tanh"],
            r"--data data\.npy: xs has 3 features, but a.* takes 2: .*, 3\)$",
        ),
    ],
)
def test_models_that_are_refused(tmp_path, capsys, monkeypatch, arrays, args, text):
    monkeypatch.chdir(tmp_path)
    np.savez("model.npz", **arrays)
    np.save("data.npy", np.ones((5, 2, 3)))
    assert re.search(text, refused(["model.npz", *args], capsys))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "diagnose needs one MODEL, a file that ends in .pt, .pth, .safetensors, .npz, "),
        (["a.pt", "b.pt"], "needs one MODEL, a file that ends in .*; got 2: a.pt, b.pt"),
        (["nothing.pt"], "nothing.pt is not there"),
        (["folder.npz"], "folder.npz is a folder; name the file of weights in it"),
        (["m.bin"], "m.bin must end in one of .safetensors"),
        (["m.npz", "--fill", "mean"], "--fill is about the data: name them with --data"),
        (["m.npz", "--standardise"], "--standardise is about the data: name them with --data"),
        (["m.npz", "--length", "0"], "--length must be at least 1, got 0"),
        (["m.npz", "--data", "nothing.csv"], "--data nothing.csv: no such file"),
        (["m.npz", "--daat", "x"], "unknown option '--daat'; did you mean --data?"),
    ],
)
def test_bad_usage(tmp_path, capsys, monkeypatch, args, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    assert re.search(text, refused(args, capsys))


def test_a_package_that_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n")
    assert "needs h5py: pip install" in refused([str(tmp_path / "m.h5")], capsys)


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("m.pt --length 5", "m.pt"),
        ("--length 5 m.pt", "m.pt"),
        ("--length=5 m.pt --json", "m.pt"),
        ("--json --length 5 m.pt --out x", "m.pt"),
        ("--length 5", "--length"),
    ],
)
def test_the_model_may_stand_anywhere(words, first):
    arranged = DiagnoseOptions.arranged(words.split())
    assert arranged[0] == first
    assert sorted(arranged) == sorted(words.split())
    assert arranged[arranged.index("--length") + 1] == "5" if "--length" in arranged else True
