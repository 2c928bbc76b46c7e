"""Which axes are the batch's: the one place where that is decided.

- Params have none: all examples share them, whatever their shapes.
- A `Cell` says it by its `initial_state`. The axes that a leaf of the state has before those of
  `initial_state(params)` are the batch's, and the same for every leaf. A leaf without them is
  shared by all examples, which is open to those to which `initial_state(params, batch_shape)`
  gives none either, and to those that are not floating point, such as a counter.
- A bare step function says nothing. It is run on one example, unless a leaf of xs is
  `[T, B, ...]` of three axes or more, every floating-point leaf of the state leads with that B,
  and the step runs with another number in the place of B. Other leaves of the state that lead with
  B are tried in the same way.
- A leaf of xs has the batch axes if they follow T and the step runs with other numbers in their
  place; else it is shared by all examples. Where the step runs both ways, the leaf has them.

So a size that is equal to B by chance is not taken for B: the step would not run with another.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell, StepFn, as_step
from recurrax.cells.combined import ResidualStep, StackStep
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIES = 64  # of sets of leaves of xs that are shared
_OTHER_SIZES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149)


@dataclasses.dataclass(frozen=True)
class Batch:
    """The batch axes of a state and of inputs, found once and static from then on.

    Args:
      shape: the batch shape; () for one example.
      state: for each leaf of the state, whether it leads with these axes; else it is shared.
      xs: for each leaf of the inputs, whether they follow T.
    """

    shape: tuple[int, ...]
    state: tuple[bool, ...]
    xs: tuple[bool, ...]


def batch_of(cell: Cell | StepFn, params: Any, state: Any, xs: Any) -> Batch:
    """The batch axes of what `prepare` returned, by the rule of this module.

    Raises:
      ValueError, TypeError: if the state is not one that the cell's `initial_state` could return.
    """
    step = as_step(cell)
    leaves, inputs = jax.tree.leaves(state), jax.tree.leaves(xs)
    if _all_gated(step):
        return Batch(leaves[0].shape[:-1], (True,) * len(leaves), (True,) * len(inputs))
    if isinstance(cell, Cell):
        shape, has = _by_initial_state(cell, params, state)
        return Batch(shape, has, inputs_of(step, params, state, has, xs, shape))
    sizes = {leaf.shape[:1] for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}
    if len(sizes) == 1 and any(x.ndim >= 3 and x.shape[1:2] in sizes for x in inputs):
        (shape,) = sizes
        own = tuple(jnp.issubdtype(leaf.dtype, jnp.floating) or None for leaf in leaves)
        found = _tried(step, params, state, own, xs, shape)
        if found is not None:
            return found
    return Batch((), (True,) * len(leaves), (True,) * len(inputs))


def inputs_of(
    step: StepFn, params: Any, state: Any, own: tuple[bool, ...], xs: Any, shape: tuple[int, ...]
) -> tuple[bool, ...]:
    """Which leaves of xs have the batch axes, known to be those of some leaves of the state."""
    if not shape or _all_gated(step):
        return (True,) * len(jax.tree.leaves(xs))
    found = _tried(step, params, state, own, xs, shape)
    return _alike(jax.tree.leaves(xs), shape, 1) if found is None else found.xs


def check_rows(name: str, cell: Cell, params: Any, state: Any, shape: tuple[int, ...]) -> None:
    """Raise if a leaf of the state is shared, for a mask or resets, which go row by row."""
    if not shape or _all_gated(cell.step):
        return
    one, grow = _growing(cell, params, (1,))
    named = jax.tree_util.tree_leaves_with_path(state)
    if not any(grow) or len(grow) != len(named):  # it says nothing of a batch
        return
    for (path, leaf), grows, own in zip(named, grow, one, strict=True):
        if not grows and leaf.ndim == own.ndim:
            raise ValueError(
                f"{name} goes row by row of the batch, but {checks.leaf_name('state', path)} is "
                "shared by all rows: cell.initial_state(params, batch_shape) gives it no batch "
                "axes. Let each row have its own there."
            )


def _all_gated(step: StepFn) -> bool:
    """Of such a step every shape is known, and checked."""
    if isinstance(step, StackStep):
        return all(_all_gated(each) for each in step.steps)
    return _all_gated(step.step) if isinstance(step, ResidualStep) else isinstance(step, GatedStep)


# --- what a cell says ---------------------------------------------------------------------------


def _growing(cell: Cell, params: Any, shape: tuple[int, ...]) -> tuple[list[Any], list[bool]]:
    """The leaves of one example's initial state, and which of them a batch gives more axes."""
    single, batched = jax.eval_shape(
        lambda p: (cell.initial_state(p, ()), cell.initial_state(p, shape)), params
    )
    leaves = jax.tree.leaves(single)
    pairs = zip(leaves, jax.tree.leaves(batched), strict=True)
    return leaves, [b.ndim > a.ndim for a, b in pairs]


