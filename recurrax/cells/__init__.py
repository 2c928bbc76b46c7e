"""Recurrent cells, as pure functions.

The vanilla network of Elman, LSTM and GRU, and two relatives that other libraries have: the GRU
that resets first, and the LSTM with a projection. A cell is a file, its names here, and a row of
`CELLS`, from which the command, the presets and stored files build theirs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from recurrax.cells.elman import ElmanParams, ElmanReluParams, ElmanState, elman, elman_step
from recurrax.cells.gru import GRUParams, GRUState, GRUUnit, gru, gru_step
from recurrax.cells.gru_reset_before import (
    GRUResetBeforeParams,
    gru_reset_before,
    gru_reset_before_step,
)
from recurrax.cells.lstm import LSTMParams, LSTMState, lstm, lstm_step
from recurrax.cells.lstm_projection import (
    LSTMProjectionParams,
    LSTMProjectionState,
    lstm_projection,
    lstm_projection_step,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.cell import Cell

__all__ = [
    "ElmanParams",
    "ElmanReluParams",
    "ElmanState",
    "GRUParams",
    "GRUResetBeforeParams",
    "GRUState",
    "GRUUnit",
    "LSTMParams",
    "LSTMProjectionParams",
    "LSTMProjectionState",
    "LSTMState",
    "elman",
    "elman_step",
    "gru",
    "gru_reset_before",
    "gru_reset_before_step",
    "gru_step",
    "lstm",
    "lstm_projection",
    "lstm_projection_step",
    "lstm_step",
]


class Gates(NamedTuple):
    """How many gates a cell has, and which of them forgets and lets in, counted from 0."""

    number: int
    forget: int
    input: int | None  # None if the gate that forgets lets in as well


class NamedCell(NamedTuple):
    """A row of the table."""

    build: Callable[..., Cell]  # build(input_size, hidden_size, **options)
    params: Any  # the class of its params, which no other row shares
    gates: Gates | None  # None if it has no gate that forgets


CELLS: dict[str, NamedCell] = {
    "elman": NamedCell(elman, ElmanParams, None),
    "elman-relu": NamedCell(partial(elman, activation="relu"), ElmanReluParams, None),
    "lstm": NamedCell(lstm, LSTMParams, Gates(number=4, forget=1, input=0)),
    "gru": NamedCell(gru, GRUParams, Gates(number=3, forget=1, input=None)),
    "gru-reset-before": NamedCell(
        gru_reset_before, GRUResetBeforeParams, Gates(number=3, forget=1, input=None)
    ),
    "lstm-projection": NamedCell(
        lstm_projection, LSTMProjectionParams, Gates(number=4, forget=1, input=0)
    ),
}
