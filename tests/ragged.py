"""One batch with gaps and a reset, and its rows alone, for every question about time.

Row 0 is whole, row 1 short, row 2 has gaps, row 3 begins anew at step 3. Without what is masked row
1 and row 2 are five steps long, and so is what row 3 does after its reset.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from contract import like

import recurrax as rx

T, B, I, LIVE = 8, 4, 2, 5
COUNTS = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0, 1, 1]])
MASK = np.concatenate([COUNTS, COUNTS[:1]]).astype(bool).T
RESETS = np.zeros((T, B), bool)
RESETS[T - LIVE, 3] = True
PLACES = np.array([np.flatnonzero(MASK[:, 1]), np.flatnonzero(MASK[:, 2]), np.arange(T - LIVE, T)])


class Ragged(NamedTuple):
    """A batch with flags, and what it is compared with."""

    args: tuple[Any, ...]  # cell, params, state, xs; NaN where masked
    flags: dict[str, Any]
    alone: tuple[Any, ...]  # rows 1 and 2 and the end of row 3, of five steps, with no flags


def ragged(name: str) -> Ragged:
    """A gated cell, or a stack, of which nothing is known but its step; in float64."""
    cell = {
        "gated": rx.cells.lstm(I, 3, dtype=jnp.float64),
        "plain": rx.stack(
            rx.cells.gru(I, 2, dtype=jnp.float64), rx.cells.elman(2, 2, dtype=jnp.float64)
        ),
    }[name]
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)), 0.7)
    start = cell.initial_state(params, (B,))
    state, xs = like(2, start), like(3, jnp.zeros((T, B, I)))
    alone = jnp.stack([xs[places, row] for row, places in enumerate(PLACES, 1)], 1)
    states = jax.tree.map(lambda a, b: jnp.concatenate([a[1:3], b[3:]]), state, start)
    xs = jnp.where(MASK[..., None], xs, jnp.nan)
    flags = {"mask": jnp.asarray(MASK), "resets": jnp.asarray(RESETS)}
    return Ragged((cell, params, state, xs), flags, (cell, params, states, alone))


def of_rows(leaf: Any) -> np.ndarray:
    """What a result `[T, B, ...]` says of the steps of `alone`: `[5, 3, ...]`."""
    leaf = np.asarray(leaf)
    return np.stack([leaf[places, row] for row, places in enumerate(PLACES, 1)], 1)
