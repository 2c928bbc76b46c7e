"""A gradient by params, split by the number of steps the error travelled.

The error that the loss puts on s_u travels back to s_{u-1}, s_{u-2}, ...; at each s it leaves a
part of the gradient, that of lag u - s. The trajectory is walked once. From then on every instant
is linear and the same at every lag, so all errors of one age go back together: one product with
the recurrent weights moves all of them, and one product summed over time is that lag's part.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.scaled import log_of, power_of_two, root

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

BLOCKS = 8  # of lags; errors that have left the sequence are dropped at each
NOTHING = -(2**30)  # the exponent of a row of zeros


class Signals(NamedTuple):
    """What reaches the params at each instant."""

    values: Any  # [T, ...]
    exponents: chex.Array  # int32 [T]


class Part(NamedTuple):
    """What is kept of each lag, or of each instant: `[T]`."""

    log_norm: chex.Array
    cosine: chex.Array  # with the whole
    log_rest: chex.Array  # log norm of what later lags add, or of all instants up to each


class Instants(Protocol):
    """Instants as linear maps, some rows of time; errors are any pytree of `[T, ...]`."""

    def begin(self, y_bar: list[chex.Array]) -> Any:
        """The error that the loss puts on each instant, from its gradient by the outputs."""
        ...

    def ready(self) -> Instants:
        """The same, with what `back` needs."""
        ...

    def rows(self) -> tuple[Any, Callable[[Any], Instants]]:
        """The arrays that lead with time, and how to put such rows back."""
        ...

    def back(self, errors: Any) -> tuple[Any, chex.Array]:
        """The errors on the state before, each row by itself, and what reaches the params."""
        ...

    def trace(self, errors: Any) -> Signals:
        """What reaches the params of all errors together, as in backpropagation."""
        ...

    def weigh(self, signals: Any, scale: chex.Array) -> chex.Array:
        """The gradient by the params, a matrix: the sum over rows of scale times what they give."""
        ...

    def each(self, signals: Signals, total: Any) -> Part | None:
        """The part of each instant, of its gradient by itself, if there is a cheap way."""
        ...


def trace(instants: Instants, errors: Any) -> Signals:
    """One step after the other, back through time."""
    rows, put = instants.ready().rows()

    def body(later: Any, now: Any) -> tuple[Any, Signals]:
        row, *own = now
        error, top = bring_together(later, own)
        here = put(jax.tree.map(lambda leaf: leaf[None], row))
        earlier, signal = here.back(jax.tree.map(lambda leaf: leaf[None], error))
        earlier, exponent = rescaled_rows(earlier, top[None])
        return (jax.tree.map(lambda leaf: leaf[0], earlier), exponent[0]), Signals(signal[0], top)

    length = len(jax.tree.leaves(errors)[0])
    own = rescaled_rows(errors, jnp.zeros(length, jnp.int32))
    nothing = (jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), errors), jnp.int32(NOTHING))
    signals: Signals = jax.lax.scan(body, nothing, (rows, *own), reverse=True)[1]
    return signals


def every_lag(instants: Instants, errors: Any, total: Any) -> Part:
    """The parts of all lags of a loss that may look at every output."""
    rows, put = instants.ready().rows()
    length = len(jax.tree.leaves(errors)[0])
    shifts = shifts_of(errors)
    exponents = jnp.where(shifts == NOTHING, NOTHING, 0)
    rest, parts, of_total = total[0], [], root(sum_of(total[0] * total[0]))
    blocks = min(BLOCKS, -(-length // 16))  # each is one more program to compile
    bounds = [length * block // blocks for block in range(blocks + 1)]
    for start, stop in itertools.pairwise(bounds):
        live = length - start  # later rows have nothing left to bring
        errors, shifts, exponents, mine = jax.tree.map(
            lambda leaf, live=live: leaf[:live], (errors, shifts, exponents, rows)
        )
        here = put(mine)

        def body(carry: Any, _: None, here: Any = here) -> tuple[Any, Part]:
            # Scaled and moved on here, where they are used, and not where they are made: so
            # neither takes a pass over memory of its own.
            errors, shifts, exponents, rest = carry
            earlier, signals = here.back(scaled_rows(errors, shifts))
            exponents = added(exponents, shifts)
            part = weighed(here, Signals(signals, exponents))
            rest = rest - part[0] * power_of_two(part[1] - total[1], rest.dtype)
            errors = jax.tree.map(lambda e: _one_row_on(e, 0), earlier)
            exponents = _one_row_on(exponents, NOTHING)
            seen = _seen(part, total, of_total, rest)
            return (errors, shifts_of(errors), exponents, rest), seen

        carry = (errors, shifts, exponents, rest)
        (errors, shifts, exponents, rest), found = jax.lax.scan(
            body, carry, None, length=stop - start
        )
        parts.append(found)
    joined: Part = jax.tree.map(lambda *blocks: jnp.concatenate(blocks), *parts)
    return joined


def _one_row_on(leaf: chex.Array, fill: int) -> chex.Array:
    return jnp.concatenate([leaf[1:], jnp.full_like(leaf[:1], fill)])


def seen(errors: Any) -> chex.Array:
    """Which instants the loss looks at, bool `[T]`."""
    leaves = jax.tree.leaves(errors)
    return jnp.any(jnp.stack([jnp.any(e.reshape(len(e), -1) != 0, axis=1) for e in leaves]), axis=0)


def one_look(instants: Instants, signals: Signals, last: chex.Array, total: Any) -> Part:
    """The parts of all lags of a loss that looks at the output of one instant only.

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


