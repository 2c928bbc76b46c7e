"""Weights to a file and back."""

from __future__ import annotations

import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from halves import skip_without

import recurrax as rx

CELLS = {
    **{name: row.build(2, 3) for name, row in rx.cells.CELLS.items()},
    "gru bfloat16": rx.cells.gru(2, 3, dtype=jnp.bfloat16),
    "gru float16": rx.cells.gru(2, 3, dtype=jnp.float16),
    "stack": rx.stack(rx.cells.lstm(2, 4), rx.stack(rx.cells.gru(4, 3))),
}
SUFFIXES = (".npz", ".safetensors")


def fails(text: str):
    return pytest.raises(ValueError, match=re.escape(text))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", CELLS)
def test_params_and_step_come_back(tmp_path, key, name, suffix):
    skip_without("float16" if name == "gru float16" else "float32")
    params = CELLS[name].init(key)
    path = tmp_path / f"weights{suffix}"
    rx.interop.save(path, params)
    cell, loaded = rx.interop.load(path)
    assert cell.step == CELLS[name].step
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_float64(tmp_path, key, x64, suffix):
    params = rx.cells.lstm(2, 3, dtype=jnp.float64).init(key)
    rx.interop.save(tmp_path / f"w{suffix}", params)
    loaded = rx.interop.load(tmp_path / f"w{suffix}").params
    assert loaded.w_rec.dtype == jnp.float64
    np.testing.assert_array_equal(loaded.w_rec, params.w_rec)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cell_of_ones_own_is_named_when_loading(tmp_path, key, suffix):
    cell = rx.residual(rx.cells.gru(3, 3))
    own = rx.gated_cell(
        lambda unit, z_in, z_rec, state: rx.cells.ElmanState(jnp.tanh(z_in[0] + unit["a"])),
        gates=1,
        state=rx.cells.ElmanState,
        input_size=2,
        hidden_size=3,
        unit_init={"a": jax.nn.initializers.ones},
    )
    path = tmp_path / f"own{suffix}"
    rx.interop.save(path, own.init(key))
    with fails("holds params of a cell that is not the library's own: name it"):
        rx.interop.load(path)
    assert rx.interop.load(path, own).params.unit["a"].tolist() == [1, 1, 1]
    with fails(
        "does not fit the cell: params.w_in should have shape (3, 9), the file has shape (2, 3)"
    ):
        rx.interop.load(path, cell)


def test_npz_holds_no_pickle(tmp_path, key):
    rx.interop.save(tmp_path / "w.npz", CELLS["lstm"].init(key))
    with np.load(tmp_path / "w.npz", allow_pickle=False) as file:
        header = json.loads(str(file["__recurrax__"]))
        assert file["params.w_rec"].dtype == np.float32
    assert header["cell"] == {"family": "lstm", "input_size": 2, "hidden_size": 3}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_or_foreign_files(tmp_path, key, suffix):
    path = tmp_path / f"w{suffix}"
    rx.interop.save(path, CELLS["lstm"].init(key))
    path.write_bytes(path.read_bytes()[:200])
    with fails("is damaged, or was not written by rx.interop.save"):
        rx.interop.load(path)
    path.write_bytes(b"")
    with fails("is damaged, or was not written by rx.interop.save"):
        rx.interop.load(path)


def test_foreign_npz_and_newer_format(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    with fails("is damaged, or was not written by rx.interop.save"):
        rx.interop.load(tmp_path / "w.npz")
    header = json.dumps({"format": "recurrax-params-9", "cell": None, "dtypes": {"a": "float32"}})
    np.savez(tmp_path / "w.npz", a=np.ones(2), __recurrax__=np.array(header))
    with fails("is of format 'recurrax-params-9'; this version reads 'recurrax-params-1'"):
        rx.interop.load(tmp_path / "w.npz")


def test_header_that_lies(tmp_path, key):
    path = tmp_path / "w.npz"
    rx.interop.save(path, CELLS["lstm"].init(key))
    with np.load(path) as file:
        arrays = dict(file)
    for cell, text in (
        ({"family": "lstm", "input_size": 2, "hidden_size": 0}, "describes a cell that cannot be"),
        ({"family": "nope"}, "describes a cell that cannot be built: unknown cell 'nope'"),
        (
            {"family": "lstm", "input_size": 5, "hidden_size": 3},
            "params.w_in should have shape (5, 12)",
        ),
    ):
        header = json.loads(str(arrays["__recurrax__"])) | {"cell": cell}
        np.savez(path, **arrays | {"__recurrax__": np.array(json.dumps(header))})
        with fails(text):
            rx.interop.load(path)


def test_header_and_arrays_of_other_kinds(tmp_path, key):
    path = tmp_path / "w.npz"
    rx.interop.save(path, CELLS["lstm"].init(key))
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("__recurrax__")))
    less = {name: value for name, value in header.items() if name != "cell"}
    words = {name: np.array("word") for name in arrays}
    for changed, held in (([], arrays), (less, arrays), (header, {}), (header, words)):
        np.savez(path, **held, __recurrax__=np.array(json.dumps(changed)))
        with fails("is damaged, or was not written by rx.interop.save"):
            rx.interop.load(path)
    np.savez(path, **arrays, __recurrax__=np.array("[" * 100_000))
    with fails("is damaged, or was not written by rx.interop.save"):
        rx.interop.load(path)


def test_what_stands_in_the_way_of_the_file_that_is_written_first(tmp_path, key):
    path, part = tmp_path / "w.npz", tmp_path / ".w.npz.part"
    part.mkdir()
    rx.interop.save(path, {"a": jnp.ones(2)})
    os.mkfifo(part)
    rx.interop.save(path, {"a": jnp.ones(2)})
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".w.npz.part.damaged1", path]


def test_file_with_more_than_the_cell(tmp_path, key):
    path = tmp_path / "w.npz"
    rx.interop.save(path, {"a": jnp.ones(2), "b": jnp.ones(3)})
    cell = rx.Cell(lambda key: {"a": jnp.ones(2)}, lambda p, b=(): (), lambda p, s, x: (s, x))
    with fails("does not fit the cell: it also holds params['b']"):
        rx.interop.load(path, cell)


def test_names_and_missing_files(tmp_path):
    with fails("path must end in .npz or .safetensors, got 'w.pkl'"):
        rx.interop.save(tmp_path / "w.pkl", {"a": jnp.ones(2)})
    with fails("params hold no array, so there is nothing to save"):
        rx.interop.save(tmp_path / "w.npz", ())
    with pytest.raises(FileNotFoundError, match="no such file"):
        rx.interop.load(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError):
        rx.interop.save(tmp_path / "no folder" / "w.npz", {"a": jnp.ones(2)})
