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

from recurrax.flow.joint import flatten, unflatten
from recurrax.flow.logscale import log_of, power_of_two
from recurrax.flow.loss_gradients import shared_leaves
from recurrax.gated import GatedStep, split_gates

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

BLOCKS = 4  # of lags; errors that have left the sequence are dropped at each
_NOTHING = -(2**30)  # the exponent of a row of zeros
_WIDTH = 128  # of the matrix that gradients are written as: see _sum


class Instants(Protocol):
    """Instants as linear maps, some rows of time; an error `[T, ...]` is any array."""

    def rows(self) -> tuple[Any, Callable[[Any], Instants]]:
        """The arrays that lead with time, and how to put such rows back."""
        ...

    def begin(self, y_bar: list[chex.Array]) -> chex.Array:
        """The error that the loss puts on each instant, from its gradient by the outputs."""
        ...

    def back(self, errors: chex.Array) -> tuple[chex.Array, chex.Array]:
        """The errors on the state before, each row by itself, and what reaches the params."""
        ...

    def weigh(self, signals: chex.Array) -> chex.Array:
        """The gradient by the params, summed over rows, of what reaches them: a matrix."""
        ...

    def each(self, signals: Any, exponents: Any, total: Any) -> tuple[Any, Any] | None:
        """The log norm of each row's own gradient and its cosine with the total, if cheap."""
        ...


class Part(NamedTuple):
    """What is kept of each lag."""

    log_norm: chex.Array
    cosine: chex.Array  # with the whole
    log_rest: chex.Array  # log norm of what later lags add
    vector: Any  # (mantissa [P], exponent) or None


# --- a gated cell by its w_rec --------------------------------------------------------------------


class GatedInstants(NamedTuple):
    """The diagonals of every instant; errors are `[T, *batch, S, H]`."""

    recurrent: chex.Array  # [T, *batch, S, G, H], d s_a / d z_g
    direct: chex.Array  # [T, *batch, S, S, H], d s_a / d s_b at fixed z_rec
    h: chex.Array  # [T, *batch, H], before the step
    w_rec: chex.Array  # [H, G*H]
    field: int  # which field is h

    def rows(self) -> tuple[Any, Callable[[Any], Instants]]:
        return self[:3], self._replace_rows

    def _replace_rows(self, rows: Any) -> Instants:
        recurrent, direct, h = rows
        return self._replace(recurrent=recurrent, direct=direct, h=h)

    def begin(self, y_bar: list[chex.Array]) -> chex.Array:
        seen = y_bar[0].astype(self.h.dtype)
        fields = range(self.direct.shape[-2])
        return jnp.stack([seen if a == self.field else jnp.zeros_like(seen) for a in fields], -2)

    def back(self, errors: chex.Array) -> tuple[chex.Array, chex.Array]:
        fields = range(self.direct.shape[-2])
        # Written as sums: an einsum over two fields would become a product of tiny matrices.
        signals = sum(self.recurrent[..., a, :, :] * errors[..., a, None, :] for a in fields)
        # Without the barriers the signals would be made anew for each entry of the product.
        signals = jax.lax.optimization_barrier(signals.reshape(*signals.shape[:-2], -1))
        through = jax.lax.optimization_barrier(signals @ self.w_rec.T)
        earlier = [
            sum(self.direct[..., a, b, :] * errors[..., a, :] for a in fields) for b in fields
        ]
        earlier[self.field] = earlier[self.field] + through
        return jnp.stack(earlier, -2), signals

    def weigh(self, signals: chex.Array) -> chex.Array:
        rows = self.h.reshape(-1, self.h.shape[-1])
        return rows.T @ signals.reshape(len(rows), -1)

    def each(self, signals: Any, exponents: Any, total: Any) -> tuple[Any, Any] | None:
        h, signals = (a.reshape(len(a), -1) for a in (self.h, signals))
        if h.shape[1] > self.h.shape[-1]:
            return None
        # One example: the gradient is the outer product of two vectors.
        (h, p), (signals, q) = (_rescaled_rows(a, 0 * exponents) for a in (h, signals))
        norms = [jnp.linalg.norm(a, axis=1) for a in (h, signals)]
        product = jnp.sum((h @ total) * signals, axis=1)
        size = norms[0] * norms[1]
        whole = jnp.sqrt(_sum(total * total))
        scale = jnp.where(size == 0, 1, size) * jnp.where(whole == 0, 1, whole)
        return log_of(size, exponents + p + q), product / scale