def by_instant(instants: Instants, signals: Signals, total: Any) -> Part:
    """The part of each instant, one after the other."""
    rows, put = instants.rows()
    of_total = root(sum_of(total[0] * total[0]))

    def body(rest: chex.Array, now: Any) -> tuple[chex.Array, Part]:
        row, signal = jax.tree.map(lambda leaf: leaf[None], now)
        part = weighed(put(row), signal)
        rest = rest + part[0] * power_of_two(part[1] - total[1], rest.dtype)
        return rest, _seen(part, total, of_total, rest)

    found: Part = jax.lax.scan(body, jnp.zeros_like(total[0]), (rows, signals))[1]
    return found


def weighed(instants: Instants, signals: Signals) -> tuple[Any, Any]:
    """The gradient by the params, `(mantissa, exponent)`, of what reaches them."""
    top = jnp.max(signals.exponents)
    scale = jax.tree.leaves(signals.values)[0].dtype
    part = instants.weigh(signals.values, power_of_two(signals.exponents - top, scale))
    _, shift = jnp.frexp(jnp.max(jnp.max(jnp.abs(part), axis=0)))
    most = jnp.finfo(part.dtype).maxexp - 2
    shift = jnp.clip(shift, -most, most)
    return part * power_of_two(-shift, part.dtype), shift + top


def bring_together(later: Any, own: Any) -> tuple[Any, chex.Array]:
    """The sum of an error that comes from later and the loss's own, and its exponent."""
    (x, p), (y, q) = later, own
    top = jnp.maximum(p, q)

    def add(a: chex.Array, b: chex.Array) -> chex.Array:
        return a * power_of_two(p - top, a.dtype) + b * power_of_two(q - top, b.dtype)

    return jax.tree.map(add, x, y), top


def _seen(part: Any, total: Any, of_total: chex.Array, rest: chex.Array) -> Part:
    norm = root(sum_of(part[0] * part[0]))
    both = norm * of_total
    cosine = sum_of(part[0] * total[0]) / jnp.where(both == 0, 1, both)
    return Part(log_of(norm, part[1]), cosine, log_size(rest, total[1]))


def sum_of(matrix: chex.Array) -> chex.Array:
    """Of all entries, the columns first: a sum over both axes would go one entry at a time."""
    return jnp.sum(jnp.sum(matrix, axis=0))


def rescaled_rows(errors: Any, exponents: chex.Array) -> tuple[Any, chex.Array]:
    """Each row with its largest entry in [1/2, 1), and its exponent; `NOTHING` for zeros."""
    shifts = shifts_of(errors)
    return scaled_rows(errors, shifts), added(exponents, shifts)


def shifts_of(errors: Any) -> chex.Array:
    """The exponent of the largest entry of each row; `NOTHING` for a row of zeros."""
    leaves = jax.tree.leaves(errors)
    columns = [jnp.max(jnp.abs(e), axis=tuple(range(1, e.ndim - 1))) for e in leaves]
    sizes = jnp.max(functools.reduce(jnp.maximum, columns), axis=1)  # as in sum_of
    _, shifts = jnp.frexp(sizes)
    most = jnp.finfo(sizes.dtype).maxexp - 2
    return jnp.where(sizes == 0, NOTHING, jnp.clip(shifts, -most, most))


def scaled_rows(errors: Any, shifts: chex.Array) -> Any:
    """Each row divided by two to the power of its shift."""

    def scaled(e: chex.Array) -> chex.Array:
        scale = power_of_two(jnp.where(shifts == NOTHING, 0, -shifts), e.dtype)
        return e * scale.reshape((-1,) + (1,) * (e.ndim - 1))

    return jax.tree.map(scaled, errors)


def added(exponents: chex.Array, shifts: chex.Array) -> chex.Array:
    """Exponents of rows after their shifts; `NOTHING` where a row is."""
    return jnp.where(shifts == NOTHING, NOTHING, exponents + shifts)


def log_size(mantissa: chex.Array, exponent: chex.Array) -> chex.Array:
    """The log of the norm of a gradient."""
    return log_of(root(sum_of(mantissa * mantissa)), exponent)
