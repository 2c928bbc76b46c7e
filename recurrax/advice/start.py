"""How the gradient travels at the start, over several seeds, and one number to rank it by."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recurrax.advice.outcome import Start
from recurrax.cures.clipping.global_norm import global_norm
from recurrax.flow.decay import decay
from recurrax.flow.horizon import horizon, rate
from recurrax.flow.steps.problem import floating_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from recurrax.cell import Cell
    from recurrax.train.networks.network import Network

_EXACT, _PROBES = 64, 16  # a larger state is looked at along so many directions
_UPDATES, _UPDATE = 8, 0.02  # steps of Adam by a penalty alone, and their learning rate
_FELT = math.log(20)  # beyond this factor a gradient explodes; `flow.verdict` has it too


def measure(network: Network, params: Any, batch: Any, loss: Callable[[Any, Any], Any]) -> Start:
    """Measure S starts at once, in a program that cells of one step share.

    Args:
      network: the cell and its readout.
      params: of the network, with a leading axis `[S]`.
      batch: the sequences `[T, B, I]`, and what the loss compares with.
      loss: `loss(outputs, batch) -> scalar`.
    """
    bare = dataclasses.replace(network, cell=dataclasses.replace(network.cell, init=_no_init))
    found: Start = _measured(bare, loss, params, batch)
    return Start(*(np.asarray(leaf, np.float64) for leaf in found))


def _no_init(key: Any) -> Any:
    raise NotImplementedError


@partial(jax.jit, static_argnums=(0, 1))
def _measured(network: Network, loss: Any, params: Any, batch: Any) -> Start:
    cell = network.cell

    def one(params: Any, norm: Any) -> Start:
        xs = network.inputs(params, batch.xs)
        state = cell.initial_state(params.cell, xs.shape[1:-1])
        size = sum(math.prod(leaf.shape[1:]) for _, leaf in floating_leaves(state))
        probes = None if size <= _EXACT else _PROBES
        found = decay(cell, params.cell, state, xs, mask=batch.mask, probes=probes)
        growth, single = found.log_norm[-1], 0.5 * math.log(size)
        spread = growth - found.log_frobenius[-1] + single
        return Start(
            rate=jnp.mean(rate(found)),
            horizon=jnp.median(horizon(found).steps),
            growth=jnp.mean(growth),
            spread=jnp.mean(jnp.where(jnp.isfinite(spread), spread, single)),
            gradient_norm=norm,
        )

    # Seed by seed, since half precision has no batched product of gradients on a CPU.
    norms = jax.lax.map(lambda own: _gradient_norm(network, loss, own, batch), params)
    found: Start = jax.vmap(one)(params, norms)
    return found


def _gradient_norm(network: Network, loss: Any, params: Any, batch: Any) -> Any:
    return global_norm(jax.grad(lambda p: loss(network.outputs(p, batch), batch))(params))


def measured_after_penalty(
    network: Network, params: Any, batch: Any, loss: Callable[[Any, Any], Any], penalty: Any
) -> Start:
    """The start that some steps of Adam, on a penalty alone, make of these params."""
    xs = network.inputs(jax.tree.map(lambda leaf: leaf[0], params), batch.xs)
    cell = dataclasses.replace(network.cell, init=_no_init)
    changed = _after_penalty(cell, penalty, params.cell, xs)
    return measure(network, params._replace(cell=changed), batch, loss)


@partial(jax.jit, static_argnums=(0, 1))
def _after_penalty(cell: Cell, penalty: Any, params: Any, xs: Any) -> Any:
    optimizer = optax.adam(_UPDATE)

    def value(own: Any) -> Any:
        return penalty(cell, own, cell.initial_state(own, xs.shape[1:-1]), xs)

    def update(_: Any, both: Any) -> Any:
        own, state = both
        updates, state = optimizer.update(jax.grad(value)(own), state, own)
        return optax.apply_updates(own, updates), state

    def one(own: Any) -> Any:
        return jax.lax.fori_loop(0, _UPDATES, update, (own, optimizer.init(own)))[0]

    return jax.lax.map(one, params)


def clip_level(
    network: Network, params: Any, batches: Sequence[Any], loss: Callable[[Any, Any], Any]
) -> float:
    """A level of clipping above most gradients: nine in ten over seeds and batches, to two digits.

    Args:
      network: the cell and its readout.
      params: of the network, with a leading axis `[S]`.
      batches: of as many sequences each.
      loss: `loss(outputs, batch) -> scalar`.
    """
    bare = dataclasses.replace(network, cell=dataclasses.replace(network.cell, init=_no_init))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    norms = np.asarray(_gradient_norms(bare, loss, params, stacked), np.float64)
    finite = norms[np.isfinite(norms)]
    return float(f"{np.quantile(finite, 0.9):.2g}") if finite.size and finite.any() else 1.0


@partial(jax.jit, static_argnums=(0, 1))
def _gradient_norms(network: Network, loss: Any, params: Any, batches: Any) -> Any:
    """`[M, S]`, one after the other."""

    def of_seeds(batch: Any) -> Any:
        return jax.lax.map(lambda own: _gradient_norm(network, loss, own, batch), params)

    return jax.lax.map(of_seeds, batches)


def distance(start: Start, wanted: float) -> float:
    """How far a start is from what is wanted, in nats; `advise` says how."""
    with np.errstate(divide="ignore", invalid="ignore"):
        short = np.maximum(0.0, np.log(wanted / start.horizon))
        growth = np.maximum(0.0, start.growth - _FELT)
        steep = np.maximum(0.0, np.log(start.gradient_norm) - _FELT)
    each = short + growth + steep + np.maximum(0.0, start.spread)
    return float(np.mean(each) + np.std(each)) if np.isfinite(each).all() else math.inf
