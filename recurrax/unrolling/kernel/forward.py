"""The forward kernel: one launch for a whole sequence.

Who holds what, where a batch of B examples is cut into tiles of `rows`:

    block 0:  examples 0 .. rows-1     |  block 1:  examples rows .. 2 rows - 1   |  ...
      registers, for the whole sequence: W_rec, a [H, H] tile for each gate
      registers, from step to step:      the state, a [rows, H] tile for each field, in float32
                                         z_in of the step to come, a tile for each gate
      device memory, each step:          read z_in[t + 1], write the state[t]

Blocks never speak to each other: an example needs all units of its own last state and nobody
else's. A step is a product on the tensor cores, `h_{t-1} W_rec` gate by gate, then the cell's own
pointwise function on the tiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from recurrax.unrolling.kernel.launch import launch
from recurrax.unrolling.kernel.pointwise import forward_by_gate
from recurrax.unrolling.kernel.problem import Forward, Forwarded
from recurrax.unrolling.kernel.tile import Tile, product, select

if TYPE_CHECKING:
    from recurrax.unrolling.kernel.problem import Task


def forward_kernel(task: Task, given: Forward) -> Forwarded:
    """Unroll, on the device: what `twins.forward` computes."""
    groups, length, batch, _ = given.z.shape
    hidden = given.w_rec.shape[1]
    pointwise = forward_by_gate(task.step, given.unit, hidden)

    def state(a: Any) -> Any:
        return jax.ShapeDtypeStruct((groups, batch, hidden), a.dtype)

    def stack(a: Any) -> Any:
        return jax.ShapeDtypeStruct((groups, length, batch, hidden), a.dtype)

    out = Forwarded(
        tuple(state(a) for a in given.state),
        tuple(stack(a) if w else None for a, w in zip(given.state, task.fields, strict=True)),
    )

    def kernel(refs: Forward, outs: Forwarded) -> None:
        tile = Tile(task.plan, batch, hidden, pl.program_id(0), pl.program_id(1) * task.plan.rows)
        weights = [tile.weights(refs.w_rec, g) for g in range(task.step.gates)]
        unit, columns = jax.tree.map(tile.column, (refs.unit, refs.columns))
        start = None if refs.resets is None else tile.load_all(refs.start)

        def when(i: Any) -> Any:
            return length - 1 - i if task.reverse else i

        def gates(i: Any) -> Any:
            return tuple(tile.load(refs.z, when(i), gate=g) for g in range(task.step.gates))

        def step(i: Any, carry: Any) -> Any:
            old, z_in = carry
            t = when(i)
            # Asked for now, so that it has come when the step after this begins.
            following = gates(jnp.minimum(i + 1, length - 1))
            if start is not None:
                old = select(tile.flags(refs.resets, t), start, old)
            z_rec = tuple(product(task.plan, old[task.h], w) for w in weights)
            new = tuple(map(tile.clean, pointwise(columns, unit, z_in, z_rec, old)))
            new = select(tile.flags(refs.mask, t), new, old)
            for ref, value in zip(outs.stacks, new, strict=True):
                if ref is not None:
                    tile.store(ref, value, t)
            return new, following

        carry = (tile.load_all(refs.state), gates(jnp.int32(0)))
        final, _ = jax.lax.fori_loop(0, length, step, carry)
        for ref, value in zip(outs.final, final, strict=True):
            tile.store(ref, value)

    found: Forwarded = launch(task, kernel, given, out, "recurrax_forward")
    return found
