"""Maps and one flow whose exponents are known exactly or from long computations of others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.lyapunov import lyapunov
from recurrax.published.claim import Claim, absolute, compared
from recurrax.published.exponents.chaotic_flows import lorenz

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

    from recurrax.published.claim import Row

MAP_STEPS, FLOW_STEPS, STEP = 400_000, 300_000, 0.01


def henon(s: chex.Array) -> chex.Array:
    return jnp.stack([1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]])


def logistic(s: chex.Array) -> chex.Array:
    """Two of them side by side."""
    return 4 * s * (1 - s)


def cat(s: chex.Array) -> chex.Array:
    return (jnp.array([[2.0, 1.0], [1.0, 1.0]]) @ s) % 1.0


def move(which: Any, state: chex.Array, x: Any) -> tuple[chex.Array, chex.Array]:
    """A step of one of the maps; its params are the number of the map."""
    state = jax.lax.switch(which, (henon, logistic, cat), state)
    return state, state


def lorenz_step(dt: Any, state: chex.Array, x: Any) -> tuple[chex.Array, chex.Array]:
    """A step of Runge and Kutta's method of fourth order."""

    def velocity(s: chex.Array) -> chex.Array:
        return jnp.stack(lorenz(*s))

    k1 = velocity(state)
    k2 = velocity(state + dt / 2 * k1)
    k3 = velocity(state + dt / 2 * k2)
    k4 = velocity(state + dt * k3)
    state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state, state


def maps() -> Iterator[Row]:
    """The exact ones, and the sums that are exact at any length."""
    found = [lyapunov(move, which, jnp.array([0.1, 0.3]), length=MAP_STEPS) for which in range(3)]
    of_henon, of_logistic, of_cat = (np.asarray(of.exponents) for of in found)
    note = f"standard error {float(found[0].standard_errors[0]):.4f}"
    for name, published, ours in zip(
        ("first", "second"), (0.419217, -1.623190), of_henon, strict=True
    ):
        yield compared(f"Henon: {name} exponent", published, ours, absolute(2e-3), note)
    yield compared("Henon: Kaplan-Yorke", 1.258267, float(found[0].dimension), absolute(2e-3))
    yield compared("Henon: sum, log 0.3", math.log(0.3), of_henon.sum(), absolute(1e-9))
    yield compared("logistic map, r = 4: ln 2", math.log(2), of_logistic, absolute(5e-3))
    for name, sign, ours in zip(("first", "second"), (1, -1), of_cat, strict=True):
        exact = sign * math.log((3 + 5**0.5) / 2)
        yield compared(f"Arnold's cat: {name} exponent", exact, ours, absolute(1e-6))


def lorenz_63() -> Iterator[Row]:
    """The three exponents, per unit of time."""
    start = jnp.array([1.0, 2.0, 20.0])
    found = lyapunov(lorenz_step, STEP, start, length=FLOW_STEPS)
    exponents, errors = (np.asarray(a) / STEP for a in found[:2])
    within = absolute(1e-2)
    for name, published, ours, error in zip(
        ("first", "second", "third"), (0.90563, 0.0, -14.57219), exponents, errors, strict=True
    ):
        yield compared(f"{name} exponent", published, ours, within, f"standard error {error:.4f}")
    yield compared("sum, -(10 + 1 + 8/3)", -(11 + 8 / 3), exponents.sum(), within)
    yield compared("Kaplan-Yorke", 2.06215, float(found.dimension), within)


_SPROTT = (
    "Sprott (2005), Lyapunov Exponent Spectrum Software, sprott.physics.wisc.edu/chaos/lespec.htm"
)
MAPS = Claim(
    "chaotic-maps",
    "Lyapunov exponents of Henon's map, the logistic map and Arnold's cat map",
    f"{_SPROTT} (Henon); derived: the logarithms (exact)",
    f"{MAP_STEPS:,} steps from (0.1, 0.3), float64",
    maps,
    float64=True,
)
LORENZ = Claim(
    "lorenz-63",
    "Lyapunov exponents of Lorenz's equations at 10, 28, 8/3, per unit of time",
    f"{_SPROTT}; derived: the sum (exact)",
    f"Runge-Kutta of order 4, dt = {STEP}, {FLOW_STEPS:,} steps, float64",
    lorenz_63,
    float64=True,
)
