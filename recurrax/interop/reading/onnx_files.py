"""The constants of an ONNX graph, each of the size that it declares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.interop.reading.limits import Refused, readable

if TYPE_CHECKING:
    from pathlib import Path


def read_onnx(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The constants of a model by name, and its graph."""
    try:
        import onnx
    except ImportError:
        raise ImportError(f"{path} needs onnx: pip install 'recurrax[onnx]'") from None
    with readable(path, ".onnx file"):
        graph = onnx.ModelProto.FromString(path.read_bytes()).graph
        if not graph.node:
            raise Refused(f"{path} is damaged or cut off, or is no .onnx file: it has no node")
        return graph_arrays(graph, path), {"onnx": graph}


def graph_arrays(graph: Any, path: Path | None) -> dict[str, np.ndarray]:
    """The initializers and constants of a graph; what lies in other files, beside `path`."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors |= {
                out: a.t for a in node.attribute for out in node.output if a.type == a.TENSOR
            }
    if not all(isinstance(name, str) for name in tensors):
        raise Refused(f"{path or 'the model'} is damaged: its tensors have names that are no text")
    arrays = {name: _array(name, tensor, path) for name, tensor in tensors.items()}
    return {name: array for name, array in arrays.items() if array is not None}


def _array(name: str, tensor: Any, path: Path | None) -> np.ndarray | None:
    """A tensor, unless it is of words; the shape it declares is compared with what is there."""
    from onnx import TensorProto, helper, numpy_helper

    if tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        return None
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    count, where = math.prod(tensor.dims), path or "the model"
    if tensor.data_location == TensorProto.EXTERNAL:
        return _beside(name, tensor, path, dtype, count)
    if tensor.HasField("raw_data"):
        there = len(tensor.raw_data) / dtype.itemsize
    else:
        field = helper.tensor_dtype_to_field(tensor.data_type)
        there = len(getattr(tensor, field))
    if there != count and dtype.kind == "f":
        raise Refused(
            f"{where} is cut off or damaged: {name} declares {dtype}{list(tensor.dims)}, "
            f"{count:,} numbers, and has {there:,.0f}"
        )
    if there > count or count > 8 * max(there, 1):  # integers of four bits are packed
        return None
    return np.asarray(numpy_helper.to_array(tensor))


def _beside(name: str, tensor: Any, path: Path | None, dtype: Any, count: int) -> np.ndarray:
    """Numbers in a file of their own in the model's folder, which stay there until used."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, start = entries.get("location", ""), int(entries.get("offset", 0))
    if path is None:
        raise Refused(f"{name} lies in another file, {location}: name the model by its path")
    file = path.parent / location
    if not location or file.resolve().parent != path.parent.resolve() or not file.is_file():
        raise Refused(f"{path} keeps {name} in {location!r}, which is no file in its own folder")
    size, declared = file.stat().st_size, count * dtype.itemsize
    if start < 0 or start + declared > size:
        raise Refused(
            f"{file} is cut off: {name} declares {declared:,} bytes from {start:,}, and it has "
            f"{size:,}"
        )
    if not count:
        return np.zeros(tensor.dims, dtype)
    return np.memmap(file, dtype, "r", start, tuple(tensor.dims))
