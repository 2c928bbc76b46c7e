"""Inside `jax.shard_map`: which mesh axes a value varies over.

A value is known there to be the same on all devices of an axis or not, and a loop's carry must stay
what it was. Elsewhere nothing here does anything.
"""

from __future__ import annotations

from typing import Any

import jax


def axes(aval: Any) -> frozenset[Any]:
    """The mesh axes that an array of this type varies over."""
    kind = getattr(aval, "manual_axis_type", None)
    return frozenset() if kind is None else frozenset(kind.varying)


def varying(tree: Any, like: Any) -> Any:
    """A tree as one that varies over the mesh axes that any leaf of `like` varies over."""
    wanted: frozenset[Any] = frozenset()
    for leaf in jax.tree.leaves(like):
        wanted |= axes(jax.typeof(leaf))

    def cast(leaf: Any) -> Any:
        missing = tuple(wanted - axes(jax.typeof(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if wanted else tree


def abstract(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """The type of an array that varies over all axes that any of these types does."""
    aval = jax.core.ShapedArray(shape, dtype)
    widest = max(like, key=lambda a: len(axes(a)))
    if not axes(widest):
        return aval
    sharding = widest.sharding.update(spec=jax.sharding.PartitionSpec(*(None,) * len(shape)))
    return aval.update(sharding=sharding, manual_axis_type=widest.manual_axis_type)
