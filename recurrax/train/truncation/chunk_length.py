"""How long the chunks of truncated backpropagation must be, by the lag profile of the loss."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cures.clipping.clip_state_gradient import without_clip
from recurrax.flow.horizon import truncation
from recurrax.flow.lag_profile import lag_profile
from recurrax.train.truncation.truncated import check_state_is_known, run_batch, start_of
from recurrax.unrolling.unroll import unroll_states

if TYPE_CHECKING:
    import chex

    from recurrax.train.loop import Carry, Program
    from recurrax.train.networks.objective import Objective

KEEP = 0.95  # of the gradient
WINDOW = 1024  # steps that are looked at; a loss at every step costs half the square of them
ROWS = 4  # of the batch that are looked at


def with_truncation(objective: Objective, truncate: Any) -> Objective:
    """Return an objective that is trained in chunks: of so many steps, or "auto", 0 steps as yet.

    Raises:
      ValueError, TypeError: if truncate is neither of these, nor None, or the state is not known.
    """
    if truncate is None:
        return objective
    check_state_is_known("truncate", objective.network)
    if isinstance(truncate, str) and truncate != "auto":
        raise ValueError(
            f'truncate must be a number of steps, "auto" or None, got {truncate!r}. "auto" '
            "measures how many are needed."
        )
    if truncate != "auto":
        checks.check_positive_int("truncate", truncate)
    return dataclasses.replace(objective, truncate=0 if truncate == "auto" else int(truncate))


def chunk_length(program: Program, carry: Carry, data: Any) -> int:
    """Return k, a power of two or T, with which truncation keeps most of this batch's gradient.

    With K = `rx.flow.truncation(profile, keep=0.95)`, an error must travel K steps. In a chunk of k
    it travels k / 2 on average, and so `k >= 4 (K + 1)`: of errors anywhere in a chunk, three of
    four or more travel K steps. The profile is that of the first rows, over the 1024 steps up to
    the last at which the loss looks; where the gradient does not fade within half of these, k is T.

    Args:
      program: whose objective is not in chunks, so that it is compiled once.
      carry: the params, and the step that is to come.
      data: as `program.draw` takes it; the batch is the first one.
    """
    needed, length = map(int, _needed(program, carry, data))
    if needed >= min(length, WINDOW) // 2:
        return length
    return min(length, 1 << (4 * needed + 3).bit_length())


@partial(jax.jit, static_argnums=0)
def _needed(program: Program, carry: Carry, data: Any) -> Any:
    """Return K, and T. K is the whole window where the gradient is zero or not finite."""
    net: Any = program.objective.network
    loss: Any = program.objective.criterion
    params = carry.params
    batch = program.draw(carry.key, carry.step, 0, data)
    length, size = batch.xs.shape[:2]
    window, rows = min(length, WINDOW), min(size, ROWS)
    outputs = run_batch(net, params, batch, carry.state, window)[1]  # as little memory as that
    errors = jax.grad(loss)(outputs, batch)[:, :rows]
    last = length - 1 - jnp.argmax(jnp.any(errors != 0, axis=(1, 2))[::-1])
    start = jnp.maximum(last + 1 - window, 0)

    state, like = start_of(net, params, batch, carry.state), net.start(params, (rows,))
    state = jax.tree.map(lambda a, b: a if a.shape == b.shape else a[:rows], state, like)
    xs, mask = jax.tree.map(lambda a: a[:, :rows], (net.inputs(params, batch.xs), batch.mask))
    if window < length:
        states = unroll_states(net.cell, params.cell, state, xs, mask=mask)
        state = jax.tree.map(lambda a, s: jnp.where(start > 0, s[start - 1], a), state, states)
    xs, mask = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, window), (xs, mask))

    def of_window(ys: chex.Array) -> chex.Array:
        now = net.readout(params, ys)
        return loss(jax.lax.dynamic_update_slice(outputs, now, (start, 0, 0)), batch)

    paths = jax.tree_util.tree_leaves_with_path(params.cell)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    wrt = "w_rec" if any(name.endswith((".w_rec", "['w_rec']")) for name in names) else None
    cell = without_clip(net.cell)
    profile = lag_profile(cell, params.cell, state, xs, of_window, wrt=wrt, mask=mask)
    needed = jnp.where(jnp.isneginf(profile.log_total), window, truncation(profile, keep=KEEP))
    return program.placement.whole((needed, length))