def _by_initial_state(
    cell: Cell, params: Any, state: Any
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """The batch shape, and which leaves of the state have it."""
    single = jax.eval_shape(cell.initial_state, params)
    named = jax.tree_util.tree_leaves_with_path(state)
    if len(jax.tree.leaves(single)) != len(named):
        raise TypeError(
            "state must look like what cell.initial_state(params, batch_shape) returns, "
            f"{checks.show(single)}, got {checks.show(state)}"
        )
    before = []  # the axes of each leaf before its own
    for (path, leaf), own in zip(named, jax.tree.leaves(single), strict=True):
        more = leaf.ndim - own.ndim
        if more < 0 or leaf.shape[more:] != own.shape:
            expected = ", ".join(("*batch", *map(str, own.shape)))
            raise ValueError(
                f"{checks.leaf_name('state', path)} has shape {leaf.shape}, expected ({expected}) "
                "as cell.initial_state(params, batch_shape) returns it. Start from that state."
            )
        before.append(leaf.shape[:more])
    shapes = set(before) - {()}
    shape = next(iter(shapes)) if shapes else ()
    smooth = [jnp.issubdtype(leaf.dtype, jnp.floating) for _, leaf in named]
    agree = len(shapes) <= 1
    lacks = [not axes and counts for axes, counts in zip(before, smooth, strict=True)]
    if agree and shape and any(lacks):  # each such leaf needs none, and some leaf has them
        grows = _growing(cell, params, shape)[1]
        agree = any(a and c for a, c in zip(before, smooth, strict=True))
        agree = agree and not any(a and b for a, b in zip(lacks, grows, strict=True))
    if not agree:
        found = {axes for axes, counts in zip(before, smooth, strict=True) if counts} | shapes
        raise ValueError(
            f"the leaves of state disagree about the batch axes, {sorted(found)}: got "
            f"{checks.show(state)}. Start from cell.initial_state(params, batch_shape)."
        )
    return shape, tuple(axes == shape for axes in before)


# --- what a step shows --------------------------------------------------------------------------


def _tried(
    step: StepFn, params: Any, state: Any, own: Any, xs: Any, shape: tuple[int, ...]
) -> Batch | None:
    """The first choice of leaves with which the step runs with another number of examples.

    `own` tells for each leaf of the state whether it has the batch axes, None where that is tried.
    """
    leaves, tree = jax.tree.flatten((state, xs))
    count = len(own)
    sizes = {size for leaf in jax.tree.leaves((params, leaves)) for size in jnp.shape(leaf)}
    others = tuple(size for size in _OTHER_SIZES if size not in sizes)[: len(shape)]
    maybe = [*_alike(leaves[:count], shape, 0), *_alike(leaves[count:], shape, 1)]
    known = [*own, *[None] * (len(leaves) - count)]
    for chosen in itertools.islice(_choices(known, maybe), _TRIES):
        resized = []
        for i, leaf in enumerate(leaves):
            one = leaf.shape[i >= count :]  # of one instant
            one = (*others, *one[len(shape) :]) if chosen[i] else one
            resized.append(jax.ShapeDtypeStruct(one, leaf.dtype))
        try:
            new = jax.eval_shape(step, params, *jax.tree.unflatten(tree, resized))[0]
        except Exception:  # the user's step says no in its own way
            continue
        if [leaf.shape for leaf in jax.tree.leaves(new)] == [r.shape for r in resized[:count]]:
            return Batch(shape, chosen[:count], chosen[count:])
    return None


def _alike(leaves: list[Any], shape: tuple[int, ...], first: int) -> tuple[bool, ...]:
    """Which leaves have the sizes of the batch from an axis on."""
    return tuple(leaf.shape[first : first + len(shape)] == shape for leaf in leaves)


def _choices(known: list[bool | None], maybe: list[bool]) -> Iterator[tuple[bool, ...]]:
    """What may have the batch axes: all that is alike, then all but one, and so on."""
    open_ = [i for i, k in enumerate(known) if k is None and maybe[i]]
    for count in range(len(open_) + 1):
        for shared in itertools.combinations(open_, count):
            yield tuple(
                (i in open_ and i not in shared) if k is None else k for i, k in enumerate(known)
            )
