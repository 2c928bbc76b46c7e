"""A gradient by params, split by the number of steps the error travelled.

The error that the loss puts on s_u travels back to s_{u-1}, s_{u-2}, ...; at each s it leaves a
part of the gradient, that of lag u - s. The trajectory is walked once. From then on every instant
is linear and the same at every lag, so all errors of one age go back together: one product with
the recurrent weights moves all of them, and one product summed over time is that lag's part.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

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

BLOCKS = 8  # of lags; errors that have left the sequence are dropped at each


class Part(NamedTuple):
    """What is kept of each lag, or of each instant: `[T]`."""

    log_norm: chex.Array
    cosine: chex.Array  # with the whole
    log_rest: chex.Array  # log norm of what later lags add, or of all instants up to each


class Instants(Protocol):
    """Instants as linear maps, some rows of time.

    Errors are any pytree of `[T, ...]` and signals, what reaches the params, an array `[T, ...]`.
    Scaled ones have an exponent for each row.
    """

    def begin(self, y_bar: list[chex.Array]) -> Any:
        """Return the error that the loss puts on each instant, from its gradient by the outputs."""
        ...

    def rows(self) -> tuple[Any, Callable[[Any], Instants]]:
        """Return the arrays that lead with time, and how to put such rows back."""
        ...

    def back(self, errors: Any) -> tuple[Any, chex.Array]:
        """Return the errors on the state before, each row by itself, and the signals."""
        ...

    def trace(self, errors: Any) -> Scaled:
        """Return the signals of all errors together, as in backpropagation."""
        ...

    def weigh(self, signals: chex.Array, scale: chex.Array) -> chex.Array:
        """Return the gradient by the params, a matrix: the sum over rows of scale times theirs."""
        ...

    def each(self, signals: Scaled, total: Scaled) -> Part | None:
        """Return the part of each instant, of its gradient alone, if there is a cheap way."""
        ...


def by_rows(errors: Any) -> Scaled:
    """Return errors with an exponent for each row."""
    first = jax.tree.leaves(errors)[0]
    return rescale(errors, jnp.zeros((len(first), *(1,) * (first.ndim - 1)), jnp.int32))


def trace(instants: Instants, errors: Any) -> Scaled:
    """Return the signals of all errors together: step by step back, as in backpropagation."""
    rows, put = instants.rows()

    def body(later: Scaled, now: Any) -> tuple[Scaled, Scaled]:
        row, own = now
        error = add(later, own)
        here = put(jax.tree.map(lambda leaf: leaf[None], row))
        back = here.back(jax.tree.map(lambda leaf: leaf[None], error.mantissa))
        earlier, signal = jax.tree.map(lambda leaf: leaf[0], back)
        return rescale(earlier, error.exponent), Scaled(signal, error.exponent)

    own = by_rows(errors)
    nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), own)
    nothing = nothing._replace(exponent=nothing.exponent + ZERO)
    signals: Scaled = jax.lax.scan(body, nothing, (rows, own), reverse=True)[1]
    return signals


def every_lag(instants: Instants, errors: Any, total: Scaled) -> Part:
    """Return the parts of all lags of a loss that may look at every output."""
    rows, put = instants.rows()
    length = len(jax.tree.leaves(errors)[0])
    carry, parts, of_total = (by_rows(errors), total.mantissa), [], frobenius(total.mantissa)
    blocks = min(BLOCKS, -(-length // 16))  # each is one more program to compile
    bounds = [length * block // blocks for block in range(blocks + 1)]
    for start, stop in itertools.pairwise(bounds):
        live = length - start  # later rows have nothing left to bring
        here = put(jax.tree.map(lambda leaf, live=live: leaf[:live], rows))
        errors = jax.tree.map(lambda leaf, live=live: leaf[:live], carry[0])

        def body(carry: Any, _: None, here: Any = here) -> tuple[Any, Part]:
            # Scaled and moved on here, where they are used, and not where they are made: so
            # neither takes a pass over memory of its own.
            errors, rest = rescale(*carry[0]), carry[1]
            earlier, signals = here.back(errors.mantissa)
            part = weighed(here, Scaled(signals, errors.exponent))
            rest = rest - part.mantissa * power_of_two(part.exponent - total.exponent, rest.dtype)
            earlier = jax.tree.map(lambda e: _one_row_on(e, 0), earlier)
            errors = Scaled(earlier, _one_row_on(errors.exponent, ZERO))
            return (errors, rest), _measured(part, total, of_total, rest)

        carry, found = jax.lax.scan(body, (errors, carry[1]), None, length=stop - start)
        parts.append(found)
    joined: Part = jax.tree.map(lambda *blocks: jnp.concatenate(blocks), *parts)
    return joined


def _one_row_on(leaf: chex.Array, fill: int) -> chex.Array:
    return jnp.concatenate([leaf[1:], jnp.full_like(leaf[:1], fill)])


def seen(errors: Any) -> chex.Array:
    """Return which instants the loss looks at, bool `[T]`."""
    leaves = jax.tree.leaves(errors)
    return jnp.any(jnp.stack([jnp.any(e.reshape(len(e), -1) != 0, axis=1) for e in leaves]), axis=0)


def one_look(instants: Instants, signals: Scaled, last: chex.Array, total: Scaled) -> Part:
    """Return the parts of all lags of a loss that looks at the output of one instant only.

    The error of lag l is the whole error at l steps before: its part is that instant's own.
    """
    found = instants.each(signals, total)
    by_time = by_instant(instants, signals, total) if found is None else found
    lags = jnp.arange(len(by_time.log_norm))

    def by_lag(leaf: chex.Array, first: chex.Array, fill: float) -> chex.Array:
        return jnp.where(lags <= first, leaf[jnp.maximum(first - lags, 0)], fill)

    return Part(
        by_lag(by_time.log_norm, last, -jnp.inf),
        by_lag(by_time.cosine, last, 0),
        by_lag(by_time.log_rest, last - 1, -jnp.inf),  # what earlier instants add is the rest
    )


def by_instant(instants: Instants, signals: Scaled, total: Scaled) -> Part:
    """Return the part of each instant, one after the other."""
    rows, put = instants.rows()
    of_total = frobenius(total.mantissa)

    def body(rest: chex.Array, now: Any) -> tuple[chex.Array, Part]:
        row, signal = jax.tree.map(lambda leaf: leaf[None], now)
        part = weighed(put(row), signal)
        rest = rest + part.mantissa * power_of_two(part.exponent - total.exponent, rest.dtype)
        return rest, _measured(part, total, of_total, rest)

    found: Part = jax.lax.scan(body, jnp.zeros_like(total.mantissa), (rows, signals))[1]
    return found


def weighed(instants: Instants, signals: Scaled) -> Scaled:
    """Return the gradient by the params of what reaches them."""
    top = jnp.max(signals.exponent)
    scale = power_of_two(signals.exponent - top, signals.mantissa.dtype)
    return rescale(instants.weigh(signals.mantissa, scale), top)


def _measured(part: Scaled, total: Scaled, of_total: chex.Array, rest: chex.Array) -> Part:
    """Return a part's measures; the rest has the exponent of the total."""
    norm = frobenius(part.mantissa)
    both = norm * of_total
    cosine = sum_of(part.mantissa * total.mantissa) / jnp.where(both == 0, 1, both)
    return Part(log_of(norm, part.exponent), cosine, log_norm(Scaled(rest, total.exponent)))
