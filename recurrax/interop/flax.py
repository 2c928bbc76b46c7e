"""Weights from and to Flax: the cells of linen and of nnx."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax import checks
from recurrax.interop.layouts.assemble import converted, take_apart
from recurrax.interop.layouts.candidates import Candidate, Found, take
from recurrax.interop.layouts.layers import Direction, Layer
from recurrax.interop.layouts.modules import groups, nested, places

if TYPE_CHECKING:
    from recurrax.interop.layouts.candidates import Prefix
    from recurrax.interop.layouts.modules import Group


class _Spec(NamedTuple):
    """Of which layers a cell consists, each with gates side by side, in our order."""

    kind: str
    gates: int
    inputs: str  # with blanks between them
    recurrent: str
    biased: str  # those whose biases make b
    b_n: str = ""  # the one with the bias inside the reset

    @property
    def needed(self) -> str:
        """The names of the leaves."""
        kernels, biases = f"{self.inputs} {self.recurrent}", f"{self.biased} {self.b_n}"
        leaves = [f"{layer}/kernel" for layer in kernels.split()]
        return " ".join(leaves + [f"{layer}/bias" for layer in biases.split()])


_SPECS = {
    "linen LSTMCell": _Spec("lstm", 4, "ii if ig io", "hi hf hg ho", "hi hf hg ho"),
    "nnx LSTMCell": _Spec("lstm", 4, "ii if_ ig io", "hi hf hg ho", "hi hf hg ho"),
    "nnx OptimizedLSTMCell": _Spec("lstm", 4, "dense_i", "dense_h", "dense_h"),
    "linen GRUCell": _Spec("gru", 3, "ir iz in", "hr hz hn", "ir iz in", "hn"),
    "nnx GRUCell": _Spec("gru", 3, "dense_i", "dense_h", "dense_i"),
    "nnx SimpleCell": _Spec("elman", 1, "dense_i", "dense_h", "dense_i"),
    "linen SimpleCell": _Spec("elman", 1, "i", "h", "i"),
    "linen MGUCell": _Spec("mgu", 2, "if in", "hf hn", "if in"),
}
_KINDS = {name: (spec.needed, "hn/bias") for name, spec in _SPECS.items()}


def from_flax(
    source: Any,
    *,
    prefix: Prefix | None = None,
    activation: str | None = None,
    residual: bool | None = None,
) -> tuple[Any, Any]:
    """A cell and its params from Flax: `LSTMCell`, `OptimizedLSTMCell`, `GRUCell`, `SimpleCell`.

    The kernels of linen, one for each gate, are put side by side; those of nnx are ours as they
    are, but its `GRUCell` has no bias inside the reset: `b_n = 0`. Flax's carry is (c, h), the
    state here (h, c).

    Args:
      source: the params or variables of linen, a module or state of nnx, a mapping of names to
        arrays (a slash or a dot between words), or a path (`.safetensors`, `.npz`). Let Flax or
        Orbax read checkpoints of their own.
      prefix: the path of one cell of several, such as `"params/ScannedRNN_0/GRUCell_1"`; or of
        several as layers, from bottom to top: `("LSTMCell_0", "LSTMCell_1")`, a pair inside being
        (forward, backward): `(("GRUCell_0", "GRUCell_1"),)`.
      activation: `"tanh"`, which is the default, or `"relu"`: the `activation_fn` of a
        `SimpleCell`, which params do not say.
      residual: whether a `SimpleCell` was made with `residual=True`, which they do not say
        either: `w_rec` is its kernel plus the identity.

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params, in the
      dtype of the weights (float64 becomes float32 unless `jax_enable_x64` is on).

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does; and for
        an `MGUCell`, which is none of `rx.cells`.

    Example:
      >>> import numpy as np, recurrax as rx
      >>> layers = {"i": {"kernel": np.ones((3, 8), "f"), "bias": np.zeros(8, "f")}}
      >>> layers["h"] = {"kernel": np.ones((8, 8), "f")}
      >>> rx.interop.from_flax({"params": {"SimpleCell_0": layers}})[0]
      elman(3, 8, float32)

    Source: the documentation of `flax.linen` and `flax.nnx`.
    """
    options = {"activation": activation, "residual": residual}
    return converted(source, [recognise_flax], prefix, **options)


def recognise_flax(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """One candidate for each cell, told by the names of its layers."""
    candidates = []
    for group in groups(arrays, _KINDS):
        spec = _SPECS[group.kind]
        first, rec = (
            group.leaves[f"{group.path}{layers.split()[0]}/kernel"]
            for layers in (spec.inputs, spec.recurrent)
        )
        if rec.ndim != 2 or first.ndim != 2:
            continue  # of a convolution
        size, hidden = first.shape[0], rec.shape[0]
        is_square = rec.shape[1] == hidden
        if spec.biased == "dense_i" and is_square != (spec.kind == "elman"):
            continue  # the other one of nnx with these names
        found = Found(group.prefix, "flax", spec.kind, size, hidden, 1, 1)
        make = {"elman": _vanilla, "mgu": _mgu}.get(spec.kind, _layers)
        candidates.append(Candidate(found, group.sources, partial(make, group, spec)))
    return candidates


def _layers(group: Group, spec: _Spec) -> tuple[Layer, ...]:
    at, leaves = group.path, group.leaves
    size = leaves[f"{at}{spec.inputs.split()[0]}/kernel"].shape[0]
    hidden = leaves[f"{at}{spec.recurrent.split()[0]}/kernel"].shape[0]

    def side_by_side(layers: str, leaf: str, *rows: int) -> np.ndarray:
        names = layers.split()
        columns = spec.gates * hidden // len(names)
        return np.concatenate(
            [take(leaves, f"{at}{name}/{leaf}", *rows, columns) for name in names], -1
        )

    b_n = None
    if spec.kind == "gru":
        zeros = np.zeros(hidden, leaves[f"{at}{spec.recurrent.split()[0]}/kernel"].dtype)
        b_n = take(leaves, f"{at}{spec.b_n}/bias", hidden) if spec.b_n else zeros
    w_in = side_by_side(spec.inputs, "kernel", size)
    w_rec = side_by_side(spec.recurrent, "kernel", hidden)
    return (Layer(Direction(spec.kind, w_in, w_rec, side_by_side(spec.biased, "bias"), b_n)),)


def _vanilla(
    group: Group, spec: _Spec, *, activation: str = "tanh", residual: bool = False
) -> tuple[Layer, ...]:
    checks.check_choice("activation", activation, ("tanh", "relu"))
    cell = _layers(group, spec)[0].forward
    if residual:  # act(x W + h W + b + h)
        cell = cell._replace(w_rec=cell.w_rec + np.eye(len(cell.w_rec), dtype=cell.w_rec.dtype))
    return (Layer(cell._replace(cell="elman" if activation == "tanh" else "elman-relu")),)


def _mgu(group: Group, spec: _Spec) -> tuple[Layer, ...]:
    raise ValueError(
        f"{group.prefix!r} is an MGUCell of Flax, which is none of rx.cells: the example of "
        "rx.gated_cell is one, with a bias inside its reset as unit_init; put the kernels of "
        "f and n side by side"
    )


def to_flax(
    cell: Any,
    params: Any,
    *,
    api: str = "linen",
    prefix: Prefix | None = None,
    optimized: bool = True,
) -> dict[Any, Any]:
    """The params of Flax's cells with these weights, as a nested dict.

    Args:
      cell: an LSTM, a GRU or an Elman cell, both directions of one, or a stack of such.
      params: its params.
      api: `"linen"`: what stands under `"params"` of `LSTMCell` or `OptimizedLSTMCell`, `GRUCell`
        or `SimpleCell`. Or `"nnx"`: what `nnx.replace_by_pure_dict(nnx.state(module), ...)` takes.
      prefix: as of `from_flax`, where in a model the cells go. Without it one cell is not nested,
        and linen's several are called as it calls them itself, `LSTMCell_0`, `LSTMCell_1`, forward
        before backward.
      optimized: for nnx, an `OptimizedLSTMCell`, which has one kernel a side; False for an
        `LSTMCell`, with one for each gate.

    Returns:
      Nested dicts of arrays. What params do not say is the module's own: `activation_fn`,
      `residual=False`, and how the outputs of two directions are merged.

    Raises:
      ValueError: if Flax has no such cell, with the reason.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.lstm(3, 8)
      >>> tree = rx.interop.to_flax(cell, cell.init(jax.random.key(0)), api="nnx")
      >>> {name: sorted(layer) for name, layer in tree.items()}
      {'dense_i': ['kernel'], 'dense_h': ['bias', 'kernel']}
    """
    checks.check_choice("api", api, ("linen", "nnx"))
    layers = take_apart("to_flax", cell, params)
    alone = len(layers) == 1 and layers[0].backward is None
    if api == "nnx" and prefix is None and not alone:
        raise ValueError(
            "to_flax does not know what a module of nnx calls its cells: name each with prefix=, "
            'such as ("cells/0", "cells/1")'
        )
    flat: dict[str, np.ndarray] = {}
    for path, side in places("to_flax", layers, prefix, lambda kind, i: f"{_CLASSES[kind]}_{i}"):
        at = "" if alone and prefix is None else f"{path}/"
        flat |= {f"{at}{leaf}": array for leaf, array in _leaves_of(side, api, optimized).items()}
    return nested(flat, numbers=api == "nnx")


_CLASSES = {
    "lstm": "LSTMCell",
    "gru": "GRUCell",
    "elman": "SimpleCell",
    "elman-relu": "SimpleCell",
    "gru-reset-before": "GRUCell",
    "lstm-projection": "LSTMCell",
}
_REFUSED = {
    "gru-reset-before": "its GRUCell resets after the recurrent product, another function",
    "lstm-projection": "its LSTMCell has no projection",
}


def _leaves_of(side: Direction, api: str, optimized: bool) -> dict[str, np.ndarray]:
    if side.cell in _REFUSED:
        raise ValueError(f"Flax cannot hold a cell {side.cell}: {_REFUSED[side.cell]}")
    which = "Optimized" if (api, side.cell, optimized) == ("nnx", "lstm", True) else ""
    spec = _SPECS[f"{api} {which}{_CLASSES[side.cell]}"]
    leaves: dict[str, np.ndarray] = {}
    for layers, leaf, array in (
        (spec.inputs, "kernel", side.w_in),
        (spec.recurrent, "kernel", side.w_rec),
        (spec.biased, "bias", side.b),
    ):
        names = layers.split()
        blocks = np.split(array, len(names), -1)
        leaves |= {f"{name}/{leaf}": block for name, block in zip(names, blocks, strict=True)}
    if side.b_n is not None and spec.b_n:
        leaves[f"{spec.b_n}/bias"] = side.b_n
    elif side.b_n is not None and side.b_n.any():
        raise ValueError(
            "nnx.GRUCell has no bias inside its reset, but unit.b_n is not zero, so that no "
            'weights of that cell compute the same. linen\'s has one: api="linen"'
        )
    return leaves
