"""What cell a tree of params belongs to, in words that a file can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurrax.cells import CELLS
from recurrax.cells.stack import stack

if TYPE_CHECKING:
    from recurrax.cell import Cell

_PROJECTED = ("hidden_size", "projection_size")  # as `w_proj [H, P]` tells them


def describe(params: Any) -> dict[str, Any] | None:
    """The cell that params belong to, as JSON; None for a cell that is not the library's own.

    Args:
      params: of a shipped cell, or of a stack of them.

    Example:
      >>> import jax, recurrax as rx
      >>> rx.interop.describe(rx.cells.gru(3, 8).init(jax.random.key(0)))
      {'family': 'gru', 'input_size': 3, 'hidden_size': 8}
    """
    for family, cell in CELLS.items():
        if isinstance(params, cell.params):
            sizes = {"input_size": params.w_in.shape[0], "hidden_size": params.w_rec.shape[0]}
            if hasattr(params, "w_proj"):
                sizes |= dict(zip(_PROJECTED, params.w_proj.shape, strict=True))
            return {"family": family, **{name: int(size) for name, size in sizes.items()}}
    if type(params) is tuple and params:
        parts = [describe(part) for part in params]
        if all(part is not None for part in parts):
            return {"family": "stack", "cells": parts}
    return None


def rebuild(description: Any, dtype: Any) -> Cell:
    """The cell that a description names.

    Raises:
      ValueError: if it names none.
    """
    family = description.get("family") if isinstance(description, dict) else None
    if family == "stack":
        return stack(*(rebuild(part, dtype) for part in description["cells"]))
    if family not in CELLS:
        raise ValueError(f"unknown cell {family!r}")
    sizes = [description[name] for name in ("input_size", "hidden_size")]
    sizes += [description["projection_size"]] if "w_proj" in CELLS[family].params._fields else []
    return CELLS[family].build(*sizes, dtype=dtype)
