"""Run over time in chunks: most of the same size, and one shorter where they do not fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Time in pieces.

    Args:
      length: T.
      size: how many steps are in each chunk.
      reverse: whether time runs from the end to the start.
    """

    length: int
    size: int
    reverse: bool

    def backwards(self) -> Chunks:
        """The same pieces in the other order."""
        return dataclasses.replace(self, reverse=not self.reverse)

    @property
    def count(self) -> int:
        """How many whole chunks there are."""
        return self.length // self.size

    @property
    def whole(self) -> int:
        """How many steps are in whole chunks; the rest is one shorter chunk at the end."""
        return self.count * self.size

    def run(
        self, body: Callable[..., tuple[Any, Any]], carry: Any, arrays: Any, rows: Any = None
    ) -> tuple[Any, Any]:
        """`body(carry, first index, part of each array, row) -> (carry, outputs)`, in time's order.

        Args:
          body: called on each chunk; its outputs lead with the chunk's steps.
          carry: handed from chunk to chunk.
          arrays: a pytree of `[T, ...]`, cut into chunks.
          rows: a pytree of arrays with one row for each chunk.

        Returns:
          The last carry and the outputs, joined to `[T, ...]`.
        """

        def one(carry: Any, now: Any) -> tuple[Any, Any]:
            return body(carry, *now)

        def whole(carry: Any) -> tuple[Any, Any]:
            split = jax.tree.map(
                lambda a: a[: self.whole].reshape(self.count, self.size, *a.shape[1:]), arrays
            )
            firsts = self.size * np.arange(self.count, dtype=np.int32)
            mine = jax.tree.map(lambda a: a[: self.count], rows)
            if self.count == 1:  # no loop: what follows may be fused with it
                carry, outs = one(carry, jax.tree.map(lambda a: a[0], (firsts, split, mine)))
                return carry, outs
            carry, outs = jax.lax.scan(one, carry, (firsts, split, mine), reverse=self.reverse)
            joined = jax.tree.map(_join, outs)
            return carry, joined

        def tail(carry: Any) -> tuple[Any, Any]:
            last = jax.tree.map(lambda a: a[self.count], rows)
            return body(
                carry, jnp.int32(self.whole), jax.tree.map(lambda a: a[self.whole :], arrays), last
            )

        parts = [whole, tail] if self.whole < self.length else [whole]
        outs = []
        for part in reversed(parts) if self.reverse else parts:
            carry, out = part(carry)
            outs.append(out)
        if len(outs) == 1:
            return carry, outs[0]
        ordered = reversed(outs) if self.reverse else outs
        return carry, jax.tree.map(lambda *a: jnp.concatenate(a), *ordered)

    def rows_before(self, first: Any, states: Any) -> Any:
        """The state before each chunk, a row for each, from the first and those after each step."""

        def rows(first: Any, after: Any) -> Any:
            if self.reverse:
                return jnp.concatenate([after[self.size :: self.size], first[None]])
            last = after[self.size - 1 : self.length - 1 : self.size]
            return jnp.concatenate([first[None], last])

        return jax.tree.map(rows, first, states)

    def previous(self, before: Any, states: Any) -> Any:
        """The state before each step of one chunk."""

        def shift(before: Any, after: Any) -> Any:
            if self.reverse:
                return jnp.concatenate([after[1:], before[None]])
            return jnp.concatenate([before[None], after[:-1]])

        return jax.tree.map(shift, before, states)


def _join(a: Any) -> Any:
    """`[chunks, C, ...]` to `[chunks * C, ...]`, also where there is nothing in it."""
    return a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])
