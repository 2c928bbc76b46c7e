"""Names and arrays out of `.safetensors`, `.npz`, and torch's `.pt` and `.pth`."""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from typing import IO, TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from recurrax.interop.reading.limits import Refused, check_members, readable

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_HEADER = 100_000_000  # bytes, as the format says
_SAFETENSORS: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "U16": np.uint16,
    "I32": np.int32,
    "U32": np.uint32,
    "I64": np.int64,
    "U64": np.uint64,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
    "BF16": jnp.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, which stay on the disk until they are used, and the words beside them."""
    with readable(path, ".safetensors file"):
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                raise Refused(
                    f"{path} is cut off, or is no .safetensors file: it has {size:,} bytes, and "
                    f"its header should have {length:,}"
                )
            header = json.loads(file.read(length))
        words = header.pop("__metadata__", {})
        begin = 8 + length
        memory = np.memmap(path, np.uint8, "r", begin) if size > begin else np.zeros(0, np.uint8)
        arrays = {name: _part(path, memory, name, **entry) for name, entry in header.items()}
    return arrays, words


def _part(
    path: Path, memory: Any, name: str, *, dtype: str, shape: list[int], data_offsets: list[int]
) -> np.ndarray:
    if dtype not in _SAFETENSORS:
        raise Refused(f"{path} holds {name} as {dtype}, which NumPy has no type for")
    kind, (start, end) = np.dtype(_SAFETENSORS[dtype]), data_offsets
    if not 0 <= start <= end <= memory.size or math.prod(shape) * kind.itemsize != end - start:
        raise Refused(
            f"{path} is cut off or damaged: {name}, {dtype}{shape}, should lie in the bytes "
            f"{start:,} to {end:,} of {memory.size:,}"
        )
    part: np.ndarray = memory[start:end].view(kind).reshape(shape)
    return part


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz`, none of which may hold Python objects."""
    arrays = {}
    with readable(path, ".npz file"), zipfile.ZipFile(path) as archive:
        check_members(path, archive)
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                arrays[name] = _npy(path, name, file, member.file_size)
    return arrays


def _npy(path: Path, name: str, file: IO[bytes], size: int) -> np.ndarray:
    """As `np.load`, which makes room for what a header declares before it looks for it."""
    shape, by_column, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    if dtype.hasobject:
        raise Refused(
            f"{path} holds Python objects in {name}, a pickle, which could run any code and so is "
            "not loaded. Save plain arrays of numbers."
        )
    declared, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != there:
        raise Refused(
            f"{path} is cut off or damaged: {name} declares {dtype}{list(shape)}, {declared:,} "
            f"bytes, and has {there:,}"
        )
    if dtype == np.dtype("V2"):  # how NumPy writes what it has no name for
        dtype = np.dtype(jnp.bfloat16)
    array = np.frombuffer(file.read(declared), dtype)
    return array.reshape(shape, order="F" if by_column else "C")


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, of tensors and plain containers alone."""
    try:
        import torch
    except ImportError:
        raise ImportError(
            f"{path} needs torch to be read: pip install torch, or save the weights with "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        ) from None
    with path.open("rb") as file, readable(path, "file of torch"):
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                check_members(path, archive)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it does to files of other kinds
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # of the unpickler, the zip and the tensors' own readers
            raise Refused(
                f"{path} cannot be read as tensors alone: it is damaged or cut off, or holds a "
                "pickle of more, which could run any code and so is not loaded. Save the weights "
                "alone: torch.save(model.state_dict(), path)"
            ) from None
