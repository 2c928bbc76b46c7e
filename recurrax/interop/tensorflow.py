"""Weights from the cells of TensorFlow 1, which later versions have as `tf.compat.v1`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.interop.layouts.assemble import converted
from recurrax.interop.layouts.candidates import Candidate, Found, forgetting, reordered, take
from recurrax.interop.layouts.layers import Direction, Layer
from recurrax.interop.layouts.modules import groups, last_word

if TYPE_CHECKING:
    from recurrax.interop.layouts.candidates import Prefix
    from recurrax.interop.layouts.modules import Group

_PEEPHOLES = "w_f_diag w_i_diag w_o_diag"
_KINDS = {
    "lstm": ("kernel bias", f"projection/kernel {_PEEPHOLES}"),
    "gru-reset-before": ("gates/kernel gates/bias candidate/kernel candidate/bias", ""),
}
_SLOTS = ("Adam", "Momentum", "RMSProp", "Adagrad", "Ftrl")  # of optimizers, below a variable
_IJFO = (0, 2, 1, 3)  # i j f o to i f g o


def from_tensorflow(
    source: Any, *, prefix: Prefix | None = None, forget_bias: float | None = None
) -> tuple[Any, Any]:
    """A cell and its params from TensorFlow 1: `LSTMCell`, `BasicLSTMCell`, `GRUCell`.

    The rows of `kernel [I+H, 4*H]` are those of x, then those of h, its gates i, j, f, o; the GRU
    resets before the product.

    Args:
      source: a mapping of the variables' names to arrays, as
        `{name: reader.get_tensor(name) ...}` with `reader = tf.train.load_checkpoint(path)`, or a
        path (`.npz`, `.safetensors`). What optimizers keep beside them is passed over.
      prefix: the path of one cell of several, such as `"rnn/multi_rnn_cell/cell_0/lstm_cell"`; or
        of several as layers, from bottom to top, a pair inside being (forward, backward). An LSTM
        of which no module is called one must be named: its leaves are those of any dense layer.
      forget_bias: what the LSTM adds to its forget gate, an argument of its constructor that no
        checkpoint holds: 1, its default, unless told otherwise; 0 for what a `CudnnLSTM` saved.

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params, in the
      dtype of the weights (float64 becomes float32 unless `jax_enable_x64` is on).

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does; and for
        an LSTM with peepholes, which is none of `rx.cells`.

    Example:
      >>> import numpy as np, recurrax as rx
      >>> weights = {"kernel": np.ones((11, 32), "f"), "bias": np.zeros(32, "f")}
      >>> weights = {f"rnn/lstm_cell/{name}": array for name, array in weights.items()}
      >>> cell, params = rx.interop.from_tensorflow(weights)
      >>> params.w_in.shape, params.w_rec.shape, float(params.b[8])
      ((3, 32), (8, 32), 1.0)

    Source: the documentation of `tf.compat.v1.nn.rnn_cell`.
    """
    recogniser = recognise_tensorflow if prefix is None else _recognise_by_shape
    return converted(source, [recogniser], prefix, forget_bias=forget_bias)


def recognise_tensorflow(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """One candidate for each cell: a GRU, or what is called an LSTM."""
    return [
        one
        for group, one in _recognised(arrays)
        if group.kind == "gru-reset-before" or "lstm" in last_word(group)
    ]


def _recognise_by_shape(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """As well those whose module has another name."""
    return [one for _, one in _recognised(arrays)]


def _recognised(arrays: dict[str, np.ndarray]) -> list[tuple[Group, Candidate]]:
    own = {
        name: array
        for name, array in arrays.items()
        if not name.rpartition("/")[2].startswith(_SLOTS)
    }
    found = []
    for group in groups(own, _KINDS):
        leaf = "kernel" if group.kind == "lstm" else "candidate/kernel"
        kernel = group.leaves[f"{group.path}{leaf}"]
        if kernel.ndim != 2:
            continue
        kind, hidden = group.kind, kernel.shape[1] // (4 if group.kind == "lstm" else 1)
        projection = group.leaves.get(f"{group.path}projection/kernel")
        given = hidden
        if projection is not None:
            kind, given = "lstm-projection", projection.shape[-1]
        sizes = Found(group.prefix, "tensorflow", kind, kernel.shape[0] - given, hidden, 1, 1)
        make = _gru if kind == "gru-reset-before" else _lstm
        found.append((group, Candidate(sizes, group.sources, partial(make, group, sizes, given))))
    return found


def _lstm(group: Group, found: Found, given: int, *, forget_bias: float = 1.0) -> tuple[Layer, ...]:
    at, leaves = group.path, group.leaves
    if any(f"{at}{name}" in leaves for name in _PEEPHOLES.split()):
        raise ValueError(
            f"{group.prefix!r} has peepholes, from its c to its gates, which none of rx.cells has: "
            "write it as a rx.gated_cell with the three as unit_init"
        )
    size, hidden = max(1, found.input_size), found.hidden_size
    kernel = reordered(take(leaves, f"{at}kernel", size + given, 4 * hidden), _IJFO)
    b = forgetting(reordered(take(leaves, f"{at}bias", 4 * hidden), _IJFO), forget_bias)
    proj = None
    if found.kind == "lstm-projection":
        proj = take(leaves, f"{at}projection/kernel", hidden, given)
    return (Layer(Direction(found.kind, kernel[:size], kernel[size:], b, None, proj)),)


def _gru(group: Group, found: Found, given: int) -> tuple[Layer, ...]:
    size, hidden = max(1, found.input_size), found.hidden_size
    columns = {"gates": 2 * hidden, "candidate": hidden}  # r and z, then n
    kernel, b = (
        np.concatenate(
            [
                take(group.leaves, f"{group.path}{part}/{leaf}", *rows, width)
                for part, width in columns.items()
            ],
            -1,
        )
        for leaf, rows in (("kernel", (size + hidden,)), ("bias", ()))
    )
    return (Layer(Direction("gru-reset-before", kernel[:size], kernel[size:], b)),)
