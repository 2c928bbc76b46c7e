"""Nine chaotic flows and observers of them: exponents, and steps of Newton's method.

The state of a flow is followed by Euler's method. An observer is the same flow that is fed the
state of another copy: some coordinates are replaced by that copy's, and a measured sum of all
three pulls it towards the copy. So it is stable, and Newton's method finds all of its states in a
few steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.lyapunov import lyapunov
from recurrax.published.claim import Claim, absolute, compared, factor, of_range
from recurrax.published.exponents.newton_iteration import solve
from recurrax.unrolling import unroll_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import chex

    from recurrax.published.claim import Row

STEP = 0.01  # of time
LENGTH = 30_000
TOLERANCE = 1e-10  # of Newton's merit
ROUNDING = 1e-13 * np.arange(5)  # by which starts differ, relatively: the published one comes first
SEED = 42  # of the gains and the guess

# --- the flows -----------------------------------------------------------------------------------


def abc(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    a, b, c = 1.73205, 1.41421, 1.0
    sin, cos = jnp.sin, jnp.cos
    return a * sin(z) + c * cos(y), b * sin(x) + a * cos(z), c * sin(y) + b * cos(x)


def chua(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    inner, outer = -1.142857, -0.71429  # slopes
    ramp = outer * x + 0.5 * (inner - outer) * (abs(x + 1) - abs(x - 1))
    return 15.6 * (y - x - ramp), x - y + z, -28.0 * y


def kawczynski_strizhak(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    beta, gamma, kappa, mu = -0.4, 0.49, 0.2, 2.1
    dx = gamma * y - gamma * x**3 + 3 * mu * gamma * x
    return dx, -2 * mu * x - y - z + beta, kappa * (x - z)


def lorenz(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    return 10 * (y - x), 28 * x - x * z - y, x * y - 8 / 3 * z


def nose_hoover(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    return y, -x + y * z, 1.5 - y**2


def rossler(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    return -y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)


def sprott_b(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    return y * z, x - y, 1 - x * y


def thomas(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    a, b = 1.85, 10.0
    return -a * x + b * jnp.sin(y), -a * y + b * jnp.sin(z), -a * z + b * jnp.sin(x)


def vallis_el_nino(x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    return 102 * y - 3 * x, -y + x * z, -z - x * y + 1


class Published(NamedTuple):
    """A row of the table, and what it was made with."""

    name: str
    field: Callable[[Any, Any, Any], tuple[Any, ...]]
    start: tuple[float, float, float]
    replaced: tuple[int, ...]  # coordinates of the observer
    key: int  # which of nine perturbs the observer's start
    exponent: float  # per unit of time
    observer: float  # its exponent
    steps: int  # of Newton's method, on the observer
    flow_steps: int  # on the flow itself


# fmt: off
FLOWS = (
    Published("ABC", abc, (-.78450179, -.62887672, -.17620268), (0, 2), 3, .16, -.08, 3, 4243),
    Published("Chua", chua, (1.1262351, -.11386474, -.78324421), (1,), 7, .02, -1.37, 14, 697),
    Published("Kawczynski-Strizhak", kawczynski_strizhak, (-1.160501, 5.8636902, -1.2031947),
              (0, 1), 5, .01, -3.08, 2, 29396),
    Published("Lorenz", lorenz, (-9.7869288, -15.03852, 20.533978), (1,), 1, 1.02, -6.28, 3, 30000),
    Published("Nose-Hoover", nose_hoover, (-1.9758582, .24647527, .79024299), (0, 2), 8,
              .02, -.13, 3, 29765),
    Published("Rossler", rossler, (6.5134412, .4772013, .34164294), (), 0, .01, -.07, 7, 29288),
    Published("Sprott B", sprott_b, (1.6878282, 1.4848132, -.53706628), (1,), 4,
              .20, -.39, 2, 29486),
    Published("Thomas", thomas, (2.199442, 2.3634225, 3.220197), (1,), 2, .01, -3.07, 7, 12747),
    Published("Vallis El Nino", vallis_el_nino,
              (-6.99286331487343, .023254276622294345, -.1658177563067799), (1,), 6,
              .58, -2.48, 3, 30000),
)
# fmt: on


def velocity(which: Any, state: chex.Array) -> chex.Array:
    """The time derivative of a state `[..., 3]` of the flow of that number."""
    fields = [lambda s, f=flow.field: jnp.stack(f(*jnp.moveaxis(s, -1, 0)), -1) for flow in FLOWS]
    moved: chex.Array = jax.lax.switch(which, fields, state)
    return moved


def follow(which: Any, state: chex.Array, x: Any) -> tuple[chex.Array, chex.Array]:
    """A step of a flow by Euler's method; its params are the number of the flow."""
    state = state + STEP * velocity(which, state)
    return state, state


# --- observers -----------------------------------------------------------------------------------


class Watching(NamedTuple):
    """The params of an observer."""

    which: Any  # the number of its flow
    replaced: Any  # bool [3], the coordinates that it is told
    gains: Any  # [3], of the sum that it is told, and of the pull


def observe(params: Watching, state: chex.Array, x: chex.Array) -> tuple[chex.Array, chex.Array]:
    """A step of an observer; x is the state of the flow, `[..., 3]`."""
    which, replaced, gains = params
    state = jnp.where(replaced, x, state)
    pull = jnp.sum(gains * (x - state), -1, keepdims=True) * gains
    state = state + STEP * (velocity(which, state) + pull)
    return state, state


