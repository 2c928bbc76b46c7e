"""The forward kernel: one launch for a whole sequence.

Who holds what, where a batch of B examples is cut into tiles of `rows`:

    block 0:  examples 0 .. rows-1     |  block 1:  examples rows .. 2 rows - 1   |  ...
      shared memory, all the time:   W_rec, a [H, H] tile for each gate
      registers, step to step:       the state, a [rows, H] tile for each field, in float32,
                                     and its product with W_rec, a tile for each gate
      shared memory, a step or two:  z_in of the steps to come, read ahead
      device memory, at every step:  read z_in[t], write the state[t]

Blocks never speak to each other: an example needs all units of its own last state and nobody
else's. A step is a product on the tensor cores, `h_{t-1} W_rec` gate by gate, then the cell's own
pointwise function on the tiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.unrolling.kernel.kernel_spec import Forward, ForwardOutputs
from recurrax.unrolling.kernel.launch import launch
from recurrax.unrolling.kernel.tile import hold, product, select

if TYPE_CHECKING:
    from recurrax.unrolling.kernel.by_gate import ByGate
    from recurrax.unrolling.kernel.kernel_spec import KernelSpec
    from recurrax.unrolling.kernel.tile import Tile


def forward_kernel(task: KernelSpec, by_gate: ByGate, given: Forward) -> ForwardOutputs:
    """Unroll, on the device: what `reference.forward` computes."""
    groups, length, batch, _ = given.z.shape
    hidden = given.w_rec.shape[1]
    out = ForwardOutputs(
        tuple(jax.ShapeDtypeStruct((groups, batch, hidden), a.dtype) for a in given.state),
        tuple(
            jax.ShapeDtypeStruct((groups, length, batch, hidden), a.dtype) if wanted else None
            for a, wanted in zip(given.state, task.fields, strict=True)
        ),
    )

    def kernel(tile: Tile, refs: Forward, outs: ForwardOutputs) -> None:
        _loop(task, tile, _Step(task, by_gate, tile, refs), length, refs, outs)

    found: ForwardOutputs = launch(task, kernel, given, out, "recurrax_forward")
    return found


def _loop(
    task: KernelSpec, tile: Tile, step: _Step, length: int, refs: Forward, outs: ForwardOutputs
) -> None:
    """All steps of one tile of examples."""

    def when(i: Any) -> Any:
        return length - 1 - i if task.reverse else i

    def body(i: Any, carry: Any) -> Any:
        state, z_rec = carry
        t = when(i)
        state = step(t, state, z_rec)
        for ref, value in zip(outs.stacks, state, strict=True):
            if ref is not None:
                tile.store(ref, value, t)
        # The next step's product, so that what is read above leads to a product within the loop's
        # body: that is what the compiler reads ahead for.
        return state, step.product(when(jnp.minimum(i + 1, length - 1)), state)

    state = tile.load_all(refs.state)
    begin = state, step.product(jnp.int32(when(0)), state)
    final, _ = jax.lax.fori_loop(0, length, body, begin)
    for ref, value in zip(outs.final, final, strict=True):
        tile.store(ref, value)


class _Step:
    """One step: `(t, state, z_rec) -> state`; what is needed at every step is loaded once."""

    def __init__(self, task: KernelSpec, by_gate: ByGate, tile: Tile, refs: Forward) -> None:
        self.task, self.tile, self.refs = task, tile, refs
        self.held = hold(tile, task.step.gates, refs)
        self.start = None if refs.resets is None else tile.load_all(refs.start)
        self.pointwise = by_gate

    def product(self, t: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        """The state's share of the pre-activations at step t, for each gate."""
        h = self._reset(t, state)[self.task.h]
        return tuple(product(self.task.plan, h, w) for w in self.held.weights)

    def __call__(self, t: Any, state: tuple[Any, ...], z_rec: tuple[Any, ...]) -> tuple[Any, ...]:
        tile, refs = self.tile, self.refs
        z_in = tuple(tile.load(refs.z, t, gate=g) for g in range(self.task.step.gates))
        old = self._reset(t, state)
        new = self.pointwise(self.held.columns, self.held.unit, z_in, z_rec, old)
        kept: tuple[Any, ...] = select(tile.flags(refs.mask, t), tuple(map(tile.clean, new)), old)
        return kept

    def _reset(self, t: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.start is None:
            return state
        found: tuple[Any, ...] = select(self.tile.flags(self.refs.resets, t), self.start, state)
        return found
