"""The backward kernel: the errors of a whole sequence in one launch.

The picture is `forward_kernel.py` run from the last step to the first: W_rec stays on chip, and
from step to step goes the error, the gradient with respect to the state, a tile for each field. A
step reads the pre-activations and the state before it, takes the vector-Jacobian product of the
cell's own pointwise function by `jax.vjp`, writes the gradients of the gates, and sends them back
through the weights, `dz_t W_rec^T`. The gradients of the weights themselves are products over all
steps, after this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.unrolling.kernel.kernel_spec import Backward, Gradients
from recurrax.unrolling.kernel.launch import launch
from recurrax.unrolling.kernel.tile import hold, product, select

if TYPE_CHECKING:
    from recurrax.unrolling.kernel.by_gate import ByGate
    from recurrax.unrolling.kernel.kernel_spec import KernelSpec
    from recurrax.unrolling.kernel.tile import Tile


def backward_kernel(task: KernelSpec, by_gate: ByGate, given: Backward) -> Gradients:
    """The gradients, on the device: what `reference.backward` computes."""
    groups, length, batch, _ = given.z[0].shape
    hidden = given.w_rec.shape[1]
    wide = jax.ShapeDtypeStruct((groups, batch, hidden), jnp.float32)
    state = tuple(wide for _ in given.final)
    out = Gradients(
        tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in given.z),
        jax.tree.map(lambda _: wide, given.unit),
        state,
        None if given.resets is None else state,
    )

    def kernel(tile: Tile, refs: Backward, outs: Gradients) -> None:
        _loop(task, tile, _Pull(task, by_gate, tile, refs), length, refs, outs)

    found: Gradients = launch(task, kernel, given, out, "recurrax_backward")
    return found


def _loop(
    task: KernelSpec, tile: Tile, pull: _Pull, length: int, refs: Backward, outs: Gradients
) -> None:
    """All steps of one tile of examples, the last one first."""
    nothing = jnp.zeros((task.plan.rows, task.plan.columns), jnp.float32)

    def body(i: Any, carry: Any) -> Any:
        error, unit, start = carry
        t = i if task.reverse else length - 1 - i
        more = (None if r is None else tile.load(r, t) for r in refs.errors)
        error = tuple(e if m is None else e + m for e, m in zip(error, more, strict=True))
        d_unit, d_z, back = pull(t, error)
        for ref, gates in zip(outs.z, d_z, strict=True):
            for g, value in enumerate(gates):
                tile.store(ref, value, t, gate=g)
        if start is not None:
            reset, none = tile.flags(refs.resets, t), tuple(nothing for _ in back)
            start = jax.tree.map(jnp.add, start, select(reset, back, none))
            back = select(reset, none, back)
        return back, jax.tree.map(jnp.add, unit, d_unit), start

    begin = (
        tile.load_all(refs.final),
        jax.tree.map(lambda _: nothing, refs.unit),
        None if refs.resets is None else tuple(nothing for _ in refs.final),
    )
    error, unit, start = jax.lax.fori_loop(0, length, body, begin)
    jax.tree.map(tile.store, (outs.unit, outs.state, outs.start), (unit, error, start))


class _Pull:
    """One step back: `(t, error) -> (d_unit, gradients of z, the error before)`."""

    def __init__(self, task: KernelSpec, by_gate: ByGate, tile: Tile, refs: Backward) -> None:
        self.task, self.tile, self.refs = task, tile, refs
        self.gates = range(task.step.gates)
        self.held = hold(tile, task.step.gates, refs)
        self.pointwise = by_gate

    def __call__(self, t: Any, error: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        task, tile, refs = self.task, self.tile, self.refs
        nothing = jnp.zeros_like(error[0])
        none = tuple(nothing for _ in error)
        mask = tile.flags(refs.mask, t)
        z = [tuple(tile.load(ref, t, gate=g) for g in self.gates) for ref in refs.z]
        z_in, z_rec = z if len(z) > 1 else (z[0], (nothing,) * len(self.gates))
        old = tile.load_all(refs.old, t)
        d_unit, d_in, d_rec, back = self.pointwise(
            self.held.columns, self.held.unit, z_in, z_rec, old, select(mask, error, none)
        )

        def tidy(d: Any) -> Any:
            # A constant derivative is a number; one of a masked step is zero, whatever came out.
            d = tile.clean(d)
            return d if mask is None else select(mask, (d,), (nothing,))[0]

        d_unit, d_in, d_rec, back = jax.tree.map(tidy, (d_unit, d_in, d_rec, tuple(back)))
        through = [
            product(task.plan, d, w, transposed=True)
            for d, w in zip(d_rec, self.held.weights, strict=True)
        ]
        back = tuple(b + sum(through) if k == task.h else b for k, b in enumerate(back))
        if mask is not None:
            back = tuple(b + s for b, s in zip(back, select(mask, none, error), strict=True))
        return d_unit, (d_in, d_rec)[-len(refs.z) :], back
