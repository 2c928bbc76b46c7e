"""How the gradient by the memory of a unit explodes as that memory grows, without any chaos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.published.claim import Claim, compared, relative
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.published.claim import Row

STEPS, SETTLING, SEQUENCES = 20_000, 2_000, 100


def curse_of_memory() -> Iterator[Row]:
    """`h' = lambda h + x`, x white: `E h^2` and `E (dh / dlambda)^2` of a settled sequence."""
    for lam, tolerance in ((0.5, 0.01), (0.9, 0.01), (0.99, 0.05)):
        state, gradient = _mean_squares(jnp.float64(lam))
        square = 1 / (1 - lam**2)
        within, name = relative(tolerance), f"lambda {lam:g}: mean square of"
        yield compared(f"{name} h", square, state, within)
        expected = (1 + lam**2) * square**3
        yield compared(f"{name} dh/dlambda", expected, gradient, within)


@jax.jit
def _mean_squares(lam: Any) -> tuple[Any, Any]:
    xs = jax.random.normal(jax.random.key(0), (SETTLING + STEPS, SEQUENCES), jnp.float64)

    def states(lam: Any) -> Any:
        return unroll(_leaky_sum, lam, jnp.zeros_like(xs[0]), xs)[1][SETTLING:]

    h, gradient = jax.jvp(states, (lam,), (jnp.ones_like(lam),))
    return jnp.mean(h**2), jnp.mean(gradient**2)


def _leaky_sum(lam: Any, h: Any, x: Any) -> tuple[Any, Any]:
    h = lam * h + x
    return h, h


CURSE = Claim(
    "curse-of-memory",
    "gradients by the memory of a linear unit grow faster than its state",
    "Zucchet and Orvieto (2024); derived: E h^2 = 1 / (1 - lambda^2), "
    "E (dh/dlambda)^2 = (1 + lambda^2) / (1 - lambda^2)^3 (exact)",
    f"jvp of unroll, white inputs, {SEQUENCES} sequences of {STEPS:,} steps, float64",
    curse_of_memory,
    float64=True,
)
