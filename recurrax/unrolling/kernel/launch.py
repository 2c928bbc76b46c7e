"""One launch of a kernel that is written on pytrees of references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from recurrax.unrolling.kernel.tile import Tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.unrolling.kernel.kernel_spec import KernelSpec


def launch(task: KernelSpec, kernel: Callable[..., None], given: Any, out: Any, name: str) -> Any:
    """Run `kernel(tile, refs of given, refs of out)` on every tile of the batch of every group.

    Args:
      task: what is static.
      kernel: writes to every part of `out` that is its tile's.
      given: a pytree of arrays that lead with N; None for what is absent. Switches become int32.
      out: a pytree of `jax.ShapeDtypeStruct`.
      name: of the kernel, as profilers show it.
    """
    arrays, tree = jax.tree.flatten(given)
    shapes, out_tree = jax.tree.flatten(out)
    # In 32 bits a flag can be read ahead of its step as all else is.
    arrays = [a.astype(jnp.int32) if a.dtype == jnp.bool_ else a for a in arrays]
    groups, _, batch, _ = jax.tree.leaves(given.z)[0].shape
    hidden = given.w_rec.shape[1]

    def flat(*refs: Any) -> None:
        ins, outs = refs[: len(arrays)], refs[len(arrays) :]
        # The first axis of a grid is the one that may be long.
        first, group = pl.program_id(0) * task.plan.rows, pl.program_id(1)
        tile = Tile(task.plan, batch, hidden, group, first)
        kernel(tile, jax.tree.unflatten(tree, ins), jax.tree.unflatten(out_tree, outs))

    flat.__name__ = name
    found = pl.pallas_call(
        flat,
        out_shape=shapes,
        grid=(pl.cdiv(batch, task.plan.rows), groups),
        compiler_params=plt.CompilerParams(num_warps=task.plan.warps, num_stages=task.plan.stages),
        interpret=task.interpret,
        name=name,
    )(*arrays)
    return jax.tree.unflatten(out_tree, found)
