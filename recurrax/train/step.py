"""One training step, a pure function; and many of them in one compiled loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from recurrax.cures.clipping.clip_state_gradient import ClippedStep
from recurrax.cures.clipping.norm import global_norm
from recurrax.flow import Watched, watch

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell
    from recurrax.tasks import Batch
    from recurrax.train.network import Network, NetworkParams
    from recurrax.train.sharding import Placement

Regularizer = Callable[[Any, Any, Any, Any], Any]
"""`regularizer(cell, params, state, xs) -> scalar`, of the cell's params and initial state."""


@dataclasses.dataclass(frozen=True)
class Program:
    """All that decides what is compiled."""

    network: Network
    draw: Callable[[Any, Any, Any, Any], Batch]  # (key, step, index, data)
    loss: Callable[[Any, Batch], Any]
    metrics: Callable[[Any, Batch], dict[str, Any]] | None
    optimizer: Any
    regularizer: Regularizer | None
    flow_every: int | None
    placement: Placement


class Carry(NamedTuple):
    """What one step leaves to the next."""

    params: NetworkParams
    opt_state: Any
    step: chex.Array  # int32 [], how many are done
    watched: Watched | None


class Tally(NamedTuple):
    """What was seen since the last report."""

    totals: dict[str, chex.Array]  # [] by name, summed over the steps
    largest: chex.Array  # [], of the gradient norms


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
    clipped = _clipped(carry.opt_state, opt_state)
    if clipped is not None:
        seen["clip_fraction"] = clipped
    params = optax.apply_updates(carry.params, updates)
    return Carry(params, opt_state, carry.step + 1, watched), seen


# The number of steps is an argument, not a constant: one program serves any of them, and since it
# is one, a run cut into other pieces ends with the same bits.
@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def advance(
    program: Program, carry: Carry, tally: Tally, key: Any, data: Any, count: Any
) -> tuple[Carry, Tally]:
    """`count` training steps."""

    def body(index: Any, both: tuple[Carry, Tally]) -> tuple[Carry, Tally]:
        carry, tally = both
        batch = program.placement.spread(program.draw(key, carry.step, index, data))
        carry, seen = train_step(program, carry, batch)
        totals = {name: tally.totals[name] + value for name, value in seen.items()}
        return carry, Tally(totals, jnp.maximum(tally.largest, seen["gradient_norm"]))

    both: tuple[Carry, Tally] = jax.lax.fori_loop(0, count, body, (carry, tally))
    done: tuple[Carry, Tally] = program.placement.whole(both)
    return done


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def advance_told(
    program: Program, carry: Carry, tally: Tally, fresh: Any, key: Any, data: Any, count: Any
) -> tuple[Carry, Tally, chex.Array]:
    """`advance`, and the tally in one row `[K]` as well, which reaches the host in one transfer.

    If fresh the tally begins at 0.
    """
    tally = jax.tree.map(lambda leaf: jnp.where(fresh, jnp.zeros_like(leaf), leaf), tally)
    carry, tally = advance(program, carry, tally, key, data, count)
    row = program.placement.whole(jnp.stack([*tally.totals.values(), tally.largest]))
    return carry, tally, row


def begin(program: Program, params: Any, opt_state: Any, step: Any, key: Any, data: Any) -> Carry:
    """A carry on the devices, with nothing watched yet."""
    carry = Carry(params, opt_state, step, None)
    if program.flow_every is not None:
        shapes = jax.eval_shape(partial(_first_watch, program), carry, key, data)
        carry = carry._replace(watched=jax.tree.map(_unknown, shapes))
    placed: Carry = program.placement.place(carry)
    return placed


def blank(program: Program, carry: Carry, key: Any, data: Any) -> Tally:
    """Zeros for everything that a step sees."""

    def one(carry: Carry, key: Any, data: Any) -> Any:
        return train_step(program, carry, program.draw(key, carry.step, 0, data))[1]

    seen = jax.eval_shape(one, carry, key, data)
    wide = {name: jnp.promote_types(leaf.dtype, jnp.float32) for name, leaf in seen.items()}
    totals = {name: jnp.zeros(seen[name].shape, dtype) for name, dtype in wide.items()}
    return Tally(totals, jnp.zeros([], seen["gradient_norm"].dtype))


def _watched(program: Program, carry: Carry, batch: Batch) -> Watched | None:
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


def _first_watch(program: Program, carry: Carry, key: Any, data: Any) -> Watched | None:
    return _watched(program, carry, program.draw(key, carry.step, 0, data))


def _unknown(leaf: Any) -> chex.Array:
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.full(leaf.shape, jnp.nan if floating else -1, leaf.dtype)


def _clipped(before: Any, after: Any) -> chex.Array | None:
    """1 where a transformation that counts what it clips counted this update, else 0."""
    counts = [
        (old, new)
        for (_, old), (_, new) in zip(
            optax.tree.get_all_with_path(before, "clipped"),
            optax.tree.get_all_with_path(after, "clipped"),
            strict=True,
        )
        if jnp.shape(old) == () and jnp.issubdtype(jnp.asarray(old).dtype, jnp.integer)
    ]
    if not counts:
        return None
    return jnp.any(jnp.stack([new > old for old, new in counts])).astype(jnp.float32)
