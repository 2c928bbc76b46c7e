"""A gradient by params, split by the number of steps the error travelled.

The error that the loss puts on s_u travels back to s_{u-1}, s_{u-2}, ...; at each s it leaves a
part of the gradient, that of lag u - s. Every step is linear in the error and the same at every
lag, so all errors of one age go back together: one product with the recurrent weights moves all of
them, and one product summed over time is that lag's part.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.lags import outer_products
from recurrax.flow.numbers.scaled import (
    ZERO,
    Scaled,
    add,
    frobenius,
    log_norm,
    log_of,
    power_of_two,
    rescale,
    sum_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.lags.step_maps import StepMaps

BLOCKS = 8  # of lags; errors that have left the sequence are dropped at each


class Parts(NamedTuple):
    """What is kept of each lag's part of the gradient, or of each step's: `[T]`."""

    log_norm: chex.Array
    cosine: chex.Array  # with the whole
    log_rest: chex.Array  # log norm of what later lags add, or of all steps up to each


def backpropagated(maps: StepMaps, errors: Any) -> tuple[Scaled, Scaled]:
    """Return the signals of all errors together, step by step back, and the gradient of them."""

    def body(later: Scaled, now: Any) -> tuple[Scaled, Scaled]:
        row, own = now
        error = add(later, own)
        back, _ = maps.at(jax.tree.map(lambda leaf: leaf[None], row))
        found = back(jax.tree.map(lambda leaf: leaf[None], error.mantissa))
        earlier, signal = jax.tree.map(lambda leaf: leaf[0], found)
        return rescale(earlier, error.exponent), Scaled(signal, error.exponent)

    own = _by_row(errors)
    nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), own)
    nothing = nothing._replace(exponent=nothing.exponent + ZERO)
    signals: Scaled = jax.lax.scan(body, nothing, (maps.rows, own), reverse=True)[1]
    return signals, _summed(maps.at(maps.rows)[1], signals)


def _by_row(errors: Any) -> Scaled:
    first = jax.tree.leaves(errors)[0]
    return rescale(errors, jnp.zeros((len(first), *(1,) * (first.ndim - 1)), jnp.int32))


def _summed(gradient: Callable[..., chex.Array], signals: Scaled) -> Scaled:
    top = jnp.max(signals.exponent)
    scale = power_of_two(signals.exponent - top, signals.mantissa.dtype)
    return rescale(gradient(signals.mantissa, scale), top)


def _measures(total: Scaled) -> Callable[..., tuple[chex.Array, Parts]]:
    """Return what measures a part of the total and adds it, times a sign, to a rest.

    The rest has the exponent of the total.
    """
    of_total = frobenius(total.mantissa)

    def measured(part: Scaled, rest: chex.Array, sign: int) -> tuple[chex.Array, Parts]:
        scale = power_of_two(part.exponent - total.exponent, rest.dtype)
        rest = rest + sign * part.mantissa * scale
        norm = frobenius(part.mantissa)
        both = norm * of_total
        cosine = sum_of(part.mantissa * total.mantissa) / jnp.where(both == 0, 1, both)
        log_rest = log_norm(Scaled(rest, total.exponent))
        return rest, Parts(log_of(norm, part.exponent), cosine, log_rest)

    return measured


def parts_of_any_loss(maps: StepMaps, errors: Any, total: Scaled) -> Parts:
    """Return the parts of all lags of a loss that may look at every output."""
    measured = _measures(total)
    carry, parts, length = (_by_row(errors), total.mantissa), [], len(jax.tree.leaves(errors)[0])
    blocks = min(BLOCKS, -(-length // 16))  # each is one more program to compile
    bounds = [length * block // blocks for block in range(blocks + 1)]
    for start, stop in itertools.pairwise(bounds):
        live = length - start  # later rows have nothing left to bring
        rows, errors = jax.tree.map(lambda leaf, n=live: leaf[:n], (maps.rows, carry[0]))
        back, gradient = maps.at(rows)

        def body(carry: Any, _: None, back: Any = back, gradient: Any = gradient) -> Any:
            # Scaled and moved on here, where they are used, and not where they are made: so
            # neither takes a pass over memory of its own.
            errors, rest = rescale(*carry[0]), carry[1]
            earlier, signals = back(errors.mantissa)
            part = _summed(gradient, Scaled(signals, errors.exponent))
            rest, found = measured(part, rest, -1)
            earlier = jax.tree.map(lambda e: _one_row_on(e, 0), earlier)
            return (Scaled(earlier, _one_row_on(errors.exponent, ZERO)), rest), found

        carry, found = jax.lax.scan(body, (errors, carry[1]), None, length=stop - start)
        parts.append(found)
    joined: Parts = jax.tree.map(lambda *blocks: jnp.concatenate(blocks), *parts)
    return joined


def _one_row_on(leaf: chex.Array, fill: int) -> chex.Array:
    return jnp.concatenate([leaf[1:], jnp.full_like(leaf[:1], fill)])


def parts_of_one_output(maps: StepMaps, signals: Scaled, last: chex.Array, total: Scaled) -> Parts:
    """Return the parts of all lags of a loss that looks at one output, that of step `last`.

    The error of lag l is the whole error at l steps before: its part is that step's own.
    """

    def in_turn() -> Parts:
        measured = _measures(total)

        def body(rest: chex.Array, now: Any) -> tuple[chex.Array, Parts]:
            row, signal = jax.tree.map(lambda leaf: leaf[None], now)
            return measured(_summed(maps.at(row)[1], signal), rest, 1)

        found: Parts = jax.lax.scan(body, jnp.zeros_like(total.mantissa), (maps.rows, signals))[1]
        return found

    if maps.h is None:
        by_time = in_turn()
    else:
        of_one = jax.tree.map(lambda leaf: leaf[:, 0], signals)
        measures, reliable = outer_products.measured(maps.h, of_one, total)
        by_time = jax.lax.cond(reliable, lambda: Parts(*measures), in_turn)
    lags = jnp.arange(len(by_time.log_norm))

    def by_lag(leaf: chex.Array, first: chex.Array, fill: float) -> chex.Array:
        return jnp.where(lags <= first, leaf[jnp.maximum(first - lags, 0)], fill)

    return Parts(
        by_lag(by_time.log_norm, last, -jnp.inf),
        by_lag(by_time.cosine, last, 0),
        by_lag(by_time.log_rest, last - 1, -jnp.inf),  # what earlier steps add is the rest
    )
