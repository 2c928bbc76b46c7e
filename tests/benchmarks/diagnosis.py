"""How long a diagnosis takes, and how often the cause that it names first is the right one.

    python -m tests.benchmarks.diagnosis [SEEDS]

The time is that of a bidirectional LSTM of two layers, H = 128, T = 200, B = 16, compilation
included. The count is over the recipes of tests/diagnosis, each with so many seeds that its table
does not have (2 unless told otherwise).
"""

from __future__ import annotations

import collections
import sys

import jax

import recurrax as rx
from tests.diagnosis.recipes import BROKEN, HEALTHY

_FIRST = 1000  # far from the seeds of the table


def seconds() -> float:
    layers = [rx.bidirectional(rx.cells.lstm(size, 128)) for size in (32, 256)]
    cell = rx.stack(*layers)
    xs = jax.random.normal(jax.random.key(1), (200, 16, 32))
    return rx.diagnose(cell, cell.init(jax.random.key(0)), xs).seconds


def named_right(seeds: int) -> dict[str, collections.Counter[str]]:
    """By the right cause, what was named first and how often."""
    said: dict[str, collections.Counter[str]] = {}
    for recipe in (*BROKEN, *HEALTHY):
        for seed in range(_FIRST, _FIRST + seeds):
            model = recipe.make(seed)
            (layer,) = rx.diagnose(model.cell, model.params, model.xs).layers
            said.setdefault(recipe.cause, collections.Counter())[layer.cause] += 1
    return said


def main() -> None:
    print(f"two layers in both directions: {seconds():.1f} s")
    right = whole = 0
    for cause, counts in named_right(int(sys.argv[1]) if len(sys.argv) > 1 else 2).items():
        right, whole = right + counts[cause], whole + counts.total()
        others = "".join(f", {name} {n}" for name, n in counts.items() if name != cause)
        print(f"{cause}: {counts[cause]} of {counts.total()}{others}")
    print(f"all: {right} of {whole}")


if __name__ == "__main__":
    main()
