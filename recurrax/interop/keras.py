"""Weights from and to Keras: `LSTM`, `GRU`, `SimpleRNN`, `Bidirectional` and `RNN` of a cell."""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recurrax.interop.keras_config import Said, what_is_said
from recurrax.interop.layouts.assemble import converted, take_apart
from recurrax.interop.layouts.candidates import Candidate, Found, reordered, take
from recurrax.interop.layouts.layers import Direction, Layer, layer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recurrax.interop.layouts.candidates import Prefix

_KINDS = {1: "elman", 3: "gru", 4: "lstm"}
_GRU = (1, 0, 2)  # Keras has z r h, the library r z n; the same swap both ways
_LEAVES = ("kernel", "recurrent_kernel", "bias")
_Leaves: TypeAlias = "dict[str, np.ndarray]"  # kernel, recurrent kernel and bias, by their names


def from_keras(
    source: Any,
    *,
    prefix: Prefix | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    reset_after: bool | None = None,
    go_backwards: bool | None = None,
    merge_mode: str | None = None,
) -> tuple[Any, Any]:
    """A cell and its params from Keras: LSTM, GRU, SimpleRNN, and both directions of one.

    Keras lays out an LSTM as the library does, the 1 of `unit_forget_bias` included. A GRU's gates
    z, r, h become r, z, n; with `reset_after` the second row of its bias is `b_n` for h and joins
    the first for the others, and without it the cell is a `gru_reset_before`.

    Args:
      source: a path (`.keras`, `.weights.h5`, `.h5`, which need h5py), a layer or a model, what
        `get_weights()` returns, or names and arrays.
      prefix: which of several recurrent layers: its name in Keras, in a list the number of its
        first array; or a tuple of several that stand on each other, from bottom to top.
      activation: `"tanh"` or `"relu"` of a SimpleRNN. Needed where the source has no configuration,
        as in a list or a `.weights.h5`. LSTM and GRU have tanh here; a configuration that says
        another is refused.
      recurrent_activation: `"sigmoid"`, which the gates of LSTM and GRU have here, likewise.
      reset_after: whether a GRU resets after the recurrent product. Needed of one without bias and
        without configuration; else the bias tells.
      go_backwards: False takes a layer that reads its inputs from the last one as a cell, which is
        to be unrolled over `xs[::-1]`: its outputs then come in the order in which Keras has them.
      merge_mode: `"concat"`, `"sum"`, `"mul"` or `"ave"`, of both directions; by default what the
        configuration says, without one `"concat"`.

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params.

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does.

    Example:
      >>> import numpy as np, recurrax as rx
      >>> shapes = (3, 24), (8, 24), (2, 24)  # GRU(8) on 3 features, as get_weights() has it
      >>> cell, params = rx.interop.from_keras([np.ones(shape, "f") for shape in shapes])
      >>> cell, params.unit.b_n.shape
      (gru(3, 8, float32), (8,))

    Source: keras.layers' documentation of LSTM, GRU and SimpleRNN.
    """
    options = {"activation": activation, "recurrent_activation": recurrent_activation}
    options |= {"merge_mode": merge_mode}
    flags = {"reset_after": reset_after, "go_backwards": go_backwards}
    return converted(source, [recognise_keras], prefix, **options, **flags)


