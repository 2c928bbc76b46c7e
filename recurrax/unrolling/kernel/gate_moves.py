"""What only moves gates about, done to tiles: no number is computed but in a sum over gates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.gated.differentiable import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Tiles:
    """An array of one example as tiles of many.

    Args:
      axes: a letter for each axis: "g" for gates, "h" for hidden units, "1" for an axis of size 1.
      parts: one tile for each gate, or a single one where there is no axis of gates; a tile is
        `[rows, columns]`, `[1, columns]`, or a number.
    """

    axes: str
    parts: tuple[Any, ...]


def is_number(value: Any) -> bool:
    """Whether it is known now, and not only when the kernel runs."""
    return isinstance(value, (np.ndarray, np.generic))


def is_zero(value: Any) -> bool:
    """Whether it is known to be zero."""
    return is_number(value) and bool(np.all(value == 0))


def _gates_first(tiles: Tiles) -> None:
    """Raise where the first axis is one of hidden units."""
    if tiles.axes[:1] not in ("g", "1"):
        raise Refusal("it takes hidden units apart")


def _slice(eqn: Any, tiles: Tiles) -> Tiles:
    p, shape = eqn.params, eqn.invars[0].aval.shape
    _gates_first(tiles)
    whole = all(a == 0 for a in p["start_indices"][1:]) and p["limit_indices"][1:] == shape[1:]
    if not whole or (p["strides"] is not None and any(s != 1 for s in p["strides"][1:])):
        raise Refusal("it takes hidden units apart")
    stride = p["strides"][0] if p["strides"] is not None else 1
    parts = tiles.parts[p["start_indices"][0] : p["limit_indices"][0] : stride]
    return dataclasses.replace(tiles, parts=parts)


def _pad(eqn: Any, tiles: Tiles, value: Tiles) -> Tiles:
    (low, high, inside), *rest = eqn.params["padding_config"]
    _gates_first(tiles)
    if any(c != (0, 0, 0) for c in rest) or inside or low < 0 or high < 0:
        raise Refusal("it pads hidden units")
    return Tiles("g" + tiles.axes[1:], value.parts * low + tiles.parts + value.parts * high)


def _broadcast(eqn: Any, tiles: Tiles, *_: Any) -> Tiles:
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    axes = ["1"] * len(shape)
    for label, dim in zip(tiles.axes, dims, strict=True):
        axes[dim] = label
    parts = tiles.parts
    for i, n in enumerate(shape):
        if n > 1 and axes[i] == "1":
            last = i == len(shape) - 1
            axes[i] = "h" if last else "g"
            parts = parts if last else parts * n
    return Tiles("".join(axes), parts)


def _reshape(eqn: Any, tiles: Tiles) -> Tiles:
    """Axes of size one may come and go."""
    old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    kept = iter([label for label, n in zip(tiles.axes, old, strict=True) if n > 1])
    if [n for n in old if n > 1] != [n for n in new if n > 1]:
        raise Refusal("it mixes gates and hidden units")
    return Tiles("".join(next(kept) if n > 1 else "1" for n in new), tiles.parts)


def _concatenate(eqn: Any, *tiles: Tiles) -> Tiles:
    if eqn.params["dimension"] != 0:
        raise Refusal("it puts hidden units side by side")
    for t in tiles:
        _gates_first(t)
    return Tiles("g" + tiles[0].axes[1:], sum((t.parts for t in tiles), ()))


def _squeeze(eqn: Any, tiles: Tiles) -> Tiles:
    dims = eqn.params["dimensions"]
    return Tiles("".join(a for i, a in enumerate(tiles.axes) if i not in dims), tiles.parts)


def _split(eqn: Any, tiles: Tiles) -> list[Tiles]:
    if eqn.params["axis"] != 0:
        raise Refusal("it takes hidden units apart")
    ends = np.cumsum(eqn.params["sizes"])
    return [
        dataclasses.replace(tiles, parts=tiles.parts[end - n : end])
        for n, end in zip(eqn.params["sizes"], ends, strict=True)
    ]


def _unstack(eqn: Any, tiles: Tiles) -> list[Tiles]:
    if eqn.params["axis"] != 0:
        raise Refusal("it takes hidden units apart")
    return [Tiles(tiles.axes[1:], (part,)) for part in tiles.parts]


def _stack(eqn: Any, *tiles: Tiles) -> Tiles:
    if eqn.params["axis"] != 0:
        raise Refusal("it puts hidden units side by side")
    return Tiles("g" + tiles[0].axes, sum((t.parts for t in tiles), ()))


def _reduce_sum(eqn: Any, tiles: Tiles) -> Tiles:
    axes = eqn.params["axes"]
    if any(tiles.axes[i] == "h" for i in axes):
        raise Refusal("it sums over hidden units")
    total, *rest = tiles.parts
    if any(tiles.axes[i] == "g" for i in axes):
        for part in rest:
            total = part if is_zero(total) else total if is_zero(part) else total + part
        tiles = Tiles(tiles.axes, (total,))
    return Tiles("".join(a for i, a in enumerate(tiles.axes) if i not in axes), tiles.parts)


MOVES: dict[str, Callable[..., Any]] = {
    "slice": _slice,
    "pad": _pad,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "squeeze": _squeeze,
    "split": _split,
    "unstack": _unstack,
    "stack": _stack,
    "reduce_sum": _reduce_sum,
}
