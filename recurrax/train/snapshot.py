"""A moment of training as plain arrays with names, and back into the tree they came from."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.interop import describe
from recurrax.train.sharding import is_key

if TYPE_CHECKING:
    import chex


class Snapshot(NamedTuple):
    """All that a run needs to go on."""

    params: Any  # NetworkParams
    opt_state: Any
    key: chex.PRNGKey
    step: chex.Array  # int32 [], how many are done


class Identity(NamedTuple):
    """What must be the same for a run to go on from a checkpoint, in words."""

    cell: str
    task: str
    batch_size: str
    regularizer: str


def identity(params: Any, task: Any, batch_size: int | None, penalised: bool = False) -> Identity:
    """Of a run.

    Args:
      params: of the cell.
      task: a `Task`, or None for the user's own batches.
      batch_size: B of a task's batches.
      penalised: whether a regularizer is added to the loss.
    """
    penalty = "one" if penalised else "none"
    description = describe(params)
    cell = checks.show(params) if description is None else json.dumps(description)
    if task is None:
        return Identity(cell, "batches of your own", "their own", penalty)
    sizes = f"T={task.length}, I={task.input_size}, O={task.output_size}"
    return Identity(cell, f"{task.name} ({sizes})", str(batch_size), penalty)


def arrays(snapshot: Snapshot) -> dict[str, np.ndarray]:
    """Every leaf by its name, on the host; random keys as the integers inside."""
    leaves = jax.tree_util.tree_leaves_with_path(snapshot)
    return {checks.leaf_name("", path).lstrip("."): _data(leaf) for path, leaf in leaves}


def rebuilt(like: Snapshot, found: dict[str, np.ndarray]) -> Snapshot:
    """The snapshot whose `arrays` are these.

    Raises:
      ValueError: if they are not those of a snapshot like this one.
    """
    expected = arrays(like)
    for name in [*expected, *found]:
        theirs, ours = _kind(found.get(name)), _kind(expected.get(name))
        if theirs != ours:
            part = "optimizer" if name.startswith("opt_state") else "network"
            raise ValueError(f"another {part}: its {name} is {theirs}, and this run's is {ours}")
    leaves, structure = jax.tree.flatten(like)
    values = [_restored(leaf, found[name]) for leaf, name in zip(leaves, expected, strict=True)]
    snapshot: Snapshot = jax.tree.unflatten(structure, values)
    return snapshot


def digest(words: dict[str, Any], found: dict[str, np.ndarray]) -> str:
    """SHA-256 of words and arrays: names, dtypes, shapes and every bit."""
    seal = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name, array in found.items():
        seal.update(f"{name} {array.dtype} {array.shape} ".encode())
        seal.update(np.ascontiguousarray(array).tobytes())
    return seal.hexdigest()


def _data(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def _restored(like: Any, array: np.ndarray) -> Any:
    if is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return array


def _kind(array: np.ndarray | None) -> str:
    return "missing" if array is None else checks.show(array)