class Observer(NamedTuple):
    """What an observer is run on."""

    params: Watching
    start: chex.Array  # [B, 3]
    xs: chex.Array  # [T, B, 3]


def observer(which: int, starts: chex.Array) -> Observer:
    """The observer of a flow from several starts of the flow, `[B, 3]`."""
    flow = FLOWS[which]
    gains = jax.random.normal(_keys()[0], (1, 3))[0]
    key = jax.random.split(jax.random.PRNGKey(0), len(FLOWS))[flow.key]
    after = unroll_states(follow, which, starts, jnp.zeros((LENGTH - 1, len(starts), 0)))
    replaced = np.isin(np.arange(3), flow.replaced)
    return Observer(
        Watching(which, replaced, gains),
        starts + jax.random.normal(key, (3,)),
        jnp.concatenate([starts[None], after]),
    )


def _keys() -> chex.Array:
    """Of the gains, and of the guess (the third)."""
    return jax.random.split(jax.random.PRNGKey(SEED), 6)


def starts_of(flow: Published) -> chex.Array:
    """The published start, and others that differ from it in rounding, `[B, 3]`."""
    return jnp.asarray(np.asarray(flow.start) * (1 + ROUNDING[:, None]))


# --- what is claimed -----------------------------------------------------------------------------


def exponents() -> Iterator[Row]:
    """Of the flows."""
    nothing = jnp.zeros((LENGTH, len(ROUNDING), 0))
    for which, flow in enumerate(FLOWS):
        found = lyapunov(follow, which, starts_of(flow), nothing, k=1, burn_in=0)
        yield _row(flow.name, flow.exponent, found)


def observers() -> Iterator[Row]:
    """Of the observers."""
    for which, flow in enumerate(FLOWS):
        params, start, xs = observer(which, starts_of(flow))
        found = lyapunov(observe, params, start, xs, k=1, burn_in=0)
        yield _row(flow.name, flow.observer, found)


def _row(name: str, published: float, found: Any) -> Row:
    """Ours is from the published start; the other starts are in the range."""
    ours, errors = (np.asarray(a)[:, 0] / STEP for a in found[:2])
    note = f"standard error {errors[0]:.3f}"
    return compared(name, published, ours[0], of_range(0.02), note, others=ours[1:])


def newton_steps() -> Iterator[Row]:
    """On the observers, from a normal guess of all states."""
    guess = jax.random.normal(_keys()[2], (LENGTH, 3))
    for which, flow in enumerate(FLOWS):
        params, start, xs = observer(which, starts_of(flow)[:1])
        found = solve(_next, params, start[0], xs[:, 0], guess, TOLERANCE, LENGTH)
        yield compared(flow.name, flow.steps, found.steps, absolute(1))


def steps_on_flows() -> Iterator[Row]:
    """On the flows themselves, from the same guess; at most T."""
    guess = jax.random.normal(_keys()[2], (LENGTH, 3))
    nothing = jnp.zeros((LENGTH, 0))
    for which, flow in enumerate(FLOWS):
        start = starts_of(flow)[0]
        found = solve(_next_of_flow, which, start, nothing, guess, TOLERANCE, LENGTH)
        times = float(found.steps) / flow.flow_steps
        note = f"{times:.2g} times theirs; only magnitudes are compared"
        note = note if abs(times - 1) > 0.1 else ""
        yield compared(flow.name, flow.flow_steps, found.steps, factor(10.0), note)


def _next(params: Watching, state: chex.Array, x: chex.Array) -> chex.Array:
    return observe(params, state, x)[0]


def _next_of_flow(which: Any, state: chex.Array, x: chex.Array) -> chex.Array:
    return follow(which, state, x)[0]


_SOURCE = (
    "Gonzalez et al., NeurIPS 2025, Table 1; constants and recipe: experiments/tab1.py of "
    "github.com/lindermanlab/predictability_enables_parallelization"
)
_STARTS = (
    f"Euler, dt = {STEP}, T = {LENGTH:,}, float64; the published start, and a range over it and "
    f"{len(ROUNDING) - 1} that differ from it in rounding: over so many steps it decides"
)

EXPONENTS = Claim(
    "chaotic-flows",
    "largest Lyapunov exponents of nine chaotic flows, per unit of time",
    _SOURCE,
    _STARTS,
    exponents,
    float64=True,
)
OBSERVERS = Claim(
    "observers",
    "largest Lyapunov exponents of observers of the nine flows, per unit of time",
    _SOURCE,
    f"{_STARTS}; gains and start of seed {SEED} as there",
    observers,
    float64=True,
)
_ITERATION = (
    f"Euler, dt = {STEP}, T = {LENGTH:,}, float64; start and normal guess of seed {SEED} as there; "
    f"stops once 1/2 |residual|^2 / T was at most {TOLERANCE:g} before a step"
)
STEPS = Claim(
    "observers-newton",
    "Newton steps that find all states of the nine observers at once",
    _SOURCE,
    _ITERATION,
    newton_steps,
    float64=True,
)
FLOW_STEPS = Claim(
    "flows-newton",
    "Newton steps that find all states of the nine chaotic flows at once, at most T",
    _SOURCE,
    f"{_ITERATION}, or after T steps; each is solved in the order of time, theirs by an "
    "associative scan, whose rounding is another: compared by the order of magnitude",
    steps_on_flows,
    long=True,
    float64=True,
)
