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
    frobenius,
    log_norm,
    log_of,
    power_of_two,
    rescale,
    sum_of,
)
from recurrax.flow.steps.loss import StepMaps, by_step
from recurrax.gated.derivatives import traced_pointwise, weighted
from recurrax.gated.differentiable import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.steps.problem import Problem

BLOCKS = 8  # of lags; errors that have left the sequence are dropped at each


class Parts(NamedTuple):
    """What is kept of each lag's part of the gradient, or of each step's: `[T]`."""

    log_norm: chex.Array
    cosine: chex.Array  # with the whole
    log_rest: chex.Array  # log norm of what later lags add, or of all steps up to each


def gated_step_maps(
    problem: Problem, befores: Any, ys_bar: list[chex.Array]
) -> tuple[StepMaps, tuple[chex.Array, ...]] | None:
    """Return the maps of a gated cell by w_rec, and the error that the loss puts on each field.

    The derivatives of the pointwise function are diagonal, so an error goes back one step by some
    multiplications and one product with w_rec. None if the function cannot be taken apart.
    """
    step: Any = problem.step
    params: Any = jax.tree.map(jnp.asarray, problem.params)
    if not all(
        jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves((params.unit, befores))
    ):
        return None
    length, hidden = problem.length, params.w_rec.shape[0]
    fields = tuple(leaf.reshape(length, -1, hidden) for leaf in befores)
    xs = problem.xs.reshape(*fields[0].shape[:2], problem.xs.shape[-1])  # I may be 0
    which = step.h_field
    z_in, z_rec = step.pre_activations(params, fields[which], xs)  # [G, T, B, H]
    now = (z_in[:, 0], z_rec[:, 0], tuple(leaf[0] for leaf in fields))
    try:
        traced = traced_pointwise(step, *jax.eval_shape(lambda *now: now, params.unit, *now))
    except Refusal:
        return None

    def derivatives(*now: Any) -> Any:
        return traced.evaluate(traced.known_by_gates(params.unit, *now))

    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in fields))
    found = jax.vmap(derivatives, (1, 1, 0))(z_in, z_rec, fields)
    rows = jax.tree.map(lambda a: a.astype(dtype), (fields[which], found))
    w_back = params.w_rec.T.astype(dtype)

    def at(rows: Any) -> Any:
        h, (rec, direct) = rows

        def back(errors: Any) -> tuple[Any, chex.Array]:
            like = jnp.zeros_like(errors[0])
            # Gate by gate, so that it is one vectorised loop; and once, not again for each use.
            by_gate = [weighted([r[g] for r in rec], errors, like) for g in range(step.gates)]
            signals = jax.lax.optimization_barrier(jnp.concatenate(by_gate, -1))
            earlier = [weighted([row[k] for row in direct], errors, like) for k in range(len(rec))]
            earlier[which] += signals @ w_back
            return tuple(earlier), signals

        def gradient(signals: chex.Array, scale: chex.Array) -> chex.Array:
            scaled = (h * scale).reshape(-1, hidden)
            return scaled.T @ signals.reshape(len(scaled), signals.shape[-1])

        return back, gradient

    seen = ys_bar[0].astype(dtype).reshape(rows[0].shape)
    errors = tuple(seen if k == which else jnp.zeros_like(seen) for k in range(len(fields)))
    return StepMaps(rows, at, rows[0][:, 0] if seen.shape[1] == 1 else None), errors


def gradient_of(gradient: Callable[..., chex.Array], signals: Scaled) -> Scaled:
    """Return the gradient by the params of what reaches them, with one exponent."""
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
    carry, parts, length = (by_step(errors), total.mantissa), [], len(jax.tree.leaves(errors)[0])
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
            part = gradient_of(gradient, Scaled(signals, errors.exponent))
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
            return measured(gradient_of(maps.at(row)[1], signal), rest, 1)

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
