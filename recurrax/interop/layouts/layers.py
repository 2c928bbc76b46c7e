"""Recurrent layers in the library's own layout: what every converter gives and takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


class Direction(NamedTuple):
    """The weights of one cell, its gates in the library's order, rows as vectors."""

    cell: str  # a name in `recurrax.cells.CELLS`
    w_in: np.ndarray  # [I, G*H]
    w_rec: np.ndarray  # [H, G*H], or [P, G*H] with a projection
    b: np.ndarray  # [G*H], zeros in a layer without bias
    b_n: np.ndarray | None = None  # [H], a GRU's bias inside the reset
    w_proj: np.ndarray | None = None  # [H, P], an LSTM's projection of h


class Layer(NamedTuple):
    """One layer, in one direction or both."""

    forward: Direction
    backward: Direction | None = None
    merge: str = "concat"  # how the outputs of two directions are joined


def layer_of(sides: Sequence[Direction], merge: str = "concat") -> Layer:
    """The layer of one direction or two."""
    forward, *back = sides
    return Layer(forward, back[0] if back else None, merge)