def recognise_keras(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """One candidate for each layer, or pair of layers, in the model's order where that is said."""
    said = config.get("keras", {"model": None, "names": {}})
    layers = _layers_of(_cells_of(arrays))
    names = {path: said["names"].get(path, path.rpartition("/")[2]) for path in layers}
    candidates: list[tuple[int, Candidate]] = []
    for path, sides in layers.items():
        name = names[path] if list(names.values()).count(names[path]) == 1 else path
        place, about = what_is_said(said["model"], path, names[path])
        leaves = {leaf: array for side in sides for leaf, array in side.items()}
        kind, size, hidden = _sizes(sides[0])
        if kind == "gru" and about[0].reset_after is False:
            kind = "gru-reset-before"
        found = Found(name, "keras", kind, size, hidden, 1, len(sides))
        convert = partial(_convert, found, sides, about)
        if kind == "elman" and about[0].activation == "relu":
            found = found._replace(kind="elman-relu")
        candidates.append((place, Candidate(found, leaves, convert)))
    return [one for _, one in sorted(candidates, key=lambda pair: pair[0])]


def _cells_of(arrays: Mapping[str, np.ndarray]) -> dict[str, _Leaves]:
    """The two or three arrays of each cell, by the path that they share."""
    cells: dict[str, _Leaves] = {}
    rows: dict[str, list[str]] = {}
    for name in arrays:
        path, _, leaf = name.rpartition("/")
        if leaf == "recurrent_kernel":
            beside = [name.removesuffix(leaf) + word for word in _LEAVES]
            cells[path] = {one: arrays[one] for one in beside if one in arrays}
        elif leaf.isdecimal():
            rows.setdefault(path, []).append(name)
    for path, names in rows.items():
        names.sort(key=lambda name: int(name.rpartition("/")[2]))
        at = 0
        while at < len(names):
            count = _fitting([arrays[name] for name in names[at : at + 3]])
            if count:
                whole = path.removesuffix("vars").rstrip("/") if count == len(names) else names[at]
                cells[whole] = {name: arrays[name] for name in names[at : at + count]}
            at += count or 1
    return cells


def _fitting(row: list[np.ndarray]) -> int:
    """How many of these arrays are kernel, recurrent kernel and bias of one cell, or 0."""
    if len(row) < 2 or row[0].ndim != 2 or row[1].ndim != 2:
        return 0
    hidden, columns = row[1].shape
    if columns not in (hidden, 3 * hidden, 4 * hidden) or row[0].shape[1] != columns or not hidden:
        return 0
    return 2 + (len(row) > 2 and row[2].shape in ((columns,), (2, columns)))


def _layers_of(cells: Mapping[str, _Leaves]) -> dict[str, list[_Leaves]]:
    """The cells of each layer, two where it has both directions."""
    pairs = _named_pairs(cells) | _listed_pairs(cells)
    seconds = {second for _, second in pairs.values()}
    owners = {path: re.sub(r"(^|/)(\w+_)?cell(_\d+)?$", "", path) for path in cells}
    layers: dict[str, list[_Leaves]] = {}
    for path, leaves in cells.items():
        if path in pairs:
            place, second = pairs[path]
            layers[place] = [leaves, cells[second]]
        elif path not in seconds:  # cells that one RNN stacks keep their own names
            alone = list(owners.values()).count(owners[path]) == 1
            layers[owners[path] if alone else path] = [leaves]
    return layers


def _named_pairs(cells: Mapping[str, _Leaves]) -> dict[str, tuple[str, str]]:
    """By its first cell, the place and the second cell of what is called forward and backward."""
    halves: dict[tuple[str, str], dict[str, str]] = {}
    for path in cells:
        parts = path.split("/")
        for i, part in enumerate(parts):
            side, _, rest = part.partition("_")
            if side in ("forward", "backward") and rest:
                halves.setdefault(("/".join(parts[:i]), rest), {})[side] = path
    return {
        both["forward"]: (place, both["backward"])
        for (place, _), both in halves.items()
        if len(both) == 2
    }


def _listed_pairs(cells: Mapping[str, _Leaves]) -> dict[str, tuple[str, str]]:
    """The same of get_weights(), where one direction follows the other.

    Of two layers the second takes the H features of the first, and so has another shape, unless
    both take H: then they are two.
    """
    pairs: dict[str, tuple[str, str]] = {}
    for path, after in itertools.pairwise(cells):
        first, second = ([array.shape for array in cells[one].values()] for one in (path, after))
        listed = path.rpartition("/")[2].isdecimal() and after.rpartition("/")[2].isdecimal()
        taken = any(path == other for _, other in pairs.values())
        if listed and first == second and first[0][0] != first[1][0] and not taken:
            pairs[path] = path, after
    return pairs


def _sizes(leaves: _Leaves) -> tuple[str, int, int]:
    """Kind, I and H of a cell."""
    names = list(leaves)
    if len(names) < 2 or any(leaves[name].ndim != 2 for name in names[:2]):
        words = ", ".join(f"{name} {list(leaves[name].shape)}" for name in names)
        raise ValueError(f"{words}: a recurrent layer has a kernel [I, G*H] and one [H, G*H]")
    (size, columns), (hidden, _) = (leaves[name].shape for name in names[:2])
    gates = columns // hidden if hidden and columns % hidden == 0 else 0
    if gates not in _KINDS:
        raise ValueError(
            f"{names[0]} of shape {[size, columns]} and {names[1]} of shape "
            f"{list(leaves[names[1]].shape)} are no SimpleRNN, GRU or LSTM, whose columns are 1, 3 "
            f"or 4 times the {hidden} units"
        )
    one_bias = len(names) > 2 and leaves[names[2]].ndim == 1
    return "gru-reset-before" if gates == 3 and one_bias else _KINDS[gates], size, hidden


def _convert(
    found: Found,
    sides: list[_Leaves],
    about: list[Said],
    *,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    reset_after: bool | None = None,
    go_backwards: bool | None = None,
    merge_mode: str | None = None,
) -> tuple[Layer, ...]:
    asked = Said(activation, recurrent_activation, reset_after, go_backwards, merge_mode)
    given = {name: value for name, value in asked._asdict().items() if value is not None}
    told = [said._replace(**given) for said in (*about, *about)[: len(sides)]]
    told[0].check_directions(found)
    cells = [_direction(found, leaves, said) for leaves, said in zip(sides, told, strict=True)]
    return (layer_of(cells, told[0].merge_mode or "concat"),)


def _direction(found: Found, leaves: _Leaves, said: Said) -> Direction:
    names, hidden = list(leaves), found.hidden_size
    columns = {"elman": 1, "lstm": 4}.get(found.kind, 3) * hidden
    kernel = take(leaves, names[0], found.input_size, columns)
    recurrent = take(leaves, names[1], hidden, columns)
    cell = said.function("activation", found)
    after = "gru" in found.kind and _resets_after(found, [leaves[name] for name in names[2:]], said)
    rows = (2, columns) if after else (columns,)
    bias = take(leaves, names[2], *rows) if len(names) > 2 else np.zeros(rows, kernel.dtype)
    if found.kind == "elman":
        return Direction("elman" if cell == "tanh" else "elman-relu", kernel, recurrent, bias)
    said.function("recurrent_activation", found)
    if found.kind == "lstm":
        return Direction("lstm", kernel, recurrent, bias)
    kernel, recurrent, bias = (reordered(array, _GRU) for array in (kernel, recurrent, bias))
    if not after:
        return Direction("gru-reset-before", kernel, recurrent, bias)
    merged = bias[1].copy()
    merged[2 * hidden :] = 0  # that of h stays inside the reset
    return Direction("gru", kernel, recurrent, bias[0] + merged, bias[1, 2 * hidden :])


def _resets_after(found: Found, bias: list[np.ndarray], said: Said) -> bool:
    after = said.reset_after
    if bias:
        if after is not None and after != (bias[0].ndim == 2):
            raise ValueError(
                f"{found.prefix!r} has reset_after={after}, with which its bias would have "
                f"{2 if after else 1} axes, but it has shape {list(bias[0].shape)}"
            )
        return bias[0].ndim == 2
    if after is None:
        raise ValueError(
            f"{found.prefix!r} is a GRU without bias, so its weights do not say whether it resets "
            "after the recurrent product: give reset_after=True (Keras' default) or False"
        )
    return after


def to_keras(cell: Any, params: Any, *, use_bias: bool = True) -> list[np.ndarray]:
    """The list that `set_weights` of a Keras layer takes, or of a model of such layers.

    Args:
      cell: an LSTM, a GRU of either kind or an Elman cell, both directions of one in any merge
        mode, or a stack of such, whose layers follow each other in the list.
      params: its params.
      use_bias: False for layers that were made with `use_bias=False`; then every bias must be 0.

    Returns:
      Arrays: kernel, recurrent kernel and bias, of both directions one after the other. The layer
      is made with the `activation`, `reset_after` and `merge_mode` of the cell.

    Raises:
      ValueError: if Keras has no layer of this kind, with the reason.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.gru(3, 8)
      >>> weights = rx.interop.to_keras(cell, cell.init(jax.random.key(0)))
      >>> [array.shape for array in weights]
      [(3, 24), (8, 24), (2, 24)]
    """
    weights: list[np.ndarray] = []
    for layer in take_apart("to_keras", cell, params):
        for side in layer[:2]:
            if isinstance(side, Direction):
                weights += _arrays_of(side, use_bias)
    return weights


def _arrays_of(side: Direction, use_bias: bool) -> list[np.ndarray]:
    if side.w_proj is not None:
        raise ValueError("Keras' LSTM has no projection, so it cannot hold an lstm_projection")
    arrays = [side.w_in, side.w_rec, side.b]
    if side.b_n is not None:
        inside = np.zeros_like(side.b)
        inside[-len(side.b_n) :] = side.b_n
        arrays[2] = np.stack([side.b, inside])
    if side.cell.startswith("gru"):
        arrays = [reordered(array, _GRU) for array in arrays]
    if not use_bias and arrays.pop().any():
        raise ValueError("use_bias=False is for a cell whose biases are all 0, and these are not")
    return arrays
