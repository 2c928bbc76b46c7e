"""Params in one file: `.npz` or `.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.interop.describe import describe, rebuild
from recurrax.interop.disk import replaced

if TYPE_CHECKING:
    import os

    from recurrax.cell import Cell

_FORMAT = "recurrax-params-1"
_HEADER = "__recurrax__"


class Weights(NamedTuple):
    """What a file holds."""

    cell: Cell
    params: Any


def save(path: str | os.PathLike[str], params: Any) -> None:
    """Write params, and what cell they belong to, to one file.

    Args:
      path: ends in `.npz` or `.safetensors` (the latter needs the package safetensors). Written
        beside it first and then moved into place, so that no half a file is ever left.
      params: the params of a cell or a stack, or any pytree of arrays. A wrapper such as
        `rx.residual` has the params of the cell inside: name the wrapper when loading.

    Raises:
      ValueError: if the path has another ending, or params hold no array.
      ImportError: if safetensors is asked for and not installed.

    Example:
      >>> import jax, tempfile, pathlib, recurrax as rx
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "lstm.npz"
      >>> rx.interop.save(path, rx.cells.lstm(3, 8).init(jax.random.key(0)))
      >>> cell, params = rx.interop.load(path)
      >>> cell == rx.cells.lstm(3, 8), params.w_rec.shape
      (True, (8, 32))
    """
    path = _checked(path)
    arrays: dict[str, Any] = {}
    dtypes = {}
    for key, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        name = "params" + jax.tree_util.keystr(key)
        dtypes[name] = str(array.dtype)
        # bfloat16 is foreign to NumPy's files; its bits are not.
        arrays[name] = array.view(np.uint16) if array.dtype == jnp.bfloat16 else array
    if not arrays:
        raise ValueError("params hold no array, so there is nothing to save")
    header = json.dumps({"format": _FORMAT, "cell": describe(params), "dtypes": dtypes})
    with replaced(path) as part:
        if path.suffix == ".npz":
            with part.open("wb") as file:
                np.savez(file, allow_pickle=False, **{_HEADER: np.array(header)}, **arrays)
        else:
            contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
            _safetensors().numpy.save_file(contiguous, part, {_HEADER: header})


def load(path: str | os.PathLike[str], cell: Cell | None = None) -> Weights:
    """Read what `save` wrote.

    Args:
      path: ends in `.npz` or `.safetensors`.
      cell: the cell the params belong to. Needed for a cell of your own; one of the library's is
        named in the file.

    Returns:
      The cell and its params.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file cannot be read, was not written by `save`, does not say which cell
        it is for, or holds arrays that do not fit the cell.

    Example:
      >>> import jax, tempfile, pathlib, recurrax as rx
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "gru.npz"
      >>> rx.interop.save(path, rx.cells.gru(3, 8).init(jax.random.key(0)))
      >>> type(rx.interop.load(path).params).__name__
      'GRUParams'
    """
    path = _checked(path)
    header, arrays = _read(path)
    if cell is None:
        if header["cell"] is None:
            raise ValueError(
                f"{path} holds params of a cell that is not the library's own: name it, "
                "rx.interop.load(path, cell)"
            )
        try:
            cell = rebuild(header["cell"], next(iter(arrays.values())).dtype)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} describes a cell that cannot be built: {error}") from None
    like = jax.eval_shape(cell.init, jax.random.key(0))
    leaves = []
    for key, expected in jax.tree_util.tree_leaves_with_path(like):
        name = "params" + jax.tree_util.keystr(key)
        got = arrays.pop(name, None)
        if got is None or got.shape != expected.shape:
            came = "no such array" if got is None else f"shape {got.shape}"
            raise ValueError(
                f"{path} does not fit the cell: {name} should have shape {expected.shape}, "
                f"the file has {came}"
            )
        leaves.append(jnp.asarray(got))
    if arrays:
        raise ValueError(f"{path} does not fit the cell: it also holds {', '.join(arrays)}")
    return Weights(cell, jax.tree.unflatten(jax.tree.structure(like), leaves))


def _checked(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path must end in .npz or .safetensors, got {path.name!r}")
    return path


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file, in the dtypes they were saved with."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        if path.suffix == ".npz":
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop(_HEADER)))
        else:
            with _safetensors().safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                header = json.loads(file.metadata()[_HEADER])
        file_format, dtypes, _ = header["format"], header["dtypes"], header["cell"]
        for name, array in arrays.items():
            arrays[name] = array.view(jnp.bfloat16) if dtypes[name] == "bfloat16" else array
            jax.eval_shape(jnp.asarray, arrays[name])  # a dtype that JAX has
        if not arrays:
            raise ValueError("it holds no array")
    except ImportError:
        raise
    except Exception as error:  # each reader has errors of its own for a damaged file
        raise ValueError(
            f"{path} is damaged, or was not written by rx.interop.save ({type(error).__name__})"
        ) from None
    if file_format != _FORMAT:
        raise ValueError(f"{path} is of format {file_format!r}; this version reads {_FORMAT!r}")
    return header, arrays


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "a .safetensors file needs safetensors: pip install 'recurrax[interop]'"
        ) from None
    return safetensors
