"""Other cells of the library, beginning with a long memory, at as many parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.advice.outcome import Candidate
from recurrax.cells import CELLS
from recurrax.cures import init
from recurrax.train.presets import Cure
from recurrax.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recurrax.advice.subject import Subject
    from recurrax.cell import Cell


class _Other(NamedTuple):
    """How another cell begins."""

    options: Callable[[float], dict[str, Any]]  # by the wanted horizon
    call: str  # what makes it, with the sizes in it and the options after them
    words: str


_OTHERS = {
    "lstm": _Other(
        lambda wanted: {"forget_bias": 0.0, "bias_init": init.chrono(wanted)},
        "lstm({sizes}, bias_init=rx.cures.init.chrono({wanted}))",
        "beginning as chrono does",
    ),
    "gru": _Other(
        lambda wanted: {"bias_init": init.chrono(wanted, gates=3, input_gate=None)},
        "gru({sizes}, bias_init=rx.cures.init.chrono({wanted}, gates=3, input_gate=None))",
        "beginning as chrono does",
    ),
    "elman-relu": _Other(
        lambda wanted: {"recurrent_init": init.identity()},
        'elman({sizes}, activation="relu", recurrent_init=rx.cures.init.identity())',
        "beginning with the identity as recurrent weights",
    ),
}


def other_cells(subject: Subject) -> Iterator[Candidate]:
    """A candidate for each cell that is not the subject's own."""
    features = int(subject.xs.shape[-1])
    floats = [leaf.dtype for leaf in jax.tree.leaves(subject.params)]
    dtype = next((kind for kind in floats if jnp.issubdtype(kind, jnp.floating)), None)
    count, wanted = parameters(subject.params), max(2.0, subject.wanted)
    for family, other in _OTHERS.items():
        if family == subject.family:
            continue

        def build(hidden: int, family: str = family, other: _Other = other) -> Cell:
            return CELLS[family].build(features, hidden, dtype=dtype, **other.options(wanted))

        hidden = _hidden_size(build, count)
        sizes = f"{features}, {hidden}" + ("" if dtype == "float32" else f', dtype="{dtype}"')
        yield Candidate(
            f"another cell: {family}",
            f"use {family} with {hidden} units, as many parameters, {other.words}",
            build(hidden),
            Cure(),
            f"cell = rx.cells.{other.call.format(sizes=sizes, wanted=short(wanted))}",
        )


def parameters(params: Any) -> int:
    """How many numbers there are in a tree of params."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _hidden_size(build: Callable[[int], Cell], count: int) -> int:
    """The number of units whose parameters come nearest to a count."""

    def excess(hidden: int) -> int:
        return parameters(jax.eval_shape(build(hidden).init, jax.random.key(0))) - count

    low, high = 1, 1
    while excess(high) < 0:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return min((low, high), key=lambda hidden: abs(excess(hidden)))
