"""Brute force for `rx.flow`: whole Jacobians and whole products, of one example, in NumPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import recurrax as rx


def jacobians(cell, params, state, xs):
    """`[T, N, N]`: `jax.jacfwd` of the flattened step, along a Python loop."""
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], state)
    wide = batch_jacobians(cell, params, one, np.asarray(xs)[:, None])
    return wide[:, 0]


def example(tree, b, axis=0):
    """Example b of a batch."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).take(b, axis), tree)


def batch_jacobians(cell, params, state, xs):
    """`[T, B, N, N]`, one example at a time."""
    step = cell.step if isinstance(cell, rx.Cell) else cell
    rows = []
    for b in range(xs.shape[1]):
        now, found = example(state, b), []
        for x in np.asarray(xs)[:, b]:
            jacobian, now = _jacobian_and_next(step, params, now, x)
            found.append(np.asarray(jacobian))
        rows.append(np.stack(found))
    return np.stack(rows, 1)


@functools.partial(jax.jit, static_argnums=0)
def _jacobian_and_next(step, params, state, x):
    vector, unravel = ravel_pytree(state)

    def advance(vector):
        return ravel_pytree(step(params, unravel(vector), x)[0])[0]

    return jax.jacfwd(advance)(vector), step(params, state, x)[0]


def products(matrices):
    """`A_1, A_2 A_1, A_3 A_2 A_1, ...`"""
    found = [matrices[0]]
    for matrix in matrices[1:]:
        found.append(matrix @ found[-1])
    return np.stack(found)


def log_norms(matrices):
    """Log of the largest singular value and of the Frobenius norm, of each matrix."""
    with np.errstate(divide="ignore"):
        spectral = np.log(np.linalg.norm(matrices, 2, axis=(-2, -1)))
        return spectral, np.log(np.linalg.norm(matrices, axis=(-2, -1)))


# --- gradients whose errors are cut off ----------------------------------------------------------


@functools.cache
def _jitted(step):
    return jax.jit(step)


def truncated(cell, params, state, xs, loss, most, mask=None, resets=None):
    """The gradient by params when every error is cut off after `most` steps that count.

    By one unroll for each y, of a batch: a loop of one small program, not one large program.
    """
    step = _jitted(cell.step)
    mask = np.ones(xs.shape[:2], bool) if mask is None else np.asarray(mask)
    resets = np.zeros_like(mask) if resets is None else np.asarray(resets)
    counts, start = np.cumsum(mask, 0), cell.initial_state(params, mask.shape[1:])
    xs = jnp.where(mask[..., None], xs, 0)

    def total(params):
        ys = []
        for t in range(len(xs)):
            now = state
            for s in range(t + 1):
                now = _choose(resets[s], start, now)
                # What came before hears nothing of y_t.
                cut = mask[s] & (counts[t] - counts[s] == most)
                now = _choose(cut, jax.lax.stop_gradient(now), now)
                new, y = step(params, now, xs[s])
                now = _choose(mask[s], new, now)
            ys.append(_choose(mask[t], y, jnp.zeros_like(y)))
        return loss(jnp.stack(ys))

    return jax.grad(total)(params)


def _choose(rows, yes, no):
    if rows.all() or not rows.any():
        return yes if rows.all() else no
    return jax.tree.map(lambda a, b: jnp.where(rows[:, None], a, b), yes, no)


# --- linear networks, whose products are known --------------------------------------------------


def linear(w, h, x):
    """Rows are vectors, as in every recurrax cell: `d h_t / d h_{t-1} = w^T`."""
    h = h @ w + x
    return h, h


def chosen(ws, h, x):
    """A linear step whose matrix is the one that x points at."""
    h = h @ ws[x]
    return h, h
