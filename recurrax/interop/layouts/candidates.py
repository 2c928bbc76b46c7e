"""The recurrent layers that a source holds, and the one that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from recurrax.interop.layouts.layers import Layer
    from recurrax.interop.reading.sources import Source

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


def choose(found: list[Candidate], prefix: str | None, source: Source) -> Candidate:
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
                f"It holds {listed(found)}"
            )
        found = picked
    if len(found) > 1:
        raise ValueError(
            f"{source.name} holds {len(found)} recurrent layers; name one with prefix=: "
            f"{listed(found)}"
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


def listed(found: Iterable[Candidate]) -> str:
    return "; ".join(text(one.found) for one in found)


def _held(source: Source) -> str:
    names = [f"{name} {list(array.shape)}" for name, array in source.arrays.items()]
    if not names:
        return "It holds no array at all."
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"It holds {', '.join(names[:_MOST])}{more}."


def check_finite(name: str, array: np.ndarray) -> None:
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


def forgetting(b: np.ndarray, forget_bias: float) -> np.ndarray:
    """The bias of an LSTM with so much more for the forget gate, the second of four."""
    checks.check_number("forget_bias", forget_bias)
    blocks = np.split(b, 4)
    blocks[1] = blocks[1] + np.asarray(forget_bias, b.dtype)
    return np.concatenate(blocks)
