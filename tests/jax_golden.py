"""What golden/interop_jax.npz holds of a layer of another library, and the comparison with it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from close import assert_close

import recurrax as rx

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


class Golden(NamedTuple):
    """A layer as its library computed it, in float64."""

    xs: Any  # [T, B, I]
    ys: Any
    by: Any  # what outputs are summed with to the number that is differentiated
    weights: dict[str, Any]
    gradients: dict[str, Any]


@functools.cache
def _file() -> dict[str, np.ndarray]:
    path = Path(__file__).parent / "golden" / "interop_jax.npz"
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def golden(name: str) -> Golden:
    """One of `jax_libraries.LAYERS`."""
    leaves = {
        leaf.removeprefix(f"{name}|"): pair
        for leaf, pair in _file().items()
        if leaf.startswith(f"{name}|")
    }
    weights, gradients = ({leaf: pair[i] for leaf, pair in leaves.items()} for i in (0, 1))
    return Golden(_file()["x"], *_file()[name], weights, gradients)


def our_gradient(cell: Any, params: Any, expected: Golden) -> Any:
    """Compare the outputs, and return the gradient by our params."""

    def loss(params):
        ys = rx.unroll(cell, params, None, jnp.asarray(expected.xs))[1]
        return jnp.sum(expected.by * ys), ys

    gradient, ys = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert_close(ys, expected.ys, **CLOSE)
    return gradient


def flat(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their names, with slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}


def assert_leaves(tree: Any, expected: dict[str, Any], **tolerance: float) -> None:
    """The same names and, but for the tolerance, the same numbers."""
    assert_close(dict(sorted(flat(tree).items())), dict(sorted(expected.items())), **tolerance)
