"""Whatever holds weights, as one flat mapping of names to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.interop.reading.keras_files import read_h5, read_keras
from recurrax.interop.reading.limits import Refused, check_unpacked
from recurrax.interop.reading.onnx_files import graph_arrays, read_onnx
from recurrax.interop.reading.tensor_files import read_npz, read_safetensors, read_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OWN_HEADER = "__recurrax__"  # what rx.interop.save marks its files with


class Source(NamedTuple):
    """Weights by name, and what is said beside them."""

    name: str  # as messages call it
    arrays: dict[str, np.ndarray]  # "encoder.rnn.weight_ih_l0", "params/LSTMCell_0/hi/kernel"
    config: dict[str, Any]  # "keras", "onnx", "torch" or "recurrax": what that library says


def read(source: Any) -> Source:
    """Read a file, or look through what is in memory.

    Levels of a mapping, a list or a pytree are joined with `/`. What is no array of numbers is
    left out.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if a file cannot be read, or is not safe to read.
      TypeError: if it is nothing that holds arrays.
      ImportError: if the package that reads a file is not installed.
    """
    if isinstance(source, (str, Path)) or hasattr(source, "__fspath__"):
        return _read_file(Path(source))
    name = f"the {type(source).__name__}"
    if isinstance(source, Mapping):
        name = "the mapping"
    elif hasattr(source, "state_dict"):  # a module of torch
        modules: Any = getattr(source, "named_modules", list)()
        said: dict[str, Any] = {
            path: m.nonlinearity for path, m in modules if hasattr(m, "nonlinearity")
        }
        return Source(name, flat(source.state_dict()), {"torch": said})
    elif hasattr(source, "get_config") and hasattr(source, "weights"):  # a layer of Keras
        said = {"class_name": type(source).__name__, "config": source.get_config()}
        arrays = {
            _path_below(layer.name, weight.path): np.asarray(weight)
            for layer in getattr(source, "layers", None) or [source]
            for weight in layer.weights
        }
        return Source(name, flat(arrays), {"keras": {"model": said, "names": {}}})
    elif hasattr(source, "graph") and hasattr(source, "opset_import"):
        return Source(name, graph_arrays(source.graph, None), {"onnx": source.graph})
    arrays = flat(source)
    if not isinstance(source, (Mapping, list, tuple)) and set(arrays) <= {""}:
        raise TypeError(
            f"source must be a path, or hold arrays by name (a state_dict, a tree of params, "
            f"get_weights(), a module); got {type(source).__name__}"
        )
    return Source(name, arrays, {})


def _path_below(layer: str, path: str) -> str:
    """The path of a weight with the name of its layer, which that of a loaded model leaves out."""
    return path if layer in path.split("/") else f"{layer}/{path}"


def flat(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree by their names."""
    arrays = {}
    for path, leaf in _leaves(tree, ()):
        try:
            array = np.asarray(_on_the_cpu(leaf))
        except Exception:  # a random key, a tensor without data, or anything else
            continue
        if array.dtype.kind in "fiub" or array.dtype in (jnp.bfloat16,):
            arrays["/".join(path)] = array
    return arrays


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, Mapping):
        for name, part in tree.items():
            yield from _leaves(part, (*path, str(name)))
    elif isinstance(tree, (list, tuple)) and not hasattr(tree, "_fields"):
        if path and _is_numbers(tree):
            yield path, tree  # an array, written as lists
        else:
            for i, part in enumerate(tree):
                yield from _leaves(part, (*path, str(i)))
    elif hasattr(tree, "detach") or isinstance(tree, np.ndarray):
        yield path, tree
    else:
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
            words = [str(_word(key)) for key in keys]
            if words and words[-1] == "value":  # of a Variable of flax
                words.pop()
            yield (*path, *words), leaf


def _is_numbers(tree: Any) -> bool:
    """Whether it is numbers in lists, and not arrays or modules."""
    if isinstance(tree, (list, tuple)):
        return all(_is_numbers(part) for part in tree)
    return isinstance(tree, (int, float))


def _word(key: Any) -> Any:
    for kind in ("name", "key", "idx"):
        if hasattr(key, kind):
            return getattr(key, kind)
    return key


def _on_the_cpu(leaf: Any) -> Any:
    """A tensor of torch as NumPy has it; anything else as it is."""
    if not hasattr(leaf, "detach"):
        return leaf
    tensor = leaf.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        import torch

        return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def _read_file(path: Path) -> Source:
    kind = "".join(path.suffixes[-2:]).lower()
    kind = ".h5" if kind.endswith(".h5") else path.suffix.lower()
    if kind not in _READERS:
        raise ValueError(
            f"{path} must end in one of {', '.join(_READERS)}, by which it is known how to read it"
        )
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "is not there"
        raise FileNotFoundError(f"{path} {what}")
    arrays, config = _READERS[kind](path)
    check_unpacked(path, sum(array.nbytes for array in arrays.values()))
    return Source(str(path), arrays, config)


def _from_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = read_npz(path)
    own = arrays.pop(OWN_HEADER, None) is not None
    return arrays, {"recurrax": path} if own else {}


def _from_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, words = read_safetensors(path)
    return arrays, {"recurrax": path} if OWN_HEADER in words else {}


def _from_torch(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    loaded = read_torch(path)
    if hasattr(loaded, "detach"):
        raise Refused(f"{path} holds one tensor without a name; save model.state_dict()")
    return flat(loaded), {}


_READERS: dict[str, Callable[[Path], tuple[dict[str, np.ndarray], dict[str, Any]]]] = {
    ".safetensors": _from_safetensors,
    ".npz": _from_npz,
    ".pt": _from_torch,
    ".pth": _from_torch,
    ".keras": read_keras,
    ".h5": read_h5,
    ".onnx": read_onnx,
}
