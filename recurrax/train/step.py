"""One training step, a pure function; and many of them in one compiled loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from recurrax import checks
from recurrax.cures.clipping.clip_state_gradient import ClippedStep
from recurrax.cures.clipping.global_norm import clip_counts, global_norm
from recurrax.flow.watch import Watched, watch
from recurrax.tasks.batch import Batch
from recurrax.train.sharding import ONE_DEVICE, Placement

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell
    from recurrax.train.network import Network, NetworkParams

Draw = Callable[[Any, Any, Any, Any], Batch]
"""`draw(key, step, index, data) -> Batch`, of the step in all and its index in one call."""

Regularizer = Callable[[Any, Any, Any, Any], Any]
"""`regularizer(cell, params, state, xs) -> scalar`, of the cell's params and initial state."""


@dataclasses.dataclass(frozen=True)
class Program:
    """All that decides what is compiled."""

    network: Network
    draw: Draw
    loss: Callable[[Any, Batch], Any]
    metrics: Callable[[Any, Batch], dict[str, Any]] | None
    optimizer: Any
    regularizer: Regularizer | None = None
    flow_every: int | None = None
    placement: Placement = ONE_DEVICE
    many: bool = False  # whether keys, carry and sums have a leading axis [S], one entry a seed


class Carry(NamedTuple):
    """What one step leaves to the next."""

    params: NetworkParams
    opt_state: Any
    step: chex.Array  # int32 [], how many are done
    watched: Watched | None = None


class Sums(NamedTuple):
    """What was seen since the last report."""

    totals: dict[str, chex.Array]  # [] by name, summed over the steps
    largest: chex.Array  # [], of the gradient norms


class Steps(NamedTuple):
    """Which training steps one call takes."""

    fresh: Any  # bool, whether the sums begin at 0
    key: chex.PRNGKey
    data: Any
    count: Any  # int32


def train_step(program: Program, carry: Carry, batch: Batch) -> tuple[Carry, dict[str, Any]]:
    """`params <- params + update(d (loss + regularizer) / d params)`, and what was seen by name.

    Loss and metrics are those of the params before the update.
    """
    cell = program.network.cell

    def objective(params: NetworkParams) -> tuple[Any, tuple[dict[str, Any], Any]]:
        outputs = program.network.apply(params, batch.xs)
        total = program.loss(outputs, batch)
        seen = {"loss": total}
        if program.regularizer is not None:
            state = cell.initial_state(params.cell, batch.xs.shape[1:-1])
            xs = program.network.inputs(params, batch.xs)
            seen["penalty"] = program.regularizer(cell, params.cell, state, xs)
            total = total + seen["penalty"]
        return total, (seen, outputs)

    derivative = jax.value_and_grad(objective, has_aux=True)
    (total, (seen, outputs)), gradient = derivative(carry.params)
    if program.metrics is not None:
        seen |= program.metrics(outputs, batch)
    seen["gradient_norm"] = global_norm(gradient)
    watched = _watched(program, carry, batch)
    # The loss is what a schedule such as reduce_on_plateau looks at; others ignore it.
    optimizer = optax.with_extra_args_support(program.optimizer)
    updates, opt_state = optimizer.update(gradient, carry.opt_state, carry.params, value=total)
    before, after = clip_counts(carry.opt_state), clip_counts(opt_state)
    if before:
        counted = [new > old for (old, _), (new, _) in zip(before, after, strict=True)]
        seen["clip_fraction"] = jnp.any(jnp.stack(counted)).astype(jnp.float32)
    params = optax.apply_updates(carry.params, updates)
    return Carry(params, opt_state, carry.step + 1, watched), seen


# The number of steps is an argument, not a constant: one program serves any of them, and since it
# is one, a run cut into other pieces ends with the same bits.
@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def advance_and_report(
    program: Program, carry: Carry, sums: Sums, steps: Steps
) -> tuple[Carry, Sums, chex.Array]:
    """Take training steps, of each seed.

    Returns:
      The carry, the sums, and these in one array `[K]` or `[K, S]` as well, which reaches the host
      in one transfer.
    """

    def one(carry: Carry, sums: Sums, key: Any) -> tuple[Carry, Sums]:
        def body(index: Any, both: tuple[Carry, Sums]) -> tuple[Carry, Sums]:
            carry, sums = both
            batch = program.placement.spread(program.draw(key, carry.step, index, steps.data))
            carry, seen = train_step(program, carry, batch)
            totals = {name: sums.totals[name] + value for name, value in seen.items()}
            return carry, Sums(totals, jnp.maximum(sums.largest, seen["gradient_norm"]))

        both: tuple[Carry, Sums] = jax.lax.fori_loop(0, steps.count, body, (carry, sums))
        return both

    sums = jax.tree.map(lambda leaf: jnp.where(steps.fresh, jnp.zeros_like(leaf), leaf), sums)
    advance = jax.vmap(one) if program.many else one
    carry, sums = program.placement.whole(advance(carry, sums, steps.key))
    row = program.placement.whole(jnp.stack([*sums.totals.values(), sums.largest]))
    return carry, sums, row


def start(program: Program, carry: Carry, key: Any, data: Any) -> tuple[Carry, Sums]:
    """Return copies of a carry and sums of zeros on the devices, with nothing watched yet."""

    def first(carry: Carry, key: Any) -> tuple[Watched | None, Sums]:
        batch = program.draw(key, carry.step, 0, data)
        after, seen = train_step(program, carry, batch)
        wide = {name: checks.at_least(leaf, jnp.float32) for name, leaf in seen.items()}
        return after.watched, Sums(wide, seen["gradient_norm"])

    watched, sums = jax.eval_shape(jax.vmap(first) if program.many else first, carry, key)
    carry = carry._replace(watched=jax.tree.map(_unknown, watched))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
    placed: tuple[Carry, Sums] = program.placement.place((carry, zeros))
    return placed


def _watched(program: Program, carry: Carry, batch: Batch) -> Watched | None:
    """Return the gradient flow along the batch, measured anew where it is due."""
    if program.flow_every is None:
        return None
    cell, params = measurable(program.network.cell), carry.params
    xs = program.network.inputs(params, batch.xs)
    every, last = program.flow_every, carry.watched
    return watch(cell, params.cell, None, xs, step=carry.step, last=last, every=every)


def measurable(cell: Cell) -> Cell:
    """The cell inside a clip of its state's gradient, which has no forward derivatives."""
    step = cell.step
    while isinstance(step, ClippedStep):
        step = step.step
    return dataclasses.replace(cell, step=step)


def _unknown(leaf: Any) -> chex.Array:
    """Return NaN, and -1 for the step, for what was not measured yet."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.full(leaf.shape, jnp.nan if floating else -1, leaf.dtype)
