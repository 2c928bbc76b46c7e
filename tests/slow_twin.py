"""The slow twins of `rx.unroll`: Python loops that anyone can check by eye."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

import recurrax as rx


def loop(cell, params, state, xs):
    """`state, ys` by calling the step once per input."""
    ys = []
    for x in xs:
        state, y = cell.step(params, state, x)
        ys.append(y)
    return state, jnp.stack(ys)


@functools.cache
def jitted(cell):
    """The cell with a compiled step: op by op a loop takes many small compilations."""
    return rx.Cell(cell.init, cell.initial_state, jax.jit(cell.step))


def row_loop(cell, params, state, xs, *, mask=None, resets=None, reverse=False):
    """`state, ys, states` row by row, with Python's own `if` for every mask and reset."""
    rows = []
    for b in range(xs.shape[1]):
        rows.append(
            _one_row(
                cell,
                params,
                jax.tree.map(lambda a, b=b: a[b], state),
                xs[:, b],
                None if mask is None else mask[:, b],
                None if resets is None else resets[:, b],
                reverse,
            )
        )
    finals, ys, states = zip(*rows, strict=True)
    return (
        jax.tree.map(lambda *a: jnp.stack(a), *finals),
        jnp.stack(ys, 1),
        jax.tree.map(lambda *a: jnp.stack(a, 1), *states),
    )


def _one_row(cell, params, state, xs, mask, resets, reverse):
    length = xs.shape[0]
    ys, states = [None] * length, [None] * length
    for t in reversed(range(length)) if reverse else range(length):
        if resets is not None and bool(resets[t]):
            state = cell.initial_state(params)
        if mask is None or bool(mask[t]):
            state, ys[t] = cell.step(params, state, xs[t])
        states[t] = state
    blank = jnp.zeros_like(jax.eval_shape(cell.step, params, state, xs[0])[1])
    ys = [blank if y is None else y for y in ys]
    return state, jnp.stack(ys), jax.tree.map(lambda *a: jnp.stack(a), *states)


def total(tree):
    """One number that every entry of a tree moves by another amount."""
    parts = []
    for leaf in jax.tree.leaves(tree):
        weight = jnp.linspace(0.5, 1.5, leaf.size, dtype=leaf.dtype).reshape(leaf.shape)
        parts.append(jnp.sum(weight * jnp.sin(2 * leaf)))
    return sum(parts)
