"""The figures of `tests.benchmarks.microscope`: what is compared, checked and timed.

Each function sets up one comparison, sees that the numbers agree, times its sides in turn and
returns an `Outcome`. Each takes the sizes, so that a test can take small ones.
"""

from __future__ import annotations

import math
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import recurrax as rx

from . import lyapunov_peers
from .comparing import Asked, Figure, Outcome, in_turn, ratios

if TYPE_CHECKING:
    from collections.abc import Callable

INPUTS = 16
LARGE = 100  # the N from which a network takes half a minute a round
NAMES = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}


class Sizes(NamedTuple):
    """What is measured, unless a test asks for less."""

    networks: tuple[tuple[int, float], ...] = ((64, 3.0), (64, 1.5), (200, 3.0))  # N, g
    steps: int = 5000
    hidden_8: int = 256  # H of the LSTM whose 8 leading exponents are found
    length_8: int = 200
    length: int = 256  # T of lags and maps
    hidden: int = 64
    batches: tuple[int, ...] = (1, 16)
    kinds: tuple[str, ...] = tuple(NAMES)
    trained: tuple[tuple[str, int], ...] = (("lstm", 64), ("lstm", 128), ("elman", 128))  # H
    train_length: int = 100
    train_batch: int = 32
    train_steps: int = 100  # one interval of watch


QUICK = Sizes(
    networks=((16, 3.0),),
    steps=200,
    hidden_8=16,
    length_8=40,
    length=32,
    hidden=8,
    batches=(1, 3),
    trained=(("lstm", 8),),
    train_length=10,
    train_batch=4,
)


