"""Whole sequences of one length out of ragged ones: what a layer is measured on.

A masked step leaves the state as it is, so leaving it out changes no derivative; a reset begins a
new sequence. What is left are plain sequences, of which the longest are taken and cut to the same
length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.words import steps_of

if TYPE_CHECKING:
    from recurrax.flow.parts import Part

_EXAMPLES = 4  # how many; the gradients of four differ less than those of four seeds
_STEPS = 1000  # at most; a horizon beyond them is extrapolated


class _Sequence(NamedTuple):
    """The steps of one example between two resets."""

    example: int
    steps: np.ndarray
    first: bool  # it begins with the state that was given


def sequences_of(part: Part) -> tuple[Any, Any]:
    """States `[E, ...]` and inputs `[T, E, I]` of the longest sequences of a part `[T', B, I]`.

    Raises:
      ValueError: if no step counts.
    """
    length, count = part.xs.shape[:2]
    mask = np.ones((length, count), bool) if part.mask is None else np.asarray(part.mask)
    resets = np.zeros((length, count), bool) if part.resets is None else np.asarray(part.resets)
    found = []
    for b in range(count):
        number = np.cumsum(resets[:, b])
        for n in range(int(number[-1]) + 1):
            steps = np.flatnonzero((number == n) & mask[:, b])
            found += [_Sequence(b, steps, n == 0)] if len(steps) else []
    if not found:
        raise ValueError("mask leaves no step of any example, so there is nothing to measure")
    found.sort(key=lambda sequence: -len(sequence.steps))
    found = [s for s in found[:_EXAMPLES] if 2 * len(s.steps) >= len(found[0].steps)]
    shortest = min(len(found[-1].steps), _STEPS)
    xs = np.asarray(part.xs)
    xs = np.stack([xs[s.steps[:shortest], s.example] for s in found], 1)
    return _states(part, found, count), jnp.asarray(xs)


def _states(part: Part, found: list[_Sequence], count: int) -> Any:
    """The state before each sequence."""
    cell: Any = part.cell
    start = cell.initial_state(part.params, (count,))
    one = jax.eval_shape(lambda params: cell.initial_state(params), part.params)

    def rows(given: Any, initial: Any, single: Any) -> Any:
        if jnp.ndim(initial) == len(single.shape):  # shared by all examples
            return given
        given, initial = np.asarray(given), np.asarray(initial)
        return jnp.asarray(np.stack([(given if s.first else initial)[s.example] for s in found]))

    return jax.tree.map(rows, part.state, start, one)


def sequences_text(shape: tuple[int, ...]) -> str:
    """What was measured, of results `[T, E]`."""
    steps, count = shape
    return f"{count} sequence{'s' if count > 1 else ''} of {steps_of(steps)}"
