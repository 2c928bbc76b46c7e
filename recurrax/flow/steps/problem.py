"""What a question is asked of: a step and what it runs on, checked, its batch axes known."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import as_step
from recurrax.flow.steps.state_vector import flatten, floating_leaves
from recurrax.unrolling.batch import Batch, batch_of
from recurrax.unrolling.unroll import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.cell import Cell, StepFn


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "state", "xs"),
    meta_fields=("step", "batch"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A step and what it runs on, checked: a pytree, whose step and batch axes are static."""

    step: StepFn
    params: Any
    state: Any
    xs: Any
    batch: Batch  # by the rule of `unrolling.batch`, and never looked for again

    @property
    def length(self) -> int:
        """T, the number of steps."""
        return int(jax.tree.leaves(self.xs)[0].shape[0])

    @property
    def size(self) -> int:
        """N, the size of the whole state of one example."""
        return int(jax.eval_shape(flatten, self.example()).shape[0])

    @property
    def dtype(self) -> Any:
        """The dtype of the whole state as a vector."""
        return jax.eval_shape(flatten, self.example()).dtype

    def at(self, place: tuple[Any, ...], shape: tuple[int, ...]) -> Problem:
        """Return the examples at a place of the batch, whose batch shape is the one given."""
        state = _where(self.batch.state, lambda leaf: leaf[place], self.state)
        xs = _where(self.batch.xs, lambda leaf: leaf[(slice(None), *place)], self.xs)
        return dataclasses.replace(
            self, state=state, xs=xs, batch=dataclasses.replace(self.batch, shape=shape)
        )

    def example(self) -> Any:
        """Return the shapes of the state of one example."""
        return self._one().state

    def outputs(self, ys: Any) -> tuple[bool, ...]:
        """Return which leaves of the outputs have the batch axes, of those with a gradient."""
        one = self._one()
        x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), one.xs)
        single = jax.eval_shape(self.step, one.params, one.state, x)[1]
        pairs = zip(jax.tree.leaves(ys), jax.tree.leaves(single), strict=True)
        return tuple(a.ndim > 1 + b.ndim for a, b in pairs if jnp.issubdtype(a.dtype, jnp.inexact))

    def along(self, rows: Any, batched: tuple[bool, ...]) -> Problem:
        """Return the problem with other rows in the place of xs; some of them have the batch."""
        return dataclasses.replace(self, xs=rows, batch=dataclasses.replace(self.batch, xs=batched))

    def _one(self) -> Problem:
        found: Problem = jax.eval_shape(lambda p: p.at((0,) * len(p.batch.shape), ()), self)
        return found


def _where(batched: tuple[bool, ...], change: Callable[[Any], Any], tree: Any) -> Any:
    """Return the tree with its leaves that have the batch axes changed."""
    leaves, treedef = jax.tree.flatten(tree)
    pairs = zip(leaves, batched, strict=True)
    return jax.tree.unflatten(treedef, [change(leaf) if has else leaf for leaf, has in pairs])


def pose(cell: Cell | StepFn, params: Any, state: Any, xs: Any) -> Problem:
    """Check the arguments every question takes, and find the batch axes.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; also if concrete inputs, params or state hold
        NaN or infinity.
    """
    step = as_step(cell)
    state, xs = prepare(cell, params, state, xs)
    checks.check_steps(xs)
    checks.check_finite("xs", xs, "Drop or fill those steps: one NaN spoils all later ones.")
    checks.check_finite("params", jax.tree.map(jnp.asarray, params), "Did training diverge?")
    checks.check_finite("state", state, "Start from cell.initial_state(params, batch_shape).")
    if not floating_leaves(state):
        raise TypeError(
            "state has no floating-point leaf, so there is no gradient to follow; got "
            f"{checks.show(state)}"
        )
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(state)):
        raise TypeError(
            "state has a complex leaf, whose derivative is not a matrix of real numbers; got "
            f"{checks.show(state)}. Carry its real and imaginary parts as two leaves."
        )
    batch = batch_of(cell, params, state, xs)
    if 0 in batch.shape:
        raise ValueError(f"xs and state hold no example: the batch shape is {batch.shape}")
    return Problem(step, params, state, xs, batch)
