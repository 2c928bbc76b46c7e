"""A mask and resets, made ready for lags: an error's lag counts the steps that it travelled.

A step that is masked is none of them. So the steps that count are moved to the end of time, row by
row and in their order, where also the last outputs of rows of any length stand side by side: a loss
of these is one that looks at one output. No error comes from before them or goes back to there, nor
to before a reset.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.steps.loss import StepMaps
from recurrax.flow.steps.problem import Flags, Problem, flatten
from recurrax.unrolling.scan import where_flagged, widened

if TYPE_CHECKING:
    import chex

    from recurrax.cell import StepFn


class Aligned(NamedTuple):
    """Steps that all count, and after which of them an error ends its way."""

    problem: Problem  # without flags
    befores: Any
    ys_bar: list[chex.Array]
    cut: chex.Array | None  # bool [T, *batch], True: nothing goes back beyond this step


@dataclasses.dataclass(frozen=True)
class RowByRow:
    """A step of a batch of which every input has the axes, run for each row."""

    step: StepFn
    axes: int

    def __call__(self, params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        """Run it."""
        run = self.step
        for _ in range(self.axes):
            run = jax.vmap(run, (None, 0, 0))
        return run(params, state, x)


@jax.jit
def aligned(problem: Problem, befores: Any, ys_bar: list[chex.Array]) -> Aligned:
    """Move the steps that count, and what belongs to them, to the end."""
    (mask, resets), batch, length = problem.flags, problem.batch, problem.length
    problem = dataclasses.replace(problem, flags=Flags(), start=None)
    if mask is None:
        return Aligned(problem, befores, ys_bar, resets)
    t = jnp.arange(length).reshape(-1, *(1,) * len(batch.shape))
    first = length - jnp.sum(mask, 0)
    # Slots before the first step repeat it, since a masked step may have no derivative.
    slots = jnp.clip(first, t, length - 1)
    places = jnp.take_along_axis(jnp.argsort(mask, axis=0, stable=True), slots, 0)

    def moved(leaf: chex.Array) -> chex.Array:
        return jnp.take_along_axis(leaf, widened(places, leaf), 0)

    cut = t <= first
    if resets is not None:  # also those between this step and the last one that counts
        begun = moved(jnp.cumsum(resets, 0))
        cut = cut | (begun != jnp.roll(begun, 1, 0))
    xs, tree = jax.tree.flatten(problem.xs)
    step = problem.step
    if not all(batch.xs):  # each row has its own order of what was one for all
        step = RowByRow(step, len(batch.shape))
        xs = [_for_each_row(x, has, batch.shape) for x, has in zip(xs, batch.xs, strict=True)]
    problem = dataclasses.replace(
        problem,
        step=step,
        xs=jax.tree.unflatten(tree, map(moved, xs)),
        batch=dataclasses.replace(batch, xs=(True,) * len(xs)),
    )
    ys_bar = [where_flagged(t >= first, moved(y), jnp.zeros_like(y)) for y in ys_bar]
    return Aligned(problem, jax.tree.map(moved, befores), ys_bar, cut)


def _for_each_row(x: chex.Array, has: bool, shape: tuple[int, ...]) -> chex.Array:
    if has:
        return x
    wide = x.reshape(len(x), *(1,) * len(shape), *x.shape[1:])
    return jnp.broadcast_to(wide, (len(x), *shape, *x.shape[1:]))


def without_return(maps: StepMaps, befores: Any, errors: Any, cut: chex.Array) -> StepMaps:
    """Return the maps of which no error goes back beyond the steps of a cut."""
    go_on: Any
    if isinstance(errors, tuple):  # one error `[T, B, H]` for each field
        go_on = (~cut.reshape(len(cut), -1, 1),) * len(errors)
    else:
        ones = jax.tree.map(jnp.ones_like, befores)
        zeros = jax.tree.map(jnp.zeros_like, befores)
        of_state = jax.vmap(flatten)(where_flagged(cut, zeros, ones))
        go_on = jnp.pad(of_state, ((0, 0), (0, errors.shape[1] - of_state.shape[1]))) > 0

    def at(rows: Any) -> Any:
        back, gradient = maps.at(rows[0])

        def cut_back(errors: Any) -> tuple[Any, Any]:
            earlier, signals = back(errors)
            return jax.tree.map(lambda on, e: jnp.where(on, e, 0), rows[1], earlier), signals

        return cut_back, gradient

    return StepMaps((maps.rows, go_on), at, maps.h)
