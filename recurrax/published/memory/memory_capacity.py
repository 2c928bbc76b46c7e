"""How much of its past input can be read out of a linear network, all delays together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from recurrax.published.claim import Claim, absolute, compared
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.published.claim import Row

SIZE, STEPS, SETTLING, DELAYS = 20, 60_000, 1_000, 300


def memory_capacity() -> Iterator[Row]:
    """The sum over delays of R^2 of the best linear readout of a past input, which is N."""
    draw = np.random.default_rng(0)
    w = 0.95 * np.linalg.qr(draw.standard_normal((SIZE, SIZE)))[0]
    weights = draw.standard_normal(SIZE)
    inputs = draw.uniform(-1, 1, SETTLING + STEPS)
    params = jnp.asarray(w), jnp.asarray(weights)
    states = unroll(_reservoir, params, jnp.zeros(SIZE), jnp.asarray(inputs))[1]
    basis = np.linalg.qr(np.asarray(states)[SETTLING:])[0]
    capacity = 0.0
    for delay in range(DELAYS):
        past = inputs[SETTLING - delay : len(inputs) - delay]
        capacity += np.sum((basis.T @ past) ** 2) / np.sum(past**2)
    yield compared(f"sum over the delays, N = {SIZE}", SIZE, capacity, absolute(0.5))


def _reservoir(params: Any, h: Any, x: Any) -> tuple[Any, Any]:
    w, weights = params
    h = w @ h + weights * x
    return h, h


CAPACITY = Claim(
    "memory-capacity",
    "memory capacity of a linear network is its number of units",
    "Jaeger (2001); derived: N for a linear network and independent inputs (exact)",
    f"N = {SIZE}, orthogonal W times 0.95, {STEPS:,} uniform inputs, delays to {DELAYS}, float64",
    memory_capacity,
    float64=True,
)