def lyapunov(sizes: Sizes, rounds: int) -> list[Outcome]:
    """All exponents of random networks, beside chaotax and lyapax."""
    found = []
    with jax.enable_x64(True):
        for size, gain in sizes.networks:
            few = rounds if size < LARGE else -(-rounds // 3)
            found.append(_spectrum(size, gain, sizes.steps, few))
    return found


def _spectrum(size: int, gain: float, steps: int, rounds: int) -> Outcome:
    net = lyapunov_peers.network(size, gain, steps)
    expected = lyapunov_peers.reference(net)
    sides, notes = lyapunov_peers.sides(net, expected)
    results, seconds, compile_seconds = in_turn(sides, rounds)
    wrong = []
    for side, exponents in results.items():
        leading, every = lyapunov_peers.differences(exponents, expected)
        notes.append(f"{side}: leading exponents within {leading:.1e}, all within {every:.1e}")
        if not (leading < 1e-6 and every < 1e-5):
            wrong.append(side)
    name = f"Lyapunov spectrum, N = {size}, {steps:,} steps"
    asked = Asked(1.3, aim=2) if size >= LARGE else Asked(3, aim=6)
    figures = [
        Figure(
            f"{name}: the faster of chaotax and lyapax, {way}, over flow.lyapunov",
            f"g = {gain:g}",
            asked,
            _faster(seconds, way, wrong),
        )
        for way in lyapunov_peers.WAYS
    ]
    return Outcome(f"{name}, g = {gain:g}", figures, seconds, compile_seconds, notes, wrong)


def _faster(seconds: dict[str, list[float]], way: str, wrong: list[str]) -> list[float]:
    """Ratios of the peer that is faster this way and not wrong; none without a peer."""
    peers = [side for side in seconds if side.endswith(f", {way}") and side not in wrong]
    if not peers:
        return []
    best = min(peers, key=lambda side: statistics.median(seconds[side]))
    return ratios(seconds[best], seconds["recurrax"])


def lstm8(sizes: Sizes, rounds: int) -> list[Outcome]:
    """The 8 leading exponents of an LSTM, beside a scan of `jvp` by columns."""
    hidden, k = sizes.hidden_8, 8
    case = f"8 leading Lyapunov exponents, LSTM H = {hidden}, T = {sizes.length_8}, float32"
    cell, params, state, xs = problem("lstm", hidden, sizes.length_8, 1)
    scan = lyapunov_peers.by_columns(cell, k)
    sides: dict[str, Callable[[], Any]] = {
        "flow.lyapunov": lambda: rx.flow.lyapunov(cell, params, state, xs, k=k, burn_in=0)[0],
        f"jvp and QR of all {2 * hidden} columns": lambda: scan(params, state, xs),
    }
    results, seconds, compile_seconds = in_turn(sides, -(-rounds // 2))
    ours, theirs = sides
    leading, _ = lyapunov_peers.differences(results[ours], np.sort(results[theirs])[::-1])
    name = f"{case}: {theirs} over flow.lyapunov"
    figure = Figure(name, "", Asked(20), ratios(seconds[theirs], seconds[ours]))
    note = f"the exponents differ by {leading:.1e} at most"
    wrong = [] if leading < 1e-4 else [ours]
    return [Outcome(case, [figure], seconds, compile_seconds, [note], wrong)]


def problem(kind: str, hidden: int, length: int, batch: int) -> tuple[Any, ...]:
    """A cell as it is initialised, in float32, and noise; one sequence has no batch axis."""
    cell = getattr(rx.cells, kind)(INPUTS, hidden)
    params = cell.init(jax.random.key(0))
    shape = () if batch == 1 else (batch,)
    xs = jax.random.normal(jax.random.key(1), (length, *shape, INPUTS))
    return cell, params, cell.initial_state(params, shape), xs


def at_the_last(ys: jax.Array) -> jax.Array:
    """A loss that looks at the last step."""
    return jnp.sum(ys[-1] ** 2)


def at_all(ys: jax.Array) -> jax.Array:
    """A loss that looks at every step."""
    return jnp.mean(ys**2)


def gradient(case: tuple[Any, ...], loss: Callable[[Any], Any]) -> Callable[[], Any]:
    """The unit of the figures: one compiled gradient by all params, on the engine that users get.

    The state and xs are arguments: the compiler knows as little of them as in training.
    """
    cell, *arguments = case

    def value(params: Any, state: Any, xs: Any) -> Any:
        return loss(rx.unroll(cell, params, state, xs)[1])

    return partial(jax.jit(jax.grad(value)), *arguments)


def _described(name: str, sizes: Sizes, batch: int) -> str:
    where = "one sequence" if batch == 1 else f"B = {batch}"
    return f"{name}, H = {sizes.hidden}, T = {sizes.length}, {where}"


def lags_last(sizes: Sizes, rounds: int) -> list[Outcome]:
    """`lag_profile` of a loss that looks at the last step, beside one gradient."""
    return _lags("lag_profile, loss at the last step", at_the_last, 3, sizes, rounds)


def lags_all(sizes: Sizes, rounds: int) -> list[Outcome]:
    """`lag_profile` of a loss that looks at every step, beside one gradient."""
    return _lags("lag_profile, loss at every step", at_all, sizes.length / 4, sizes, rounds)


def _lags(
    name: str, loss: Callable[[Any], Any], most: float, sizes: Sizes, rounds: int
) -> list[Outcome]:
    found = []
    for batch in sizes.batches:
        for kind in sizes.kinds:
            cell, *arguments = problem(kind, sizes.hidden, sizes.length, batch)
            sides = {
                "gradient": gradient((cell, *arguments), loss),
                "called": partial(rx.flow.lag_profile, cell, *arguments, loss),
                "called in jax.jit": partial(
                    jax.jit(partial(rx.flow.lag_profile, cell, loss=loss)), *arguments
                ),
            }
            results, *measured = in_turn(sides, rounds)
            total = math.log(np.linalg.norm(np.asarray(results["gradient"].w_rec, np.float64)))
            notes, wrong = [], []
            for way in list(sides)[1:]:
                apart = abs(float(results[way].log_total) - total)
                notes.append(f"{way}: log norm of the whole gradient within {apart:.1e}")
                if not (apart < 1e-3 and abs(float(results[way].share[-1]) - 1) < 1e-2):
                    wrong.append(way)
            case = _described(name, sizes, batch)
            found.append(_in_gradients(case, kind, most, *measured, notes, wrong))
    return found


def gradient_map(sizes: Sizes, rounds: int) -> list[Outcome]:
    """`gradient_map` of one sequence with 8 directions, beside one gradient."""
    found = []
    for kind in sizes.kinds:
        cell, params, _, xs = case = problem(kind, sizes.hidden, sizes.length, 1)
        sides = {
            "gradient": gradient(case, at_all),
            "called": partial(rx.flow.gradient_map, cell, params, None, xs, probes=8),
        }
        results, *measured = in_turn(sides, rounds)
        # Column s = 0 is what flow.decay finds exactly; the norm by directions is a lower bound.
        below = rx.flow.decay(cell, params, None, xs).log_norm - results["called"].log_norm[:, 0]
        worst, over = float(jnp.max(below)), float(-jnp.min(below))
        note = f"log norms by s_0 at most {worst:.2g} below flow.decay's, {over:.1e} above"
        name = _described("gradient_map with 8 probes", sizes, 1)
        wrong = [] if worst < 2 and over < 1e-2 else ["called"]
        found.append(_in_gradients(name, kind, 64, *measured, [note], wrong))
    return found


def _in_gradients(
    case: str,
    kind: str,
    most: float,
    seconds: dict[str, list[float]],
    compile_seconds: dict[str, float],
    notes: list[str],
    wrong: list[str],
) -> Outcome:
    """Every other side over the gradient."""
    figures = [
        Figure(
            f"{case}: {way}, over one gradient",
            NAMES[kind],
            Asked(most=most),
            ratios(seconds[way], seconds["gradient"]),
        )
        for way in seconds
        if way != "gradient"
    ]
    return Outcome(f"{case}, {NAMES[kind]}", figures, seconds, compile_seconds, notes, wrong)


def watch(sizes: Sizes, rounds: int) -> list[Outcome]:
    """Training with `flow.watch` at its default interval, beside training without."""
    return [_watched(kind, hidden, sizes, rounds) for kind, hidden in sizes.trained]


def _watched(kind: str, hidden: int, sizes: Sizes, rounds: int) -> Outcome:
    cell, *arguments = problem(kind, hidden, sizes.train_length, sizes.train_batch)
    sides = {
        name: partial(jax.jit(training(cell, sizes.train_steps, name == "watched")), *arguments)
        for name in ("plain", "watched")
    }
    results, seconds, compile_seconds = in_turn(sides, rounds)
    (plain, _), (watched, record) = results["plain"], results["watched"]
    same = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-4), plain, watched)
    finite = bool(np.isfinite(record.log_norm))
    last = (sizes.train_steps - 1) // 100 * 100
    wrong = [] if all(jax.tree.leaves(same)) and finite and record.step == last else ["watched"]
    note = f"the last of {sizes.train_steps} steps that was measured: {int(record.step)}"
    name = f"flow.watch, T = {sizes.train_length}, B = {sizes.train_batch}"
    figure = Figure(
        f"{name}: training with it over training without",
        f"{NAMES[kind]} H = {hidden}",
        Asked(most=1.1),
        ratios(seconds["watched"], seconds["plain"]),
    )
    return Outcome(
        f"{name}, {figure.of}, {sizes.train_steps} Adam steps",
        [figure],
        seconds,
        compile_seconds,
        [note],
        wrong,
    )


def training(cell: rx.Cell, steps: int, watched: bool) -> Callable[..., Any]:
    """Some Adam steps in one scan; the params, and the last record where there is one."""
    optimizer = optax.adam(1e-3)

    def run(params: Any, state: Any, xs: Any) -> tuple[Any, Any]:
        def loss(params: Any) -> Any:
            return at_all(rx.unroll(cell, params, state, xs)[1] - 0.5)

        def body(carried: Any, step: Any) -> tuple[Any, None]:
            params, memory, record = carried
            if watched:
                record = rx.flow.watch(cell, params, state, xs, step=step, last=record)
            updates, memory = optimizer.update(jax.grad(loss)(params), memory, params)
            return (optax.apply_updates(params, updates), memory, record), None

        record = rx.flow.watch(cell, params, state, xs, step=-1) if watched else None
        carried = (params, optimizer.init(params), record)
        params, _, record = jax.lax.scan(body, carried, jnp.arange(steps))[0]
        return params, record

    return run


FIGURES: dict[str, Callable[[Sizes, int], list[Outcome]]] = {
    "lyapunov": lyapunov,
    "lstm8": lstm8,
    "lags_last": lags_last,
    "lags_all": lags_all,
    "map": gradient_map,
    "watch": watch,
}
