"""The recurrent layers that a source holds, and the one that is asked for."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recurrax.interop.assemble import assemble
from recurrax.interop.layers import Layer
from recurrax.interop.sources import Source, read
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    # The path of a layer; or several, from bottom to top, a pair being (forward, backward).
    Prefix = str | Sequence[str | tuple[str, str]]
    Recogniser = Callable[[dict[str, np.ndarray], dict[str, Any]], list["Candidate"]]

_MOST = 12  # names of arrays that a message lists


class Found(NamedTuple):
    """A recurrent layer, or several that belong together, in somebody's weights."""

    prefix: str  # what picks it: the begin of the names of its arrays, or the layer's own name
    library: str  # "torch", "keras", ...
    kind: str  # "lstm", "gru", "gru-reset-before", "lstm-projection", "elman", "elman-relu"
    input_size: int
    hidden_size: int
    layers: int
    directions: int


class Candidate(NamedTuple):
    """What was found, and how it becomes layers in the library's own layout."""

    found: Found
    leaves: Mapping[str, np.ndarray]  # the arrays that it is made of, by their names in the source
    layers: Callable[..., tuple[Layer, ...]]  # layers(**options), keywords that may be None


def converted(
    source: Any, recognisers: Sequence[Recogniser], prefix: Prefix | None, **options: Any
) -> tuple[Any, Any]:
    """The one layer that is found, or those that prefixes name, as a cell and its params.

    Raises:
      ValueError: if there is none or no such one, or several and no prefix, if none has such an
        option, or weights contradict each other or are not finite.
    """
    given = read(source)
    found = [one for recognise in recognisers for one in recognise(given.arrays, given.config)]
    chosen = [[_chosen(found, name, given) for name in row] for row in _rows(prefix)]
    asked = {name: value for name, value in options.items() if value is not None}
    every = [one for row in chosen for one in row]
    known = {name for one in every for name in inspect.signature(one.layers).parameters}
    for name in asked:
        if name not in known:
            raise ValueError(f"{name} says nothing of {_listed(every)}: leave it out")
    for one in every:
        for name, array in one.leaves.items():
            _check_finite(name, array)
    return assemble([layer for row in chosen for layer in _layers_of(row, asked)])


def _rows(prefix: Any) -> list[tuple[str | None, ...]]:
    """The names of each layer, from bottom to top."""
    rows: list[tuple[str | None, ...]]
    if prefix is None or isinstance(prefix, str):
        return [(prefix,)]
    given = prefix if isinstance(prefix, (tuple, list)) and prefix else [None]
    rows = [tuple(row) if isinstance(row, (tuple, list)) else (row,) for row in given]
    if not all(isinstance(name, str) for row in rows for name in row):
        raise TypeError(
            "prefix must be the path of a layer, or a tuple of such for layers from bottom to top, "
            f"where a pair is (forward, backward); got {prefix!r}"
        )
    return rows


def _layers_of(row: list[Candidate], asked: dict[str, Any]) -> tuple[Layer, ...]:
    """The layers of one prefix, or the one layer of a pair (forward, backward)."""
    parts = []
    for one in row:
        known = inspect.signature(one.layers).parameters
        parts.append(one.layers(**{name: asked[name] for name in asked if name in known}))
    if len(parts) == 1:
        return parts[0]
    if len(parts) != 2 or any(len(part) > 1 or part[0].backward is not None for part in parts):
        raise ValueError(
            "where prefix has a pair, it names the cell of the forward direction and that of the "
            f"backward one, of one layer each; got {_listed(row)}"
        )
    return (Layer(parts[0][0].forward, parts[1][0].forward),)


def _chosen(found: list[Candidate], prefix: str | None, source: Source) -> Candidate:
    """The only one, or the one that the prefix names or leads to."""
    if not found:
        raise ValueError(f"{source.name} holds no recurrent layer. {_held(source)}")
    if prefix is not None:
        wanted = _plain(prefix)
        same = [one for one in found if _plain(one.found.prefix) == wanted]
        below = [one for one in found if _plain(one.found.prefix).startswith(f"{wanted}/")]
        picked = same or below
        if not picked:
            names = [one.found.prefix for one in found]
            near = nearest(prefix, names) or "."
            raise ValueError(
                f"{source.name} holds no recurrent layer under prefix {prefix!r}{near} "
                f"It holds {_listed(found)}"
            )
        found = picked
    if len(found) > 1:
        raise ValueError(
            f"{source.name} holds {len(found)} recurrent layers; name one with prefix=: "
            f"{_listed(found)}"
        )
    return found[0]


def _plain(prefix: str) -> str:
    """A prefix whose levels are parted by `/`, whichever of the two marks the source has."""
    return prefix.replace(".", "/").strip("/")


def text(found: Found) -> str:
    """A line about it: `'encoder': lstm of torch, 10 -> 20, 2 layers, both directions`."""
    words = [f"{found.prefix!r}: {found.kind} of {found.library}"]
    words.append(f"{found.input_size} -> {found.hidden_size}")
    words += [f"{found.layers} layers"] if found.layers > 1 else []
    words += ["both directions"] if found.directions > 1 else []
    return ", ".join(words)


def _listed(found: Iterable[Candidate]) -> str:
    return "; ".join(text(one.found) for one in found)


def _held(source: Source) -> str:
    names = [f"{name} {list(array.shape)}" for name, array in source.arrays.items()]
    if not names:
        return "It holds no array at all."
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"It holds {', '.join(names[:_MOST])}{more}."


def _check_finite(name: str, array: np.ndarray) -> None:
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{name} holds {array.dtype}, expected floating point: save the weights as float32"
        )
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name} is not finite: {array[where]} at index {where}, {int(bad.sum())} of "
            f"{array.size} numbers in all. Convert weights from before the training diverged"
        )


def take(leaves: Mapping[str, np.ndarray], name: str, *shape: int) -> np.ndarray:
    """A leaf, of the shape that the others of its layer leave it.

    Raises:
      ValueError: if it is missing, or of another shape.
    """
    beside = ", ".join(f"{other} {list(array.shape)}" for other, array in leaves.items())
    if name not in leaves:
        raise ValueError(f"{name} is missing beside {beside}")
    if leaves[name].shape != shape:
        raise ValueError(f"{name} should have shape {list(shape)} among {beside}")
    return leaves[name]


def reordered(array: np.ndarray, order: Sequence[int], axis: int = -1) -> np.ndarray:
    """The blocks of the gates, side by side on an axis, in this order."""
    blocks = np.split(array, len(order), axis)
    return np.concatenate([blocks[i] for i in order], axis)
