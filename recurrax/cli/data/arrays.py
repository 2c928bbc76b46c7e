"""Arrays of NumPy's own files."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np

from recurrax.cli.data.asked import Found, listed
from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path

_SAVE = {
    "i": (
        "numbers with xs.astype('float32'), and token ids as one-hot rows, np.eye(vocabulary)[ids]"
    ),
    "b": "xs.astype('float32')",
    "c": "real and imaginary parts as features, np.concatenate([xs.real, xs.imag], -1)",
    "V": "one float array [T, I], such as numpy.lib.recfunctions.structured_to_unstructured(xs)",
    "M": "numbers, such as (xs - xs[0]) / np.timedelta64(1, 'D')",
    "m": "numbers, such as xs / np.timedelta64(1, 's')",
}
_SAVE["u"] = _SAVE["i"]


def read_array(path: Path, file: IO[Any], name: str | None) -> Found:
    """A `.npy`, or one array of an `.npz`: `xs`, the only one, or the one of that name."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if name is not None:
                raise Mistake(f"--array {name} is for an .npz; {path} holds one array without name")
            return _checked(path, loaded)
        with loaded:
            return _checked(path, np.asarray(loaded[_chosen(path, loaded.files, name)]))
    except (Mistake, OSError):
        raise
    except Exception:  # zip, zlib, the header's own parser: each has errors of its own
        raise Mistake(
            f"{path} cannot be read as a NumPy file of plain numbers; write it with "
            "np.save(path, xs), xs being one float array [T, I] or [T, B, I]"
        ) from None


def _chosen(path: Path, names: list[str], asked: str | None) -> str:
    if asked is None and ("xs" in names or len(names) == 1):
        return "xs" if "xs" in names else names[0]
    there = listed(names, 12)
    if not names:
        raise Mistake(f"{path} holds no array; save one with np.savez(path, xs=xs)")
    if asked is None:
        raise Mistake(f"{path} holds {len(names)} arrays ({there}); name one with --array NAME")
    if asked not in names:
        raise Mistake(f"--array {asked}: {path} has no such array; it holds {there}")
    return asked


def _checked(path: Path, array: np.ndarray) -> Found:
    if array.dtype.kind != "f":
        save = _SAVE.get(array.dtype.kind, "numbers with xs.astype('float32')")
        raise Mistake(f"{path} holds {array.dtype}, expected floating point; save {save}")
    whole = array[:, None] if array.ndim == 1 else array
    if whole.ndim not in (2, 3) or 0 in whole.shape:
        raise Mistake(
            f"{path} has shape {array.shape}, expected [T, I] or [T, B, I] with T, B, I >= 1"
        )
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinite, and is told
        return Found(whole.astype(np.float64))
