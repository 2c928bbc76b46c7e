"""The instants of any step as linear maps of errors, by reverse mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.flow.lags.parts import trace
from recurrax.flow.steps.loss import shared_leaves
from recurrax.flow.steps.problem import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.lags.parts import Part
    from recurrax.flow.numbers.scaled import Scaled

_WIDTH = 128  # of the matrix that gradients are written as: its columns are summed first


class AnyInstants:
    """The derivatives of a step; errors are `[T, N + M]`.

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

    def begin(self, y_bar: list[chex.Array]) -> chex.Array:
        """See `Instants`."""

        def one(before: Any, y_bar: list[chex.Array]) -> chex.Array:
            states, treedef = jax.tree.flatten(jax.tree.map(jnp.zeros_like, before))
            for leaf, index in zip(y_bar, self.shared, strict=True):
                if index is not None:
                    states[index] = states[index] + leaf
            own = [jnp.conj(leaf) for leaf in _own(y_bar, self.shared)]
            return _end_to_end(flatten(jax.tree.unflatten(treedef, states)), own)

        return jax.vmap(one)(self._rows[0], y_bar)

    def rows(self) -> tuple[Any, Callable[[Any], AnyInstants]]:
        """See `Instants`."""
        return self._rows, lambda rows: AnyInstants(*self._fixed, rows)

    def back(self, errors: chex.Array) -> tuple[chex.Array, chex.Array]:
        """See `Instants`."""
        earlier = self._pull(errors)[1]
        return jnp.pad(earlier, ((0, 0), (0, errors.shape[1] - earlier.shape[1]))), errors

    def trace(self, errors: chex.Array) -> Scaled:
        """See `Instants`."""
        return trace(self, errors)

    def weigh(self, signals: chex.Array, scale: chex.Array) -> chex.Array:
        """See `Instants`."""
        pulled = self._pull(signals * scale)[0]
        vector = _end_to_end(jnp.zeros(0, signals.dtype), pulled)
        return jnp.pad(vector, (0, -len(vector) % _WIDTH)).reshape(-1, _WIDTH)

    def each(self, signals: Scaled, total: Scaled) -> Part | None:
        """See `Instants`."""
        return None


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
