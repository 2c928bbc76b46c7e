"""Weights from and to torch: `nn.LSTM`, `nn.GRU`, `nn.RNN` and their cells."""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax import checks
from recurrax.interop.layouts.assemble import converted, take_apart
from recurrax.interop.layouts.candidates import Candidate, Found, take
from recurrax.interop.layouts.layers import Direction, Layer, layer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LEAF = re.compile(r"((?:.*[./])?)((?:weight|bias)_(?:ih|hh|hr)(?:_l(\d+)(?:_reverse)?)?)")
# A norm and a direction in the place of a weight, as torch names them now and named them once.
_NORMED = re.compile(r"((?:.*[./])?)parametrizations[./](weight_\w+)[./]original(\d?)")
_OLD_NORMED = re.compile(r"((?:.*[./])?)(weight_(?:ih|hh|hr)_l\d+(?:_reverse)?)_([gv])")
_NUMBER = re.compile(r"_l(\d+)(?:_reverse)?$")
_BIAS = re.compile(r"(?:^|[./])bias_[ih]h(?:_l\d+(?:_reverse)?)?$")
_KINDS = {1: "elman", 3: "gru", 4: "lstm"}


def from_torch(
    source: Any, *, prefix: str | None = None, activation: str | None = None
) -> tuple[Any, Any]:
    """A cell and its params from torch: LSTM, GRU, RNN, with layers, directions, projection.

    torch's `W_ih [G*H, I]`, `W_hh [G*H, H]` are transposed and `b = b_ih + b_hh`, but for the
    GRU's n, whose recurrent bias stays inside the reset: `b_n`. Weights under `weight_norm` are
    multiplied out.

    Args:
      source: a path (`.pt`, `.pth`, which need torch and are read with `weights_only=True`,
        `.safetensors`, `.npz`), a state_dict, or a module.
      prefix: which of several recurrent layers: their names without `.weight_ih_l0`.
      activation: `"tanh"` or `"relu"` of an `nn.RNN` or `nn.RNNCell`, which a state_dict does not
        say.

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params, in the
      dtype of the weights (float64 becomes float32 unless `jax_enable_x64` is on).

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does.

    Example:
      >>> import numpy as np, recurrax as rx
      >>> shapes = {"weight_ih_l0": (32, 3), "weight_hh_l0": (32, 8)}  # nn.LSTM(3, 8, bias=False)
      >>> cell, params = rx.interop.from_torch({n: np.ones(s, "f") for n, s in shapes.items()})
      >>> cell == rx.cells.lstm(3, 8), params.w_in.shape
      (True, (3, 32))

    Source: torch.nn's documentation of LSTM, GRU and RNN.
    """
    return converted(source, [recognise_torch], prefix, activation=activation)


