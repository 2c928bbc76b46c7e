"""The reference engine: one `lax.scan` over the step, masks and resets inside.

Every other engine is tested against this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.unrolling.batch import inputs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import StepFn


class Inputs(NamedTuple):
    """What arrives at each instant; the first axis of every leaf is time."""

    xs: Any  # [T, ...]
    mask: chex.Array | None  # bool [T, *batch]
    resets: chex.Array | None  # bool [T, *batch]


def scan_engine(
    step: StepFn,
    want_states: bool,
    params: Any,
    state: Any,
    start: Any,
    inputs: Inputs,
    *,
    reverse: bool,
    remat: int | None,
) -> tuple[Any, Any]:
    """Unroll any step over time.

    Args:
      step: `(params, state, x) -> (state, y)`.
      want_states: whether the whole state is wanted after each step, or the output.
      params: the step's params.
      state: the state before the first step.
      start: the state that a reset returns to, or None without resets.
      inputs: what arrives at each instant.
      reverse: whether time runs from the end to the start.
      remat: keep one state every `remat` steps and recompute the rest; None keeps what
        differentiation needs of each step.

    Returns:
      The last state, and the states (masked ones are the carried ones) or the outputs (zero where
      masked), `[T, ...]` in the order of the inputs.
    """

    def collect(state: Any, y: Any, mask: Any) -> Any:
        return state if want_states else zero_where_masked(y, mask)

    return scan(step, collect, params, state, start, inputs, reverse=reverse, remat=remat)


def zero_where_masked(ys: Any, mask: Any) -> Any:
    """Outputs, zero where the mask is False."""
    return ys if mask is None else where_flagged(mask, ys, jax.tree.map(jnp.zeros_like, ys))


def scan(
    step: StepFn,
    collect: Callable[[Any, Any, Any], Any],
    params: Any,
    state: Any,
    start: Any,
    inputs: Inputs,
    *,
    reverse: bool,
    remat: int | None,
) -> tuple[Any, Any]:
    """As `scan_engine`, keeping `collect(state, y, mask)` of each instant."""

    rows: tuple[bool, ...] = ()
    if inputs.mask is not None:
        each = (True,) * len(jax.tree.leaves(state))  # as is checked where there is a mask
        rows = inputs_of(step, params, state, each, inputs.xs, tuple(inputs.mask.shape[1:]))

    def body(state: Any, now: Inputs) -> tuple[Any, Any]:
        if now.resets is not None:
            state = where_flagged(now.resets, start, state)
        x = now.xs if now.mask is None else blank(now.mask, now.xs, rows)
        new, y = step(params, state, x)
        if now.mask is not None:
            new = where_flagged(now.mask, new, state)
        return new, collect(new, y, now.mask)

    if remat is None:
        return jax.lax.scan(body, state, inputs, reverse=reverse)
    return _scan_in_chunks(body, state, inputs, remat, reverse)


def where_flagged(flags: chex.Array, yes: Any, no: Any) -> Any:
    """`jnp.where` over a tree, with flags `[*batch]` against leaves `[*batch, ...]`."""

    return jax.tree.map(lambda a, b: jnp.where(widened(flags, a), a, b), yes, no)


def widened(flags: chex.Array, leaf: Any) -> chex.Array:
    """Switches `[*batch]` with the trailing axes that broadcast against a leaf `[*batch, ...]`."""
    return flags.reshape(flags.shape + (1,) * (jnp.ndim(leaf) - flags.ndim))


def blank(mask: chex.Array, x: Any, rows: tuple[bool, ...]) -> Any:
    """Zero what is not finite in masked inputs, since 0 * NaN in a gradient is NaN.

    Finite padding stays: a step may divide by its input. `rows` tells the leaves that have the
    axes of the mask; the others are shared by all rows and stay as they are.
    """

    def zero(leaf: Any, per_row: bool) -> Any:
        leaf = jnp.asarray(leaf)
        if not per_row or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        return jnp.where(widened(mask, leaf) | jnp.isfinite(leaf), leaf, jnp.zeros_like(leaf))

    leaves, tree = jax.tree.flatten(x)
    return jax.tree.unflatten(tree, [zero(*each) for each in zip(leaves, rows, strict=True)])


def _scan_in_chunks(
    body: Callable[[Any, Any], tuple[Any, Any]], state: Any, inputs: Any, size: int, reverse: bool
) -> tuple[Any, Any]:
    """A scan over chunks, each a scan that is recomputed when differentiated."""
    length = jax.tree.leaves(inputs)[0].shape[0]
    whole = length - length % size

    def chunk(state: Any, part: Any) -> tuple[Any, Any]:
        return jax.lax.scan(body, state, part, reverse=reverse)

    def chunks(state: Any, part: Any) -> tuple[Any, Any]:
        split = jax.tree.map(lambda a: a.reshape(whole // size, size, *a.shape[1:]), part)
        # Inside a scan nothing can be shared with the backward pass, so no guard is needed.
        one = jax.checkpoint(chunk, prevent_cse=False)
        state, outs = jax.lax.scan(one, state, split, reverse=reverse)
        return state, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), outs)

    head = (chunks, jax.tree.map(lambda a: a[:whole], inputs))
    tail = (jax.checkpoint(chunk), jax.tree.map(lambda a: a[whole:], inputs))
    parts = [part for part, steps in ((head, whole), (tail, length - whole)) if steps]
    outs = []
    for run, part in reversed(parts) if reverse else parts:
        state, out = run(state, part)
        outs.append(out)
    if reverse:
        outs.reverse()
    return state, jax.tree.map(lambda *a: jnp.concatenate(a), *outs)
