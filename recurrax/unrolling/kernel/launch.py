"""One launch of a kernel that is written on pytrees of references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.unrolling.kernel.problem import Task


def launch(task: Task, kernel: Callable[..., None], given: Any, out: Any, name: str) -> Any:
    """Run `kernel(refs of given, refs of out)` on every tile of the batch of every group.

    Args:
      task: what is static.
      kernel: writes to every part of `out` that is its tile's.
      given: a pytree of arrays that lead with N; None for what is absent. Flags become int8.
      out: a pytree of `jax.ShapeDtypeStruct`.
      name: of the kernel, as profilers show it.
    """
    arrays, tree = jax.tree.flatten(given)
    shapes, out_tree = jax.tree.flatten(out)
    arrays = [a.astype(jnp.int8) if a.dtype == jnp.bool_ else a for a in arrays]
    first = jax.tree.leaves(given.z)[0]

    def flat(*refs: Any) -> None:
        ins, outs = refs[: len(arrays)], refs[len(arrays) :]
        kernel(jax.tree.unflatten(tree, ins), jax.tree.unflatten(out_tree, outs))

    flat.__name__ = name
    found = pl.pallas_call(
        flat,
        out_shape=shapes,
        grid=(first.shape[0], pl.cdiv(first.shape[2], task.plan.rows)),
        compiler_params=plt.CompilerParams(num_warps=task.plan.warps, num_stages=1),
        interpret=task.interpret,
        name=name,
    )(*arrays)
    return jax.tree.unflatten(out_tree, found)
