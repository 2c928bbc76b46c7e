"""The whole state of one example as a vector `[N]`, and the names of its pieces.

An LSTM's gradient travels through h and c together: N = 2 H. Every question of the microscope is
asked of this joint state.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    import chex


def floating_leaves(state: Any) -> list[tuple[str, Any]]:
    """Return the name and leaf of each floating-point array, in the order of the vector."""
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def flatten(state: Any) -> chex.Array:
    """Return the floating-point leaves of a state, end to end: `[N]`, float32 at least."""
    leaves = [leaf for _, leaf in floating_leaves(state)]
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))
    return jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in leaves])


def unflatten(vector: chex.Array, like: Any) -> Any:
    """Return the state with its floating-point leaves taken from a vector `[N]`."""
    start = 0

    def take(leaf: Any) -> Any:
        nonlocal start
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        piece = vector[start : start + leaf.size]
        start += leaf.size
        return piece.reshape(leaf.shape).astype(leaf.dtype)

    return jax.tree.map(take, like)


# --- names of leaves ----------------------------------------------------------------------------

Spans = tuple[tuple[int, int], ...]  # pieces (start, stop) of the vector


def pick(argument: str, wanted: str | tuple[str, ...] | None, example: Any) -> Spans:
    """Return the pieces of one example's vector that `of=` or `wrt=` asks for."""
    leaves = floating_leaves(example)
    stops = np.cumsum([math.prod(leaf.shape) for _, leaf in leaves]).tolist()
    if wanted is None:
        return ((0, stops[-1]),)
    places = named(argument, wanted, [path for path, _ in leaves], "leaves of the state ({})")
    spans = list(zip([0, *stops], stops, strict=False))
    return tuple(spans[i] for i in places)


def indices(spans: Spans) -> np.ndarray:
    """Return the places in the vector that some pieces cover."""
    return np.concatenate([np.arange(start, stop) for start, stop in spans])


def named(argument: str, wanted: Any, paths: list[str], expected: str, more: str = "") -> list[int]:
    """Return the places of the paths that one name or several mean, in order.

    A name means a leaf if it is the end of its path, a key of a dict bare or in brackets.

    Raises:
      TypeError, ValueError: if a name is no word, or means none of them.
    """
    names = (wanted,) if isinstance(wanted, str) else wanted
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be a name or a tuple of names of leaves, got {wanted!r}")
    found: set[int] = set()
    for name in names or (wanted,):
        here = {i for i, path in enumerate(paths) if names and _means(name, path)}
        if not here:
            known = ", ".join(_spellings(path) for path in paths)
            raise ValueError(f"{argument} must name {expected.format(known)}, got {name!r}{more}")
        found |= here
    return sorted(found)


def _means(name: str, path: str) -> bool:
    path, name = _bare(path), _bare(name).lstrip(".")
    return path.lstrip(".") == name or path.endswith("." + name)


def _bare(path: str) -> str:
    """Return `.h` for `['h']`."""
    return re.sub(r"\['([^']*)'\]", r".\1", path)


def _spellings(path: str) -> str:
    return " or ".join(map(repr, dict.fromkeys((_bare(path).lstrip("."), path.lstrip(".")))))
