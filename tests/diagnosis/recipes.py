"""Models that are broken on purpose, in one way each, and models that are not.

A recipe spoils a fresh cell of `rx.cells`, or its data, by numbers drawn at random; the weights are
written in the library's own layout and given away in another's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

import recurrax as rx
from recurrax.cells import CELLS
from recurrax.diagnosis import records

if TYPE_CHECKING:
    from collections.abc import Callable

T, B = 60, 4
# Two sizes (I, H) for each cell, drawn once: models of one size share their programs.
_RNG = np.random.default_rng(16)
SIZES = {
    name: [(int(_RNG.integers(2, 13)), int(_RNG.integers(16, 49))) for _ in range(2)]
    for name in ("elman", "elman-relu", "lstm", "gru")
}


class Model(NamedTuple):
    """A cell with params and data."""

    cell: rx.Cell
    params: Any
    xs: np.ndarray  # [T, B, I]


class Recipe(NamedTuple):
    """How to break a cell of some kind, and what a diagnosis is to call it."""

    cause: str
    kind: str
    spoil: Callable[[Any, np.ndarray, np.random.Generator], tuple[Any, np.ndarray]]
    options: dict[str, Any] = {}  # noqa: RUF012 (of a NamedTuple)

    def make(self, seed: int) -> Model:
        """The model of a seed, which also picks one of the two sizes."""
        rng = np.random.default_rng(seed)
        size, hidden = SIZES[self.kind][seed % 2]
        cell = CELLS[self.kind].build(size, hidden, **self.options)
        params = jax.tree.map(np.array, cell.init(jax.random.key(seed)))
        xs = rng.standard_normal((T, B, size))
        params, xs = self.spoil(params, xs, rng)
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
        return Model(cell, params, np.asarray(xs, np.float32))


# --- what goes wrong -----------------------------------------------------------------------------


def biased(gate: int, low: float, high: float):
    """One gate's bias at a number between two."""

    def spoil(params, xs, rng):
        b, hidden = params.b.copy(), len(params.w_rec)
        b[gate * hidden : (gate + 1) * hidden] = rng.uniform(low, high)
        return params._replace(b=b), xs

    return spoil


def pinned(low: float, high: float):
    """Every bias at one number between two."""
    return lambda params, xs, rng: (
        params._replace(b=np.full_like(params.b, rng.uniform(low, high))),
        xs,
    )


def scattered(size: float):
    """Every bias drawn from a wide normal distribution."""
    return lambda params, xs, rng: (
        params._replace(b=size * rng.standard_normal(params.b.shape)),
        xs,
    )


def scaled(w_in: tuple[float, float], w_rec: tuple[float, float]):
    """Both weights multiplied by numbers drawn from two ranges."""

    def spoil(params, xs, rng):
        a, b = rng.uniform(*w_in), rng.uniform(*w_rec)
        return params._replace(w_in=a * params.w_in, w_rec=b * params.w_rec), xs

    return spoil


def latching(low: float, high: float):
    """Each unit fed back to itself alone, so strongly that it never lets go."""
    return lambda params, xs, rng: (
        params._replace(w_rec=rng.uniform(low, high) * np.eye(len(params.w_rec))),
        xs,
    )


def large_data(low: float, high: float):
    """Data in other units."""
    return lambda params, xs, rng: (params, rng.uniform(low, high) * xs)


def offset_data(low: float, high: float):
    """Data far from zero."""
    return lambda params, xs, rng: (params, xs + rng.uniform(low, high))


def negative_drive(params, xs, rng):
    """Negative input weights, and data that are never negative."""
    return params._replace(w_in=-abs(params.w_in)), abs(xs)


def as_torch_begins(params, xs, rng):
    """All weights uniform in +- 1 / sqrt(H), which for a vanilla network is too small."""
    bound = len(params.w_rec) ** -0.5

    def draw(leaf):
        return rng.uniform(-bound, bound, leaf.shape)

    return jax.tree.map(draw, params), xs


def nothing(params, xs, rng):
    return params, xs


ONE = (1.0, 1.0)
BROKEN = (
    Recipe(records.FORGET_SHUT, "lstm", biased(1, -6, -4)),
    Recipe(records.FORGET_SHUT, "lstm", biased(1, -3, -1.5)),
    Recipe(records.UPDATE_OPEN, "gru", biased(1, -6, -4)),
    Recipe(records.UPDATE_OPEN, "gru", biased(1, -3, -1.5)),
    Recipe(records.LARGE_INPUTS, "elman", large_data(8, 100)),
    Recipe(records.LARGE_INPUTS, "lstm", large_data(8, 100)),
    Recipe(records.LARGE_INPUTS, "gru", offset_data(20, 100)),
    Recipe(records.LARGE_WEIGHTS, "elman", latching(4, 10)),
    Recipe(records.LARGE_WEIGHTS, "lstm", scaled((8, 30), (8, 30))),
    Recipe(records.LARGE_WEIGHTS, "gru", scaled((8, 30), (8, 30))),
    Recipe(records.GAIN_SMALL, "elman", scaled(ONE, (0.02, 0.3))),
    Recipe(records.GAIN_SMALL, "elman", as_torch_begins),
    Recipe(records.GAIN_SMALL, "elman-relu", scaled(ONE, (0.02, 0.3))),
    Recipe(records.GAIN_SMALL, "gru", scaled(ONE, (0.02, 0.3))),
    Recipe(records.GAIN_LARGE, "elman", scaled(ONE, (3, 6))),
    Recipe(records.GAIN_LARGE, "elman-relu", scaled(ONE, (2, 6))),
    Recipe(records.GAIN_LARGE, "lstm", scaled(ONE, (8, 20))),
    Recipe(records.GAIN_LARGE, "gru", scaled(ONE, (8, 20))),
    Recipe(records.DEAD_RELUS, "elman-relu", pinned(-10, -3)),
    Recipe(records.DEAD_RELUS, "elman-relu", negative_drive),
    Recipe(records.INPUTS_DWARF, "elman", scaled((8, 50), ONE)),
    Recipe(records.INPUTS_DWARF, "lstm", scaled((8, 50), ONE)),
    Recipe(records.INPUTS_DWARF, "gru", scaled((8, 50), ONE)),
    Recipe(records.BIAS_PINS, "elman", pinned(5, 10)),
    Recipe(records.BIAS_PINS, "lstm", pinned(-10, -5)),
    Recipe(records.BIAS_PINS, "gru", scattered(10)),
)
_CHRONO = {"gates": 3, "input_gate": None}
HEALTHY = (
    Recipe(records.HEALTHY, "lstm", nothing),
    Recipe(records.HEALTHY, "lstm", nothing, {"bias_init": rx.cures.init.chrono(T)}),
    Recipe(records.HEALTHY, "lstm", as_torch_begins),
    Recipe(records.HEALTHY, "gru", nothing),
    Recipe(records.HEALTHY, "gru", nothing, {"bias_init": rx.cures.init.chrono(T, **_CHRONO)}),
    Recipe(
        records.HEALTHY,
        "elman",
        nothing,
        {"recurrent_init": rx.cures.init.critical(input_variance=1.0)},
    ),
    Recipe(records.HEALTHY, "elman-relu", nothing),
)
