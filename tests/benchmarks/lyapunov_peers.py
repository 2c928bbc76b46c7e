"""What `flow.lyapunov` is measured against in `tests.benchmarks.microscope`.

A random network x' = J tanh x is given to all as a plain function, in float64 and from the same
state and directions, so that all compute the same numbers over the same steps, without a burn-in.
The peers are called in two ways: as their documentation does, which traces and compiles at every
call, and inside a `jax.jit` of the user's, which it does not mention for lyapax, and which chaotax
0.0.1 does not survive without `jax.ensure_compile_time_eval`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import recurrax as rx
from recurrax import keys

if TYPE_CHECKING:
    from collections.abc import Callable

LEADING = 8
WAYS = {"as documented": False, "compiled by its user": True}
INTERVALS = (2, 4, 5)  # lyapax's renorm_every, tried in turn


class Network(NamedTuple):
    """x' = J tanh x with J_ij ~ N(0, g^2 / N)."""

    matrix: jax.Array  # [N, N], J
    start: jax.Array  # [N]
    directions: jax.Array  # [N, N], the columns that are followed, before they are orthonormal
    steps: int

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.matrix @ jnp.tanh(x)


def network(size: int, gain: float, steps: int) -> Network:
    """To be called, and used, where float64 is enabled."""
    rng = np.random.default_rng(size)
    matrix = jnp.asarray(gain / np.sqrt(size) * rng.normal(size=(size, size)))
    start = jnp.asarray(rng.normal(size=size))
    # recurrax begins with these columns; the others are handed them.
    return Network(matrix, start, jax.random.normal(keys.own(keys.BASIS), (size, size)).T, steps)


def reference(net: Network) -> np.ndarray:
    """The exponents by NumPy, with a QR at every step of JAX's trajectory.

    Chaos would carry another rounding of the trajectory somewhere else within a hundred steps.
    """
    walk = jax.jit(lambda x: jax.lax.scan(lambda x, _: (net(x), x), x, length=net.steps)[1])
    matrix, total = np.asarray(net.matrix), 0.0
    basis = np.linalg.qr(np.asarray(net.directions))[0]
    for x in np.asarray(walk(net.start)):
        basis, upper = np.linalg.qr((matrix * (1 - np.tanh(x) ** 2)) @ basis)
        total = total + np.log(np.abs(np.diagonal(upper)))
    return np.sort(total / net.steps)[::-1]


def _step(matrix: jax.Array, x: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
    x = matrix @ jnp.tanh(x)
    return x, x


def recurrax(net: Network) -> Callable[[], jax.Array]:
    """As documented."""
    arguments = (_step, net.matrix, net.start)
    return lambda: rx.flow.lyapunov(*arguments, length=net.steps, burn_in=0).exponents


def chaotax(net: Network, compiled: bool) -> Callable[[], jax.Array]:
    """A QR at every step; it has no other interval."""
    import chaotax

    spectrum = chaotax.lyapunov_spectrum(
        net, rollout_steps=net.steps, warmup_steps=0, discard_steps=0
    )
    if not compiled:
        return lambda: spectrum(net.start, net.directions.T)

    def run(start: jax.Array, directions: jax.Array) -> jax.Array:
        with jax.ensure_compile_time_eval():  # it takes a size from an array
            return spectrum(start, directions)

    return functools.partial(jax.jit(run), net.start, net.directions.T)


def lyapax(net: Network, compiled: bool, every: int = 1) -> Callable[[], jax.Array]:
    """A QR every so many steps."""
    import lyapax
    from lyapax.core import LyapunovCheckpoint

    basis = jnp.linalg.qr(net.directions)[0]
    sums = jnp.zeros(len(basis))

    def run(start: jax.Array) -> jax.Array:
        begin = LyapunovCheckpoint(start, basis, sums, jnp.zeros(()), 1.0)
        found = lyapax.lyapunov_spectrum(
            net, start, 1.0, net.steps, renorm_every=every, resume=begin
        )
        return found.exponents

    return functools.partial(jax.jit(run) if compiled else run, net.start)


def lyapax_interval(net: Network, expected: np.ndarray, allowed: float) -> int:
    """The widest interval at which lyapax still finds every exponent."""
    best = 1
    for every in INTERVALS:
        if net.steps % every or differences(lyapax(net, True, every)(), expected)[1] > allowed:
            break
        best = every
    return best


def differences(found: Any, expected: np.ndarray) -> tuple[float, float]:
    """The largest among the leading exponents, and among all; NaN counts as infinite."""
    apart = np.abs(np.sort(np.asarray(found))[::-1] - expected)
    apart = np.nan_to_num(apart, nan=np.inf)
    return float(apart[:LEADING].max()), float(apart.max())


def sides(
    net: Network, expected: np.ndarray
) -> tuple[dict[str, Callable[[], jax.Array]], list[str]]:
    """Who is there, each peer in both ways and at its best setting, and notes on who is not."""
    found, notes = {"recurrax": recurrax(net)}, []
    for name, peer in (("chaotax", chaotax), ("lyapax", lyapax)):
        try:
            options = {}
            if name == "lyapax":
                allowed = max(1e-6, differences(found["recurrax"](), expected)[1])
                options["every"] = lyapax_interval(net, expected, allowed)
                notes.append(f"lyapax's widest renorm_every as accurate: {options['every']}")
            found |= {f"{name}, {way}": peer(net, c, **options) for way, c in WAYS.items()}
        except ImportError as error:
            notes.append(f"{name} missing: {error}")
    return found, notes


def by_columns(cell: rx.Cell, k: int) -> Callable[..., jax.Array]:
    """The k leading exponents by hand: `jvp` of each of N columns, and a QR of all at each step.

    The first k columns are recurrax's own, so that the numbers can be compared.
    """

    def exponents(params: Any, state: Any, xs: Any) -> jax.Array:
        vector, unravel = ravel_pytree(state)
        size = vector.shape[0]
        first = jax.random.normal(keys.own(keys.BASIS), (k, size)).T
        rest = jax.random.normal(jax.random.key(1), (size, size - k))

        def body(carried: Any, x: Any) -> Any:
            vector, basis = carried

            def after(vector: jax.Array) -> jax.Array:
                return ravel_pytree(cell.step(params, unravel(vector), x)[0])[0]

            def push(column: jax.Array) -> jax.Array:
                return jax.jvp(after, (vector,), (column,))[1]

            basis, upper = jnp.linalg.qr(jax.vmap(push, 1, 1)(basis))
            return (after(vector), basis), jnp.log(jnp.abs(jnp.diagonal(upper)[:k]))

        basis = jnp.linalg.qr(jnp.concatenate([first, rest], 1))[0]
        return jnp.mean(jax.lax.scan(body, (vector, basis), xs)[1], 0)

    return jax.jit(exponents)
