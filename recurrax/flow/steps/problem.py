"""What a question is asked of, and the whole state of one example as a vector `[N]`.

An LSTM's gradient travels through h and c together: N = 2 H. Every question of the microscope is
asked of this joint state.
"""

from __future__ import annotations

import dataclasses
import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.unrolling.scan import where_flagged, zero_where_masked

if TYPE_CHECKING:
    import chex

    from recurrax.cell import StepFn
    from recurrax.unrolling.batch import Batch


class Flags(NamedTuple):
    """Which steps count, and which begin anew; None where no step is an exception.

    Where the mask is False the state is carried over and the output is zero, so that `A_t = 1`. A
    reset puts the initial state in the place of the old one, so that `A_t = 0`, masked or not.
    """

    mask: chex.Array | None = None  # bool [T, *batch]; False: the state is carried over
    resets: chex.Array | None = None  # bool [T, *batch]; True: from the initial state


NO_FLAGS = Flags()


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "state", "xs", "flags", "start"),
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
    flags: Flags = NO_FLAGS
    start: Any = None  # the state that a reset returns to, like `state`; None without resets

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

        def taken(tree: Any, batched: tuple[bool, ...], where: tuple[Any, ...]) -> Any:
            leaves, treedef = jax.tree.flatten(tree)
            pairs = zip(leaves, batched, strict=True)
            return jax.tree.unflatten(treedef, [a[where] if has else a for a, has in pairs])

        return dataclasses.replace(
            self,
            state=taken(self.state, self.batch.state, place),
            xs=taken(self.xs, self.batch.xs, (slice(None), *place)),
            flags=jax.tree.map(lambda leaf: leaf[(slice(None), *place)], self.flags),
            start=self.start if self.start is None else taken(self.start, self.batch.state, place),
            batch=dataclasses.replace(self.batch, shape=shape),
        )

    @property
    def counted(self) -> chex.Array | None:
        """How many steps count up to each t, int32 `[T, *batch]`; None where all of them do."""
        mask = self.flags.mask
        return None if mask is None else jnp.cumsum(mask, 0, dtype=jnp.int32)

    def rows(self, befores: Any) -> tuple[Any, Any, Flags]:
        """Return what `linear_map` takes of each step, `[T, ...]`, along a trajectory."""
        return befores, self.xs, self.flags

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


def flagged_step(
    step: StepFn, params: Any, state: Any, x: Any, flags: Flags, start: Any
) -> tuple[Any, Any, Any]:
    """The state before a step, the one after it, and the output."""
    if flags.resets is not None:
        state = where_flagged(flags.resets, start, state)
    after, y = step(params, state, x)
    if flags.mask is not None:
        after = where_flagged(flags.mask, after, state)
    return state, after, zero_where_masked(y, flags.mask)


def step_of_vector(
    step: StepFn, params: Any, vector: chex.Array, before: Any, x: Any, flags: Flags
) -> tuple[chex.Array, Any]:
    """The state after a step as a vector, and its output, from that of the old state.

    Where it is reset they do not depend on the old state: `before` is what it was set to.
    """
    if flags.resets is not None:
        vector = jnp.where(flags.resets, flatten(before), vector)
    state, y = step(params, unflatten(vector, before), x)
    after = flatten(state)
    if flags.mask is not None:
        after = jnp.where(flags.mask, after, vector)
    return after, zero_where_masked(y, flags.mask)


def floating_leaves(state: Any) -> list[tuple[str, Any]]:
    """Return the name and leaf of each floating-point array, in the order of the vector."""
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def flatten(state: Any) -> chex.Array:
    """Return the floating-point leaves of a state, end to end: `[N]`, float32 at least."""
    leaves = [leaf for _, leaf in floating_leaves(state)]
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))
    return jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in leaves])


def unflatten(vector: chex.Array, like: Any) -> Any:
    """Return the state with its floating-point leaves taken from a vector `[N]`."""
    start = 0

    def take(leaf: Any) -> Any:
        nonlocal start
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        piece = vector[start : start + leaf.size]
        start += leaf.size
        return piece.reshape(leaf.shape).astype(leaf.dtype)

    return jax.tree.map(take, like)


Spans = tuple[tuple[int, int], ...]  # pieces (start, stop) of the vector


def pick(argument: str, wanted: str | tuple[str, ...] | None, example: Any) -> Spans:
    """Return the pieces of one example's vector that `of=` or `wrt=` asks for."""
    leaves = floating_leaves(example)
    stops = np.cumsum([math.prod(leaf.shape) for _, leaf in leaves]).tolist()
    if wanted is None:
        return ((0, stops[-1]),)
    places = named(argument, wanted, [path for path, _ in leaves], "leaves of the state ({})")
    spans = list(zip([0, *stops], stops, strict=False))
    return tuple(spans[i] for i in places)


def indices(spans: Spans) -> np.ndarray:
    """Return the places in the vector that some pieces cover."""
    return np.concatenate([np.arange(start, stop) for start, stop in spans])


def named(argument: str, wanted: Any, paths: list[str], expected: str, more: str = "") -> list[int]:
    """Return the places of the paths that one name or several mean, in order.

    A name means a leaf if it is the end of its path, a key of a dict bare or in brackets.

    Raises:
      TypeError, ValueError: if a name is no word, or means none of them.
    """
    names = (wanted,) if isinstance(wanted, str) else wanted
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be a name or a tuple of names of leaves, got {wanted!r}")
    found: set[int] = set()
    for name in names or (wanted,):
        here = {i for i, path in enumerate(paths) if names and _means(name, path)}
        if not here:
            spellings = [(_bare(path).lstrip("."), path.lstrip(".")) for path in paths]
            known = ", ".join(" or ".join(map(repr, dict.fromkeys(both))) for both in spellings)
            raise ValueError(f"{argument} must name {expected.format(known)}, got {name!r}{more}")
        found |= here
    return sorted(found)


def _means(name: str, path: str) -> bool:
    return f".{_bare(path)}".endswith("." + _bare(name).lstrip("."))


def _bare(path: str) -> str:
    """Return `.h` for `['h']`."""
    return re.sub(r"\['([^']*)'\]", r".\1", path)
