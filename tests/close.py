"""How close is close, by dtype; and what an error says."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# A dozen steps of a small cell, the sums in another order.
TOLERANCE = {
    "float64": {"rtol": 1e-10, "atol": 1e-12},
    "float32": {"rtol": 2e-5, "atol": 2e-6},
    "bfloat16": {"rtol": 4e-2, "atol": 2e-2},
}
EXACT = {"rtol": 0, "atol": 0}  # integers and flags


def assert_close(actual, expected, **tolerance) -> None:
    """The same structure, shapes and dtypes, and values within the tolerance of the dtype."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        name = jax.tree_util.keystr(path)
        a, b = jnp.asarray(a), jnp.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), name
        kind = TOLERANCE.get(str(a.dtype), EXACT) | tolerance
        a, b = (np.asarray(leaf, np.promote_types(leaf.dtype, np.float32)) for leaf in (a, b))
        np.testing.assert_allclose(a, b, err_msg=name, **kind)


def assert_same(actual, expected) -> None:
    """Every bit the same, -0 and 0 aside."""
    assert_close(actual, expected, rtol=0, atol=0)


def assert_finite(tree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        assert bool(jnp.isfinite(leaf).all()), jax.tree_util.keystr(path)


def says(kind: type[Exception], text: str):
    """`pytest.raises` of an error whose message is this text, the whole of it.

    JAX adds a note of its own to an error that leaves a traced function.
    """
    note = r"(\n-+\nFor simplicity, JAX has removed its internal frames[^\n]*)?"
    return pytest.raises(kind, match=rf"\A{re.escape(text)}{note}\Z")