def recognise_torch(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """One candidate for each prefix with the leaves of a layer or of a cell."""
    said = config.get("torch", {})
    candidates = []
    for prefix, (leaves, weights) in _groups(arrays).items():
        numbered = "weight_hh_l0" in weights or "weight_ih_l0" in weights
        if not numbered and {f"{prefix}bias", f"{prefix}bias_n"} & set(arrays):
            continue  # a cell of equinox
        named = {f"{prefix}{leaf}": array for leaf, array in weights.items()}
        name = prefix.rstrip("./")
        leaf = partial(_leaf_name, prefix, numbered)
        found = _found(name, leaf, named)
        layers = partial(_layers, found, leaf, named)
        if found.kind == "elman":
            nonlinearity = said.get(name)
            found = found._replace(kind="elman-relu" if nonlinearity == "relu" else "elman")
            layers = partial(_rnn_layers, layers, name, nonlinearity)
        candidates.append(Candidate(found, leaves, layers))
    return candidates


def _leaf_name(prefix: str, numbered: bool, word: str, layer: int = 0, ending: str = "") -> str:
    return f"{prefix}{word}_l{layer}{ending}" if numbered else f"{prefix}{word}"


def _groups(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """By prefix: the arrays as they stand there, and the weights they are or make."""
    groups: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    normed: dict[tuple[str, str], dict[str, str]] = {}
    for name, array in arrays.items():
        if match := _LEAF.fullmatch(name):
            leaves, weights = groups.setdefault(match[1], ({}, {}))
            leaves[name] = weights[match[2]] = array
        elif match := _NORMED.fullmatch(name):
            if not match[3]:
                raise ValueError(
                    f"{name} is a weight under a parametrization that is no weight_norm: call "
                    f"torch.nn.utils.parametrize.remove_parametrizations(module, {match[2]!r}) and "
                    "save the state_dict again"
                )
            normed.setdefault((match[1], match[2]), {})["gv"[int(match[3])]] = name
        elif match := _OLD_NORMED.fullmatch(name):
            normed.setdefault((match[1], match[2]), {})[match[3]] = name
    for (prefix, leaf), parts in normed.items():
        if len(parts) == 2:
            leaves, weights = groups.setdefault(prefix, ({}, {}))
            leaves |= {name: arrays[name] for name in parts.values()}
            weights[leaf] = _multiplied_out(*(arrays[parts[part]] for part in "gv"))
    return groups


def _multiplied_out(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """`g v / |v|`, the norm over the axes that g has not."""
    axes = tuple(i for i in range(v.ndim) if g.ndim != v.ndim or g.shape[i] == 1)
    norm = np.sqrt(
        np.sum(v.astype(np.promote_types(v.dtype, np.float32)) ** 2, axes, keepdims=True)
    )
    product: np.ndarray = (g * (v / norm)).astype(v.dtype)
    return product


def _found(name: str, leaf: Callable[..., str], named: dict[str, np.ndarray]) -> Found:
    """The kind and the sizes, from the first layer's shapes and the names of the others."""
    w_ih, w_hh, w_hr = (leaf(f"weight_{word}") for word in ("ih", "hh", "hr"))
    for needed in (w_ih, w_hh):
        if needed not in named or named[needed].ndim != 2:
            take(named, needed, *(0, 0)[: 0 if needed in named else 2])
    (rows, size), (_, given) = named[w_ih].shape, named[w_hh].shape
    hidden = named[w_hr].shape[-1] if w_hr in named else given
    gates = _KINDS.get(rows // hidden if hidden and rows % hidden == 0 else 0)
    if gates is None or (w_hr in named and gates != "lstm"):
        raise ValueError(
            f"{w_ih} of shape {list(named[w_ih].shape)} and {w_hh} of shape "
            f"{list(named[w_hh].shape)} are no RNN, GRU or LSTM, whose rows are 1, 3 or 4 times "
            f"the {hidden} hidden units"
        )
    numbers = {int(match[1]) for match in map(_NUMBER.search, named) if match}
    layers = max(numbers, default=0) + 1
    if numbers and len(numbers) < layers:
        missing = next(number for number in itertools.count() if number not in numbers)
        beside = ", ".join(map(str, sorted(numbers)))
        raise ValueError(
            f"{leaf('weight_ih', missing)} is missing: there are weights of the layers {beside}"
        )
    directions = 1 + any(other.endswith("_reverse") for other in named)
    kind = "lstm-projection" if w_hr in named else gates
    return Found(name, "torch", kind, size, hidden, layers, directions)


def _layers(
    found: Found, leaf: Callable[..., str], named: dict[str, np.ndarray]
) -> tuple[Layer, ...]:
    given = found.hidden_size
    if found.kind == "lstm-projection":
        given = named[leaf("weight_hr")].shape[0]
    layers, size = [], found.input_size
    for number in range(found.layers):
        sides = [
            _direction(found, partial(leaf, layer=number, ending=ending), named, size, given)
            for ending in ("", "_reverse")[: found.directions]
        ]
        layers.append(layer_of(sides))
        size = given * found.directions
    return tuple(layers)


def _rnn_layers(
    layers: Any, name: str, said: str | None, *, activation: str | None = None
) -> tuple[Layer, ...]:
    """As `_layers`, of an RNN, whose function the weights do not tell."""
    activation = activation or said
    if activation is None:
        what = f"{name!r} is" if name else "this is"
        raise ValueError(
            f"{what} an RNN, and a state_dict does not say of which activation: give "
            'activation="tanh" (torch\'s default) or "relu"'
        )
    checks.check_choice("activation", activation, ("tanh", "relu"))
    kind = "elman" if activation == "tanh" else "elman-relu"
    return tuple(
        Layer(*(side and side._replace(cell=kind) for side in layer[:2])) for layer in layers()
    )


def _direction(
    found: Found, leaf: Callable[[str], str], named: dict[str, np.ndarray], size: int, given: int
) -> Direction:
    """One set of weights; `leaf` gives the whole name of a word."""
    hidden = found.hidden_size
    rows = {"elman": 1, "gru": 3}.get(found.kind, 4) * hidden
    w_in = take(named, leaf("weight_ih"), rows, size).T
    w_rec = take(named, leaf("weight_hh"), rows, given).T
    b = b_rec = np.zeros(rows, w_in.dtype)
    if any(map(_BIAS.search, named)):
        b = take(named, leaf("bias_ih"), rows)
        b_rec = take(named, leaf("bias_hh"), rows)
    b_n = proj = None
    if found.kind == "gru":
        b_n, b_rec = b_rec[2 * hidden :], np.concatenate([b_rec[: 2 * hidden], 0 * b[:hidden]])
    if found.kind == "lstm-projection":
        proj = take(named, leaf("weight_hr"), given, hidden).T
    return Direction(found.kind, w_in, w_rec, b + b_rec, b_n, proj)


def to_torch(cell: Any, params: Any, *, prefix: str = "", bias: bool = True) -> dict[str, Any]:
    """The state_dict of a torch `nn.LSTM`, `nn.GRU` or `nn.RNN` with these params.

    The whole bias goes into `bias_ih`, and `b_n` into that of n in `bias_hh`, which else is 0:
    `from_torch` gives the same numbers back.

    Args:
      cell: an LSTM, with or without projection, a GRU or an Elman cell, both directions of one,
        or a stack of such with one size and kind.
      params: its params.
      prefix: put before every name, with a dot between, as in `"encoder.rnn"`.
      bias: False for a module that was made with `bias=False`; then every bias must be 0.

    Returns:
      Arrays by name; as tensors, `module.load_state_dict({name: torch.from_numpy(array) ...})`,
      the module being made with the layers, `bidirectional`, `proj_size` and `nonlinearity` of
      the cell.

    Raises:
      ValueError: if torch has no module of this kind, with the reason.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.gru(3, 8)
      >>> weights = rx.interop.to_torch(cell, cell.init(jax.random.key(0)), prefix="encoder")
      >>> {name: array.shape for name, array in weights.items()}
      ... # doctest: +NORMALIZE_WHITESPACE
      {'encoder.weight_ih_l0': (24, 3), 'encoder.weight_hh_l0': (24, 8),
       'encoder.bias_ih_l0': (24,), 'encoder.bias_hh_l0': (24,)}
    """
    layers = take_apart("to_torch", cell, params)
    _check_one_module(layers)
    weights: dict[str, np.ndarray] = {}
    for number, layer in enumerate(layers):
        for ending, side in zip(("", "_reverse"), layer[:2], strict=True):
            if side is not None:
                new = _leaves_of(side, bias)
                weights |= {f"{leaf}_l{number}{ending}": array for leaf, array in new.items()}
    dot = "." if prefix and not prefix.endswith(".") else ""
    return {f"{prefix}{dot}{leaf}": array for leaf, array in weights.items()}


def _leaves_of(side: Direction, bias: bool) -> dict[str, np.ndarray]:
    leaves = {"weight_ih": side.w_in.T.copy(), "weight_hh": side.w_rec.T.copy()}
    b_rec = np.zeros_like(side.b)
    if side.b_n is not None:
        b_rec[-len(side.b_n) :] = side.b_n
    if bias:
        leaves |= {"bias_ih": side.b, "bias_hh": b_rec}
    elif side.b.any() or b_rec.any():
        raise ValueError("bias=False is for a cell whose biases are all 0, and these are not")
    if side.w_proj is not None:
        leaves["weight_hr"] = side.w_proj.T.copy()
    return leaves


def _check_one_module(layers: tuple[Layer, ...]) -> None:
    """Refuse what one module of torch cannot hold."""
    sides = [side for layer in layers for side in layer[:2] if side is not None]
    kinds = {side.cell for side in sides}
    if "gru-reset-before" in kinds:
        raise ValueError(
            "torch's GRU resets after the recurrent product, so it cannot compute a "
            "gru_reset_before; write that step as a module of your own"
        )
    proj = {None if side.w_proj is None else side.w_proj.shape for side in sides}
    both = {layer.backward is not None for layer in layers}
    if len(kinds | proj | both | {side.w_rec.shape for side in sides}) > 4:
        raise ValueError(
            "one module of torch has layers of one kind, one size and the same directions; "
            "convert each part of this stack by itself"
        )
    if merged := {layer.merge for layer in layers if layer.backward is not None} - {"concat"}:
        raise ValueError(
            f'torch concatenates the outputs of both directions, and has no merge="{merged.pop()}"'
        )