def gated_instants(step: GatedStep, params: Any, befores: Any, xs: Any) -> GatedInstants:
    """All diagonals at once, by forward derivatives of the elementwise function."""
    z_in = split_gates(xs @ params.w_in + params.b, step.gates)
    z_rec = split_gates(befores.h @ params.w_rec, step.gates)

    def update(z: chex.Array, old: tuple[chex.Array, ...]) -> tuple[chex.Array, ...]:
        return tuple(step.pointwise(params.unit, z_in, z, step.state(*old)))

    old = tuple(befores)
    _, jvp = jax.linearize(update, z_rec, old)
    zero_z, zeros = jnp.zeros_like(z_rec), tuple(map(jnp.zeros_like, old))
    by_gate = [jvp(zero_z.at[g].set(1), zeros) for g in range(step.gates)]
    by_field = [
        jvp(zero_z, (*zeros[:b], jnp.ones_like(old[b]), *zeros[b + 1 :])) for b in range(len(old))
    ]
    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in old))

    def side_by_side(columns: list[tuple[chex.Array, ...]]) -> chex.Array:
        return jnp.stack([jnp.stack(row, -2) for row in zip(*columns, strict=True)], -3)

    return GatedInstants(
        side_by_side(by_gate).astype(dtype),
        side_by_side(by_field).astype(dtype),
        befores.h.astype(dtype),
        params.w_rec.astype(dtype),
        step.state._fields.index("h"),  # type: ignore[attr-defined]
    )


# --- any step -------------------------------------------------------------------------------------


class AnyInstants:
    """The derivatives of a step, by reverse mode; errors are `[T, N + M]`.

    M counts the outputs that are not leaves of the new state: they carry an error to the state
    before, and none to the new one.
    """

    def __init__(self, step: Any, params: Any, where: tuple[int, ...], rows: Any) -> None:
        self._fixed = (step, params, where)
        self._rows = befores, xs = rows
        leaves, treedef = jax.tree.flatten(params)
        first = jax.tree.map(lambda leaf: leaf[0], rows)
        self.shared = shared_leaves(step, params, *first)

        def instant(chosen: Any, vector: chex.Array, before: Any, x: Any) -> chex.Array:
            given = list(leaves)
            for i, leaf in zip(where, chosen, strict=True):
                given[i] = leaf
            after, y = step(jax.tree.unflatten(treedef, given), unflatten(vector, before), x)
            return _end_to_end(flatten(after), _own(jax.tree.leaves(y), self.shared))

        def instants(chosen: Any, vectors: chex.Array) -> chex.Array:
            return jax.vmap(instant, (None, 0, 0, 0))(chosen, vectors, befores, xs)

        vectors = jax.vmap(flatten)(befores)
        _, self._pull = jax.vjp(instants, [leaves[i] for i in where], vectors)

    def rows(self) -> tuple[Any, Callable[[Any], Instants]]:
        return self._rows, lambda rows: AnyInstants(*self._fixed, rows)

    def back(self, errors: chex.Array) -> tuple[chex.Array, chex.Array]:
        earlier = self._pull(errors)[1]
        return jnp.pad(earlier, ((0, 0), (0, errors.shape[1] - earlier.shape[1]))), errors

    def weigh(self, signals: chex.Array) -> chex.Array:
        vector = _end_to_end(jnp.zeros(0, signals.dtype), self._pull(signals)[0])
        return jnp.pad(vector, (0, -len(vector) % _WIDTH)).reshape(-1, _WIDTH)

    def each(self, signals: Any, exponents: Any, total: Any) -> tuple[Any, Any] | None:
        return None

    def begin(self, y_bar: list[chex.Array]) -> chex.Array:
        def one(before: Any, y_bar: list[chex.Array]) -> chex.Array:
            states, treedef = jax.tree.flatten(jax.tree.map(jnp.zeros_like, before))
            for leaf, index in zip(y_bar, self.shared, strict=True):
                if index is not None:
                    states[index] = states[index] + leaf
            own = [jnp.conj(leaf) for leaf in _own(y_bar, self.shared)]
            return _end_to_end(flatten(jax.tree.unflatten(treedef, states)), own)

        return jax.vmap(one)(self._rows[0], y_bar)


