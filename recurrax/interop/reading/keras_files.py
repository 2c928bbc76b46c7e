"""Names, arrays and configuration out of Keras' `.keras`, `.weights.h5` and older `.h5`."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from recurrax.interop.reading.limits import Refused, check_members, check_unpacked, readable

if TYPE_CHECKING:
    from pathlib import Path

_SKIPPED = ("optimizer", "optimizer_weights", "metrics")


def read_keras(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a `.keras` archive, and its `config.json`."""
    with readable(path, ".keras file"), zipfile.ZipFile(path) as archive:
        check_members(path, archive)
        model = json.loads(archive.read("config.json"))
        weights = io.BytesIO(archive.read("model.weights.h5"))
        arrays, names = _datasets(path, weights)
    return arrays, {"keras": {"model": model, "names": names}}


def read_h5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of an `.h5`, and the configuration that an older one has in an attribute."""
    with readable(path, ".h5 file"):
        arrays, names = _datasets(path, path)
        model = names.pop("", None)
        model = None if model is None else json.loads(model)
    return arrays, {"keras": {"model": model, "names": names}}


def _datasets(path: Path, file: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays by name; and what a group is called by Keras, the file itself by its configuration."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{path} needs h5py: pip install 'recurrax[interop]'") from None
    datasets: dict[str, Any] = {}
    names: dict[str, str] = {}

    def see(name: str, part: Any) -> None:  # of the file's own parts; links are not followed
        if name.partition("/")[0] in _SKIPPED:
            return
        if isinstance(part, h5py.Dataset) and part.dtype.kind in "fiub":
            datasets[name] = part
        elif name.endswith("/vars") and "name" in part.attrs:
            names[name.removesuffix("/vars")] = _text(part.attrs["name"])

    with h5py.File(file, "r") as opened:
        opened.visititems(see)
        if "model_config" in opened.attrs:
            names[""] = _text(opened.attrs["model_config"])
        for name, part in datasets.items():
            if part.is_virtual or part.external:
                raise Refused(f"{path} keeps {name} in another file, which is not read")
        check_unpacked(path, sum(part.size * part.dtype.itemsize for part in datasets.values()))
        return {name.removesuffix(":0"): _array(part) for name, part in datasets.items()}, names


def _array(part: Any) -> np.ndarray:
    array: np.ndarray = part[()]
    foreign = _text(part.attrs.get("dtype", "")) == "bfloat16"
    return np.asarray(array).view(jnp.bfloat16) if foreign else np.asarray(array)


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
