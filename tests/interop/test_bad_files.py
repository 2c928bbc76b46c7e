"""Files that are damaged, that lie, or that would do harm: one clear sentence each."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
from close import says
from interop_golden import GOLDEN
from onnx import TensorProto, helper, numpy_helper

import recurrax as rx
from recurrax.interop import convert, find

HUGE = 10**12


class Harmful:
    """An object whose pickle creates a folder where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def npy(shape, content=b"", descr="<f4"):
    """A .npy whose header says what it likes."""
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_harmful_pickle_is_never_run(tmp_path, monkeypatch):
    """Neither as torch's file, with torch or without it, nor inside of an .npz."""
    mark = tmp_path / "mark"
    content = pickle.dumps({"weight_ih_l0": Harmful(mark)})
    for name in ("model.pt", "model.pth"):
        (tmp_path / name).write_bytes(content)
        zipped(tmp_path / "archive.pt", **{"archive/data.pkl": content, "archive/version": "3\n"})
        for path in (tmp_path / name, tmp_path / "archive.pt"):
            with pytest.raises((ValueError, ImportError)):
                convert(path)
    np.savez(tmp_path / "model.npz", weight_ih_l0=np.array([Harmful(mark)], object))
    with says(
        ValueError,
        f"{tmp_path}/model.npz holds Python objects in weight_ih_l0, a pickle, which could run any "
        "code and so is not loaded. Save plain arrays of numbers.",
    ):
        convert(tmp_path / "model.npz")
    assert not mark.exists()
    monkeypatch.setitem(sys.modules, "torch", None)
    with says(
        ImportError,
        f"{tmp_path}/model.pt needs torch to be read: pip install torch, or save the weights with "
        "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')",
    ):
        convert(tmp_path / "model.pt")
    pickle.loads(content)  # it would have
    assert mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        "torch_gru.safetensors",
        "keras_model.keras",
        "keras_model.h5",
        "keras_model.weights.h5",
        "deep_lstm.onnx",
    ],
)
def test_files_that_are_cut_off(name, tmp_path):
    """At any place: nothing but a sentence about this file comes of it."""
    whole = (GOLDEN / name).read_bytes()
    path = tmp_path / name
    for part in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        with pytest.raises(
            ValueError, match=f"^{tmp_path}/{name} is (damaged or )?cut off"
        ) as error:
            find(path)
        assert "\n" not in str(error.value)


def test_zip_bombs(tmp_path):
    """What they declare is compared with what they are before anything is unpacked."""
    zeros = npy((10**8,), bytes(4 * 10**8))
    bomb = zipped(tmp_path / "w.npz", **{"weight_ih_l0.npy": zeros})
    size = bomb.stat().st_size
    with says(
        ValueError,
        f"{bomb} declares 400,000,080 bytes of arrays, but has {size:,} itself: no weights pack "
        "that tightly, so it is not read".replace("400,000,080", f"{len(zeros):,}"),
    ):
        convert(bomb)
    bomb = bomb.rename(tmp_path / "w.keras")
    with pytest.raises(ValueError, match=r"declares 400,000,\d+ bytes of arrays, but has"):
        convert(bomb)
    bomb = bomb.rename(tmp_path / "w.pt")
    with pytest.raises((ValueError, ImportError), match=r"declares 400,000,\d+ bytes|needs torch"):
        convert(bomb)


def test_headers_that_declare_more_than_there_is(tmp_path):
    path = zipped(tmp_path / "w.npz", **{"w.npy": npy((HUGE,), bytes(12))})
    with says(
        ValueError,
        f"{path} is cut off or damaged: w declares float32[{HUGE}], 4,000,000,000,000 bytes, and "
        "has 12",
    ):
        convert(path)

    path = tmp_path / "w.safetensors"
    header = {"w": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}
    words = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(words)) + words + bytes(12))
    with says(
        ValueError,
        f"{path} is cut off or damaged: w, F32[{HUGE}], should lie in the bytes 0 to "
        "4,000,000,000,000 of 12",
    ):
        convert(path)
    path.write_bytes(struct.pack("<Q", HUGE) + words)
    with says(
        ValueError,
        f"{path} is cut off, or is no .safetensors file: it has {8 + len(words)} bytes, and its "
        "header should have 1,000,000,000,000",
    ):
        convert(path)


def test_datasets_of_hdf5_that_are_not_there(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/lstm/cell/vars/0", (10**6, 10**6), "f4", chunks=(100, 100))
    with says(
        ValueError,
        f"{path} declares 4,000,000,000,000 bytes of arrays, but has {path.stat().st_size:,} "
        "itself: no weights pack that tightly, so it is not read",
    ):
        convert(path)
    with h5py.File(path, "w") as file:
        secret = [(tmp_path / "secret", 0, 12)]
        file.create_dataset("kernel", (3,), "f4", external=secret)
    with says(ValueError, f"{path} keeps kernel in another file, which is not read"):
        convert(path)


def onnx_file(path, **changed):
    """One LSTM, of which one constant is as it should not be."""
    shapes = {"W": (1, 8, 3), "R": (1, 8, 2)}
    tensors = [numpy_helper.from_array(np.ones(s, "f4"), k) for k, s in shapes.items()]
    for name, value in changed.items():
        if name == "dims":
            tensors[0].dims[:] = value
        else:
            tensors[0].ClearField("raw_data")
            tensors[0].data_location = TensorProto.EXTERNAL
            for key, word in value.items():
                tensors[0].external_data.add(key=key, value=str(word))
    node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], "rnn", hidden_size=2)
    model = helper.make_model(helper.make_graph([node], "g", [], [], tensors))
    path.write_bytes(model.SerializeToString())
    return path


def test_constants_of_onnx(tmp_path):
    path = onnx_file(tmp_path / "w.onnx", dims=[1, HUGE, 3])
    with says(
        ValueError,
        f"{path} is cut off or damaged: W declares float32[1, {HUGE}, 3], 3,000,000,000,000 "
        "numbers, and has 24",
    ):
        convert(path)
    beside = tmp_path / "w.data"
    np.full(24, 0.5, "f4").tofile(beside)
    path = onnx_file(path, beside={"location": "w.data", "length": 96})
    assert convert(path)[1].w_in[0, 0] == 0.5
    path = onnx_file(path, beside={"location": "w.data", "offset": 4})
    with says(ValueError, f"{beside} is cut off: W declares 96 bytes from 4, and it has 96"):
        convert(path)
    path = onnx_file(path, beside={"location": "../../etc/passwd"})
    with says(
        ValueError, f"{path} keeps W in '../../etc/passwd', which is no file in its own folder"
    ):
        convert(path)


def test_names_that_say_nothing(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"")
    with says(
        ValueError,
        f"{path} must end in one of .safetensors, .npz, .pt, .pth, .keras, .h5, .onnx, by which it "
        "is known how to read it",
    ):
        convert(path)
    with says(FileNotFoundError, f"{tmp_path}/none.npz is not there"):
        convert(tmp_path / "none.npz")
    (tmp_path / "folder.npz").mkdir()
    with says(FileNotFoundError, f"{tmp_path}/folder.npz is a folder, not a file"):
        convert(tmp_path / "folder.npz")


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_a_file_of_recurrax_is_read_as_it_is(ending, tmp_path, key):
    cell = rx.stack(rx.cells.lstm(2, 3), rx.cells.gru(3, 4))
    path = tmp_path / f"w{ending}"
    rx.interop.save(path, cell.init(key))
    assert convert(path)[0] == cell
    assert find(path) == (("", "recurrax", "lstm", 2, 3, 2, 1),)
