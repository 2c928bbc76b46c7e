"""Recurrent cells, as pure functions: the vanilla network of Elman, LSTM and GRU."""

from recurrax.cells.elman import ElmanParams, ElmanReluParams, ElmanState, elman, elman_step
from recurrax.cells.gru import GRUParams, GRUState, GRUUnit, gru, gru_step
from recurrax.cells.lstm import LSTMParams, LSTMState, lstm, lstm_step

__all__ = [
    "ElmanParams",
    "ElmanReluParams",
    "ElmanState",
    "GRUParams",
    "GRUState",
    "GRUUnit",
    "LSTMParams",
    "LSTMState",
    "elman",
    "elman_step",
    "gru",
    "gru_step",
    "lstm",
    "lstm_step",
]
