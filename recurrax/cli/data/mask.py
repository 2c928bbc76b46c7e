"""Sequences of different lengths: the mask or the lengths that stand in an `.npz` beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.cli.console import Mistake
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAMES = ("mask", "lengths")


def mask_in(path: Path, arrays: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray | None:
    """Return which steps of `[T, I]` or `[T, B, I]` are there, as the file says; None if all are.

    Args:
      path: of the file, for messages.
      arrays: what it holds, among it perhaps `mask`, bool `[T, B]`, or `lengths`, ints `[B]`.
      shape: of the sequences.

    Returns:
      A bool array of that shape without its last axis.

    Raises:
      Mistake: if there are both, their shape or kind is another, or no step is left.
    """
    found = [name for name in NAMES if name in arrays]
    if not found:
        return None
    if len(found) > 1:
        raise Mistake(f"{path} holds both a mask and lengths; save one of them")
    given = np.asarray(arrays[found[0]])
    mask = (
        _from_mask(path, given, shape) if found == ["mask"] else _from_lengths(path, given, shape)
    )
    if not mask.any():
        says = "mask says" if found == ["mask"] else "lengths say"
        raise Mistake(f"{path}: its {says} that no step is there, so none can be measured")
    return mask


def _from_mask(path: Path, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if mask.dtype != bool:
        raise Mistake(
            f"the mask in {path} holds {mask.dtype}, expected bool, True where a step is there; "
            "save mask.astype(bool)"
        )
    if mask.shape != shape[:-1]:
        turned = mask.shape == shape[-2::-1] and len(set(shape[:-1])) > 1
        raise Mistake(
            f"the mask in {path} has shape {mask.shape}, expected {shape[:-1]}, "
            f"{'[T]' if len(shape) == 2 else '[T, B]'} of the sequences {shape}"
            f"{'; save mask.T' if turned else ''}"
        )
    return mask


def _from_lengths(path: Path, lengths: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    whole, sequences = shape[0], shape[1:-1]
    if lengths.dtype.kind not in "iu":
        raise Mistake(
            f"the lengths in {path} are {lengths.dtype}, expected integers; save "
            "lengths.astype(int)"
        )
    if lengths.size != int(np.prod(sequences)) or lengths.ndim > 1:
        raise Mistake(
            f"the lengths in {path} have shape {lengths.shape}, expected one for each of "
            f"{int(np.prod(sequences))} sequences, [B]"
        )
    wrong = lengths[(lengths < 0) | (lengths > whole)]
    if wrong.size:
        raise Mistake(
            f"the lengths in {path} must be from 0 to T = {whole}, got {int(wrong.flat[0])}; are "
            "the sequences [T, B, I], time first?"
        )
    steps = np.arange(whole).reshape(whole, *[1] * len(sequences))
    mask: np.ndarray = steps < lengths.reshape(sequences)
    return mask


def without_empty(
    name: str, xs: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the sequences `[T, B, I]` that have a step, zero where none is, and a note.

    Raises:
      Mistake: if none has one.
    """
    there = np.asarray(mask.any(0))
    if not there.any():
        raise Mistake(
            f"{name}: no sequence has a step among the first {steps_of(len(mask))}, as its mask "
            "says; --length measures more"
        )
    mask = mask[:, there]
    counts = mask.sum(0)
    note = f"{name}: its sequences have {counts.min()} to {steps_of(counts.max())}"
    if not there.all():
        note += f"; {int((~there).sum())} of {len(there)} have none and are left out"
    return np.where(mask[..., None], xs[:, there], 0), mask, note
