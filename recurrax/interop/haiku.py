"""Weights from and to Haiku: `LSTM`, `GRU` and `VanillaRNN`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.interop.layouts.assemble import converted, take_apart
from recurrax.interop.layouts.candidates import Candidate, Found, forgetting, reordered, take
from recurrax.interop.layouts.layers import Direction, Layer
from recurrax.interop.layouts.modules import groups, last_word, places

if TYPE_CHECKING:
    from recurrax.interop.layouts.candidates import Prefix
    from recurrax.interop.layouts.modules import Group

_KINDS = {
    "lstm": ("linear/w linear/b", ""),
    "gru-reset-before": ("w_i w_h b", ""),
    "elman-relu": ("linear/w linear/b linear_1/w", "linear_1/b"),
}
_NAMES = {"lstm": "lstm", "gru-reset-before": "gru", "elman-relu": "vanilla_rnn"}
_IGFO = (0, 2, 1, 3)  # i g f o to i f g o, and back


def from_haiku(
    source: Any, *, prefix: Prefix | None = None, forget_bias: float | None = None
) -> tuple[Any, Any]:
    """A cell and its params from Haiku: `LSTM`, `GRU`, `VanillaRNN`.

    Haiku's LSTM computes `sigmoid(f + 1)`, so that 1 is added to its bias here. Its GRU resets
    before the product and has `h = (1 - z) h + z n`: the weights of z change their sign, and the
    cell is `rx.cells.gru_reset_before`. Its vanilla network has a relu; its two biases are added.

    Args:
      source: the params of `hk.transform`, a mapping of names to arrays, or a path
        (`.safetensors`, `.npz`).
      prefix: the path of one cell of several, such as `"net/~/lstm_1"`; or of several as layers,
        from bottom to top: `("lstm", "lstm_1")`, a pair inside being (forward, backward). A cell
        whose module has been given a name of its own must be named: the leaves of an `LSTM` in a
        module are those of any `Linear` in one.
      forget_bias: what the LSTM adds to its forget gate: 1, which Haiku does, unless told
        otherwise, as in gradients, to which nothing is added.

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params, in the
      dtype of the weights (float64 becomes float32 unless `jax_enable_x64` is on).

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does.

    Example:
      >>> import numpy as np, recurrax as rx
      >>> weights = {"lstm/linear": {"w": np.ones((11, 32), "f"), "b": np.zeros(32, "f")}}
      >>> cell, params = rx.interop.from_haiku(weights)
      >>> params.w_in.shape, params.w_rec.shape, float(params.b[8])
      ((3, 32), (8, 32), 1.0)

    Source: the documentation of Haiku's recurrent cores.
    """
    recogniser = recognise_haiku if prefix is None else _recognise_by_shape
    return converted(source, [recogniser], prefix, forget_bias=forget_bias)


def recognise_haiku(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """One candidate for each cell, if its module is called as Haiku calls it or is a GRU."""
    return [one for group, one in _recognised(arrays) if _is_called(group)]


def _recognise_by_shape(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """As well those whose module has another name."""
    return [one for _, one in _recognised(arrays)]


def _is_called(group: Group) -> bool:
    return group.kind == "gru-reset-before" or last_word(group).startswith(_NAMES[group.kind])


def _recognised(arrays: dict[str, np.ndarray]) -> list[tuple[Group, Candidate]]:
    found = []
    for group in groups(arrays, _KINDS):
        w, rec = (
            group.leaves[f"{group.path}{leaf}"]
            for leaf in {
                "lstm": ("linear/w", "linear/w"),
                "elman-relu": ("linear/w", "linear_1/w"),
                "gru-reset-before": ("w_i", "w_h"),
            }[group.kind]
        )
        if w.ndim != 2 or rec.ndim != 2:
            continue
        hidden = w.shape[1] // 4 if group.kind == "lstm" else rec.shape[0]
        size = w.shape[0] - hidden if group.kind == "lstm" else w.shape[0]
        plain = group.kind == "elman-relu" and rec.shape[0] != rec.shape[1]
        fits = size > 0 and hidden > 0 and not plain
        if not fits and not _is_called(group):
            continue  # a Linear, or two
        sizes = Found(group.prefix, "haiku", group.kind, size, hidden, 1, 1)
        make = {"lstm": _lstm, "elman-relu": _vanilla}.get(group.kind, _gru)
        found.append((group, Candidate(sizes, group.sources, partial(make, group, sizes))))
    return found


def _lstm(group: Group, found: Found, *, forget_bias: float = 1.0) -> tuple[Layer, ...]:
    size, hidden = max(1, found.input_size), found.hidden_size
    w = reordered(take(group.leaves, f"{group.path}linear/w", size + hidden, 4 * hidden), _IGFO)
    b = reordered(take(group.leaves, f"{group.path}linear/b", 4 * hidden), _IGFO)
    return (Layer(Direction("lstm", w[:size], w[size:], forgetting(b, forget_bias))),)


def _gru(group: Group, found: Found) -> tuple[Layer, ...]:
    hidden = found.hidden_size
    shapes = {"w_i": (found.input_size, 3 * hidden), "w_h": (hidden, 3 * hidden)}
    arrays = []
    for leaf, shape in (shapes | {"b": (3 * hidden,)}).items():
        z, r, n = np.split(take(group.leaves, f"{group.path}{leaf}", *shape), 3, -1)
        arrays.append(np.concatenate([r, -z, n], -1))  # our z is 1 - z
    return (Layer(Direction("gru-reset-before", *arrays)),)


def _vanilla(group: Group, found: Found) -> tuple[Layer, ...]:
    at, leaves, hidden = group.path, group.leaves, found.hidden_size
    w_in = take(leaves, f"{at}linear/w", found.input_size, hidden)
    w_rec = take(leaves, f"{at}linear_1/w", hidden, hidden)
    b = take(leaves, f"{at}linear/b", hidden)
    if f"{at}linear_1/b" in leaves:  # not with double_bias=False
        b = b + take(leaves, f"{at}linear_1/b", hidden)
    return (Layer(Direction("elman-relu", w_in, w_rec, b)),)


def to_haiku(
    cell: Any,
    params: Any,
    *,
    prefix: Prefix | None = None,
    forget_bias: float = 1.0,
    double_bias: bool = True,
) -> dict[str, dict[str, np.ndarray]]:
    """The params of Haiku's cores with these weights: arrays by the path of a module and a name.

    Args:
      cell: an LSTM, a GRU that resets before the product or an Elman cell with a relu, both
        directions of one, or a stack of such.
      params: its params.
      prefix: as of `from_haiku`, where in a model the cells go; without it they are called as in
        a `DeepRNN`: `lstm`, `lstm_1`, `gru`, `vanilla_rnn`.
      forget_bias: what Haiku's LSTM adds to its forget gate by itself, which is taken off here (so
        that a bias comes back to the rounding of the sum); 0 for gradients.
      double_bias: as of `VanillaRNN`: whether there is a second bias, which is 0 here.

    Returns:
      What `hk.transform(f).apply` takes.

    Raises:
      ValueError: if Haiku has no such core, with the reason.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.gru_reset_before(3, 8)
      >>> tree = rx.interop.to_haiku(cell, cell.init(jax.random.key(0)))
      >>> {name: array.shape for name, array in tree["gru"].items()}
      {'w_i': (3, 24), 'w_h': (8, 24), 'b': (24,)}
    """
    weights: dict[str, dict[str, np.ndarray]] = {}
    layers = take_apart("to_haiku", cell, params)
    for path, side in places("to_haiku", layers, prefix, _automatic):
        at = f"{path}/" if path else ""
        if side.cell == "lstm":
            w = reordered(np.concatenate([side.w_in, side.w_rec]), _IGFO)
            b = reordered(forgetting(side.b, -forget_bias), _IGFO)
            weights[f"{at}linear"] = {"w": w, "b": b}
        elif side.cell == "gru-reset-before":
            blocks = (np.split(array, 3, -1) for array in (side.w_in, side.w_rec, side.b))
            turned = [np.concatenate([-z, r, n], -1) for r, z, n in blocks]
            weights[path] = dict(zip(("w_i", "w_h", "b"), turned, strict=True))
        elif side.cell == "elman-relu":
            second = {"b": np.zeros_like(side.b)} if double_bias else {}
            weights[f"{at}linear"] = {"w": side.w_in, "b": side.b}
            weights[f"{at}linear_1"] = {"w": side.w_rec} | second
        else:
            raise ValueError(f"Haiku cannot hold a cell {side.cell}: {_REFUSED[side.cell]}")
    return weights


def _automatic(cell: str, number: int) -> str:
    """As Haiku counts modules."""
    name = _NAMES.get(cell, cell)
    return f"{name}_{number}" if number else name


_REFUSED = {
    "gru": "its GRU resets before the recurrent product, another function of the same weights",
    "elman": "its VanillaRNN has a relu, not a tanh",
    "lstm-projection": "its LSTM has no projection",
}
