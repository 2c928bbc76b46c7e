"""The whole state of one example as a vector `[N]`, and one example out of a batch.

An LSTM's gradient travels through h and c together: N = 2 H. Every question of the microscope is
asked of this joint state.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import as_step
from recurrax.unrolling import unroll_states
from recurrax.unrolling.batch import Batch, batch_of
from recurrax.unrolling.unroll import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import Cell, StepFn


class Problem(NamedTuple):
    """A step and what it runs on, checked."""

    step: StepFn
    params: Any
    state: Any
    xs: Any
    batch: Batch  # by the rule of `unrolling.batch`, and never looked for again

    def example(self) -> Any:
        """The shapes of the state of one example."""
        return _without(self.state, self.batch.state, len(self.batch.shape))

    def outputs(self, ys: Any) -> tuple[bool, ...]:
        """Which leaves of the outputs have the batch axes, of those that have a gradient."""
        x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.xs)
        one = _without(x, self.batch.xs, len(self.batch.shape))
        single = jax.eval_shape(self.step, self.params, self.example(), one)[1]
        pairs = zip(jax.tree.leaves(ys), jax.tree.leaves(single), strict=True)
        return tuple(a.ndim > 1 + b.ndim for a, b in pairs if jnp.issubdtype(a.dtype, jnp.inexact))


def _without(tree: Any, batched: tuple[bool, ...], axes: int) -> Any:
    """The shapes of one example."""
    leaves, treedef = jax.tree.flatten(tree)
    own = [
        jax.ShapeDtypeStruct(leaf.shape[axes if has else 0 :], leaf.dtype)
        for leaf, has in zip(leaves, batched, strict=True)
    ]
    return jax.tree.unflatten(treedef, own)


def pose(cell: Cell | StepFn, params: Any, state: Any, xs: Any) -> Problem:
    """Check the arguments every question takes, and find the batch axes.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; also if concrete inputs, params or state hold
        NaN or infinity, or the state itself overflows on the way.
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


def check_states(problem: Problem) -> None:
    """Refuse a trajectory that overflows: past that point a Jacobian has no meaning."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(problem)):
        return
    states = unroll_states(problem.step, problem.params, problem.state, problem.xs)
    checks.check_finite(
        "state at [t, ...]",
        states,
        "The forward pass overflows there: measure a shorter xs, or shrink the recurrent weights.",
    )


def per_example(run: Callable[..., Any], batch: Batch, out_axes: Any = 1) -> Any:
    """`run(params, state, xs)` for one example, mapped over the batch.

    Time leads in xs and, with `out_axes=1`, in every result. The params, and a leaf of the state or
    of xs without the batch axes, are shared by all examples.
    """

    def axes(tree: Any, batched: tuple[bool, ...], axis: int) -> Any:
        return jax.tree.unflatten(
            jax.tree.structure(tree), [axis if has else None for has in batched]
        )

    def mapped(params: Any, state: Any, xs: Any) -> Any:
        each = run
        in_axes = (None, axes(state, batch.state, 0), axes(xs, batch.xs, 1))
        for _ in batch.shape:
            each = jax.vmap(each, in_axes=in_axes, out_axes=out_axes)
        return each(params, state, xs)

    return mapped


def each_example(run: Callable[..., Any], batch: Batch) -> Any:
    """As `per_example`, but on a CPU one example after the other.

    For runs whose time goes into factoring matrices, which a CPU does one by one anyway, and whose
    branches `jax.vmap` would all take. Results get the batch axes where `per_example` puts them.
    """
    together = per_example(run, batch)
    if not batch.shape:
        return together

    def in_turn(params: Any, state: Any, xs: Any) -> Any:
        def one(i: chex.Array) -> Any:
            place = jnp.unravel_index(i, batch.shape)

            def own(tree: Any, batched: tuple[bool, ...], axis: int) -> Any:
                leaves, treedef = jax.tree.flatten(tree)
                at = (slice(None),) * axis + place
                pairs = zip(leaves, batched, strict=True)
                return jax.tree.unflatten(treedef, [a[at] if has else a for a, has in pairs])

            return run(params, own(state, batch.state, 0), own(xs, batch.xs, 1))

        out = jax.lax.map(one, jnp.arange(math.prod(batch.shape)))
        out = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), out)
        return jax.tree.map(lambda a: a.reshape(a.shape[0], *batch.shape, *a.shape[2:]), out)

    def chosen(params: Any, state: Any, xs: Any) -> Any:
        return jax.lax.platform_dependent(params, state, xs, cpu=in_turn, default=together)

    return chosen


# --- the state as a vector ----------------------------------------------------------------------


def floating_leaves(state: Any) -> list[tuple[str, Any]]:
    """Name and leaf of each floating-point array of a state, in the order of the vector."""
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def flatten(state: Any) -> chex.Array:
    """The floating-point leaves of one example's state, end to end: `[N]`, float32 at least."""
    leaves = [leaf for _, leaf in floating_leaves(state)]
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))
    return jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in leaves])


def unflatten(vector: chex.Array, like: Any) -> Any:
    """The state with its floating-point leaves taken from a vector `[N]`."""
    start = 0

    def take(leaf: Any) -> Any:
        nonlocal start
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        piece = vector[start : start + leaf.size]
        start += leaf.size
        return piece.reshape(leaf.shape).astype(leaf.dtype)

    return jax.tree.map(take, like)


def pick(name: str, leaves: str | tuple[str, ...] | None, problem: Problem) -> tuple[Any, ...]:
    """The pieces `(start, stop)` of the vector that `of=` or `wrt=` asks for."""
    spans, start = [], 0
    for path, leaf in floating_leaves(problem.example()):
        size = math.prod(leaf.shape)
        spans.append((path, start, start + size))
        start += size
    if leaves is None:
        return ((0, start),)
    wanted = (leaves,) if isinstance(leaves, str) else leaves
    if not isinstance(wanted, (tuple, list)) or not all(isinstance(w, str) for w in wanted):
        raise TypeError(f"{name} must be a name or a tuple of names of leaves, got {leaves!r}")
    known = ", ".join(_ways_to_write(path) for path, _, _ in spans)
    picked = []
    for want in wanted:
        found = [(a, b) for path, a, b in spans if matches(path, want)]
        if not found:
            raise ValueError(f"{name} must name leaves of the state ({known}), got {want!r}")
        picked += found
    if not picked:
        raise ValueError(f"{name} must name leaves of the state ({known}), got {leaves!r}")
    return tuple(sorted(set(picked)))


def matches(path: str, want: str) -> bool:
    """Whether a name means this leaf: the end of its path, a key of a dict bare or in brackets."""
    path, want = _bare(path), _bare(want).lstrip(".")
    return path.lstrip(".") == want or path.endswith("." + want)


def _bare(path: str) -> str:
    """`.h` for `['h']`."""
    return re.sub(r"\['([^']*)'\]", r".\1", path)


def _ways_to_write(path: str) -> str:
    names = dict.fromkeys((_bare(path).lstrip("."), path.lstrip(".")))
    return " or ".join(map(repr, names))
