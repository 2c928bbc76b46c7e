"""Newton's method over all steps of a network at once: how many it needs, against the exponent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.lyapunov import lyapunov
from recurrax.published.claim import Claim, stated
from recurrax.published.exponents.newton_iteration import solve
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

    from recurrax.published.claim import Row

LENGTH, UNITS, SEEDS = 1_000, 100, 5
GAINS = (0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0)
TOLERANCE = 1e-10  # of Newton's merit
FEW = round(math.log2(LENGTH) ** 2)


class Network(NamedTuple):
    """A network without its gain, and what it is run on."""

    weights: chex.Array  # [D, D], those of gain 1
    start: chex.Array  # [D]
    xs: chex.Array  # [T, D]
    guess: chex.Array  # [T, D], of its states


def draw(seed: int, length: int = LENGTH, units: int = UNITS) -> Network:
    """A network of normal weights without a diagonal, and sines of many phases as its input."""
    keys = jax.random.split(jax.random.PRNGKey(seed), 7)
    size = jax.random.uniform(keys[0], (units,), maxval=0.2)
    frequency = jax.random.uniform(keys[1], (units,), minval=0.5, maxval=3.0)
    phase = jax.random.uniform(keys[2], (units,), maxval=2 * jnp.pi)
    weights = jax.random.normal(keys[4], (units, units)) / jnp.sqrt(units)
    return Network(
        jnp.fill_diagonal(weights, 0, inplace=False),
        jax.random.uniform(keys[3], (units,), minval=-1.0, maxval=1.0),
        size * jnp.sin(frequency * jnp.arange(length)[:, None] + phase),
        jax.random.uniform(keys[5], (length, units), minval=-1.0, maxval=1.0),
    )


def forward(weights: chex.Array, state: chex.Array, x: chex.Array) -> tuple[chex.Array, chex.Array]:
    """`x' = W tanh(x) + u`, of one example."""
    state = weights @ jnp.tanh(state) + x
    return state, state


class Found(NamedTuple):
    """What Newton's method came to with one network."""

    exponent: float  # nats a step
    steps: int
    error: float  # the largest of its states, beside a forward pass


def newton_on(network: Network, gain: float) -> Found:
    """Solve a network of that gain for all of its steps."""
    weights, start, xs, guess = network
    weights = gain * weights
    exponent = lyapunov(forward, weights, start, xs, k=1, burn_in=0).exponents[0]
    solved = solve(_next, weights, start, xs, guess, TOLERANCE, len(xs))
    _, states = unroll(forward, weights, start, xs)
    error = jnp.max(jnp.abs(solved.states - states))
    return Found(float(exponent), int(solved.steps), float(error))


def _next(weights: Any, state: chex.Array, x: chex.Array) -> chex.Array:
    return forward(weights, state, x)[0]


def newton_steps() -> Iterator[Row]:
    """A row for each gain."""
    networks = [draw(seed) for seed in range(SEEDS)]
    for gain in GAINS:
        found = [newton_on(network, gain) for network in networks]
        exponent = np.median([one.exponent for one in found])
        few = np.median([one.steps for one in found]) <= FEW
        words = "few, since below 0" if exponent < 0 else "many, since above 0"
        name = f"g = {gain:g}, exponent {exponent:+.4f}"
        wrong = max(one.error for one in found)
        note = f"meets the tolerance with states off by up to {wrong:.2g}" if wrong > 1e-3 else ""
        yield stated(name, [one.steps for one in found], few == (exponent < 0), words, note)


STEPS = Claim(
    "newton-steps",
    "Newton steps for all states of x' = W tanh x + u at once: a sharp rise at exponent 0",
    "Gonzalez et al., NeurIPS 2025, Figure 2 (no numbers in the text); recipe: experiments/fig2.py "
    "of github.com/lindermanlab/predictability_enables_parallelization",
    f"D = {UNITS}, W ~ N(0, g^2 / D) without diagonal, sines as u, T = {LENGTH:,}, {SEEDS} seeds, "
    f"float64; stops once 1/2 |residual|^2 / T was at most {TOLERANCE:g} before a step; few "
    f"is read as at most (log2 T)^2 = {FEW}",
    newton_steps,
    float64=True,
)