def _own(ys: list[Any], shared: tuple[int | None, ...]) -> list[Any]:
    """The outputs that are not leaves of the new state."""
    smooth = [leaf for leaf in ys if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return [leaf for leaf, index in zip(smooth, shared, strict=True) if index is None]


def _end_to_end(vector: chex.Array, leaves: list[Any]) -> chex.Array:
    """The vector and after it the leaves, a complex one as its two parts."""
    parts = [vector]
    for leaf in leaves:
        halves = (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)
        parts += [half.reshape(-1).astype(vector.dtype) for half in halves]
    return jnp.concatenate(parts)


# --- through time ---------------------------------------------------------------------------------


def whole(instants: Instants, direct: chex.Array) -> tuple[Any, Any]:
    """The gradient `(mantissa, exponent)`, and what reaches the params at each instant."""
    rows, put = instants.rows()

    def body(later: Any, now: Any) -> tuple[Any, Any]:
        (x, p), (row, y, q) = later, now
        top = jnp.maximum(p, q)
        error = x * power_of_two(p - top, x.dtype) + y * power_of_two(q - top, y.dtype)
        earlier, signal = put(jax.tree.map(lambda leaf: leaf[None], row)).back(error[None])
        earlier, exponent = _rescaled_rows(earlier, top)
        return (earlier[0], exponent[0]), (signal[0], top)

    nothing = (jnp.zeros_like(direct[0]), jnp.int32(_NOTHING))
    seen = _rescaled_rows(direct, jnp.zeros(len(direct), jnp.int32))
    _, signals = jax.lax.scan(body, nothing, (rows, *seen), reverse=True)
    return _weighed(instants, *signals), signals


def every_lag(instants: Instants, direct: chex.Array, total: Any, keep: bool) -> Part:
    """The parts of all lags of a loss that may look at every output."""
    rows, put = instants.rows()
    length = len(direct)
    errors, exponents = _rescaled_rows(direct, jnp.zeros(length, jnp.int32))
    rest, parts = total[0], []
    bounds = [length * block // BLOCKS for block in range(BLOCKS + 1)]
    for start, stop in itertools.pairwise(bounds):
        if start == stop:
            continue
        live = length - start  # later rows have nothing left to bring
        errors, exponents = errors[:live], exponents[:live]
        here = put(jax.tree.map(lambda leaf, live=live: leaf[:live], rows))

        def body(carry: Any, _: None, here: Any = here) -> tuple[Any, Part]:
            errors, exponents, rest = carry
            earlier, signals = here.back(errors)
            part = _weighed(here, signals, exponents)
            rest = rest - part[0] * power_of_two(part[1] - total[1], rest.dtype)
            earlier, exponents = _rescaled_rows(earlier, exponents)
            errors = jnp.concatenate([earlier[1:], jnp.zeros_like(earlier[:1])])
            exponents = jnp.append(exponents[1:], _NOTHING)
            return (errors, exponents, rest), _seen(part, total, rest, keep)

        carry = (errors, exponents, rest)
        (errors, exponents, rest), found = jax.lax.scan(body, carry, None, length=stop - start)
        parts.append(found)
    joined: Part = jax.tree.map(lambda *blocks: jnp.concatenate(blocks), *parts)
    return joined


def one_look(instants: Instants, signals: Any, last: chex.Array, total: Any, keep: bool) -> Part:
    """The parts of all lags of a loss that looks at the output of one instant only.

    The error of lag l is the whole error at l steps before: its part is that instant's own.
    """
    rows, put = instants.rows()
    known = None if keep else instants.each(signals[0], signals[1], total[0])

    def body(rest: chex.Array, now: Any) -> tuple[chex.Array, Part]:
        row, signal, exponent = jax.tree.map(lambda leaf: leaf[None], now)
        if known is None:
            part = _weighed(put(row), signal, exponent)
            rest = rest + part[0] * power_of_two(part[1] - total[1], rest.dtype)
            return rest, _seen(part, total, rest, keep)
        scale = power_of_two(exponent - total[1], rest.dtype)
        rest = rest + put(row).weigh(signal * scale)
        return rest, Part(None, None, log_size(rest, total[1]), None)

    _, by_time = jax.lax.scan(body, jnp.zeros_like(total[0]), (rows, *signals))
    if known is not None:
        by_time = by_time._replace(log_norm=known[0], cosine=known[1])
    lags = jnp.arange(len(by_time.log_norm))

    def by_lag(leaf: chex.Array, first: chex.Array, fill: float) -> chex.Array:
        inside = (lags <= first).reshape((-1,) + (1,) * (leaf.ndim - 1))
        return jnp.where(inside, leaf[jnp.maximum(first - lags, 0)], fill)

    return Part(
        by_lag(by_time.log_norm, last, -jnp.inf),
        by_lag(by_time.cosine, last, 0),
        by_lag(by_time.log_rest, last - 1, -jnp.inf),  # what earlier instants add is the rest
        jax.tree.map(lambda leaf: by_lag(leaf, last, 0), by_time.vector),
    )


def _weighed(instants: Instants, signals: chex.Array, exponents: chex.Array) -> tuple[Any, Any]:
    top = jnp.max(exponents)
    scale = power_of_two(exponents - top, signals.dtype)
    part = instants.weigh(signals * scale.reshape((-1,) + (1,) * (signals.ndim - 1)))
    _, shift = jnp.frexp(jnp.max(jnp.max(jnp.abs(part), axis=0)))
    most = jnp.finfo(part.dtype).maxexp - 2
    shift = jnp.clip(shift, -most, most)
    return part * power_of_two(-shift, part.dtype), shift + top


def _seen(part: Any, total: Any, rest: chex.Array, keep: bool) -> Part:
    norm, of_total = (jnp.sqrt(_sum(a * a)) for a in (part[0], total[0]))
    both = norm * of_total
    cosine = _sum(part[0] * total[0]) / jnp.where(both == 0, 1, both)
    return Part(log_of(norm, part[1]), cosine, log_size(rest, total[1]), part if keep else None)


def _sum(matrix: chex.Array) -> chex.Array:
    """Of all entries, the columns first: a sum over both axes would go one entry at a time."""
    return jnp.sum(jnp.sum(matrix, axis=0))


def _rescaled_rows(errors: chex.Array, exponents: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Each row with its largest entry in [1/2, 1), and the exponent of a row of zeros."""
    sizes = jnp.max(jnp.abs(errors), axis=tuple(range(1, errors.ndim)))
    _, shifts = jnp.frexp(sizes)
    most = jnp.finfo(errors.dtype).maxexp - 2
    shifts = jnp.clip(shifts, -most, most)
    scale = power_of_two(-shifts, errors.dtype).reshape((-1,) + (1,) * (errors.ndim - 1))
    return errors * scale, jnp.where(sizes == 0, _NOTHING, exponents + shifts)


def log_size(mantissa: chex.Array, exponent: chex.Array) -> chex.Array:
    """The log of the norm of a gradient."""
    return log_of(jnp.sqrt(_sum(mantissa * mantissa)), exponent)
