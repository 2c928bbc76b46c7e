"""How fast is `rx.flow.decay` beside `jax.jacrev` of the final state, called for each t in a loop?

    python -m tests.benchmarks.decay

Both answer the same question, `|| d s_t / d s_0 ||` for t = 1 ... T, of one LSTM sequence. The loop
differentiates t steps for every t, T^2 / 2 steps in all, which would take long; so `jacrev` is
timed at a few t, a straight line is fitted to its seconds against t (its work grows by one step
for each t), and the line is summed over t = 1 ... T. Each t has its own compiled function, and
compilation is left out of both sides; a user's loop would pay for it at every t. The two are timed
in turn, in rounds, and the median over the rounds is taken, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

import recurrax as rx

from .markers import RESULTS, markers, printed, replace_between

INPUTS = 16
MARKERS = markers("decay")
SMALLEST = -60.0  # below e^-60 a float32 product of Jacobians begins to lose its entries


class Line(NamedTuple):
    """Seconds against t."""

    start: float
    per_step: float

    def total(self, length: int) -> float:
        """The sum over t = 1 ... length."""
        return self.start * length + self.per_step * length * (length + 1) / 2


class Result(NamedTuple):
    compile_decay: float  # seconds, all of them
    decay: float
    jacrev: dict[int, float]  # by t
    line: Line
    ratio: float
    compared: list[int]  # the t at which both norms are known
    difference: float  # the largest of their logs


def problem(hidden: int, length: int) -> tuple[Any, ...]:
    """An LSTM in float32 as it is initialised, and one sequence of normal noise."""
    cell = rx.cells.lstm(INPUTS, hidden)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (length, INPUTS))
    return cell, params, cell.initial_state(params), xs


def jacrev_at(case: tuple[Any, ...], t: int) -> Any:
    """The compiled `[N, N]` derivative of s_t by s_0, and its arguments."""
    cell, params, state, xs = case
    vector, unravel = ravel_pytree(state)

    def final(vector: Any, params: Any, xs: Any) -> Any:
        def body(state: Any, x: Any) -> Any:
            return cell.step(params, state, x)[0], None

        return ravel_pytree(jax.lax.scan(body, unravel(vector), xs)[0])[0]

    arguments = (vector, params, xs[:t])
    return jax.jit(jax.jacrev(final)).lower(*arguments).compile(), arguments


def seconds(function: Any, *arguments: Any) -> tuple[float, Any]:
    """Wall-clock time of one call, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start, result


def fit(times: dict[int, float]) -> Line:
    """Least squares of seconds against t, with no part below zero."""
    slope, start = np.polyfit(list(times), list(times.values()), 1)
    return Line(max(float(start), 0.0), max(float(slope), 0.0))


def measure(hidden: int, length: int, at: list[int], rounds: int) -> Result:
    """Time both, in turn, and see that they agree."""
    case = problem(hidden, length)
    first, decay = seconds(rx.flow.decay, *case)
    compiled = {t: jacrev_at(case, t) for t in at}
    norms = {}
    for t, (function, arguments) in compiled.items():  # the first call warms up
        matrix = np.asarray(seconds(function, *arguments)[1], np.float64)
        norms[t] = float(np.log(max(np.linalg.norm(matrix, 2), 1e-300)))
    ours, theirs = [], {t: [] for t in at}
    for _ in range(rounds):
        ours.append(seconds(rx.flow.decay, *case)[0])
        for t, (function, arguments) in compiled.items():
            theirs[t].append(seconds(function, *arguments)[0])
    log_norm = {t: float(decay.log_norm[t - 1]) for t in at}
    compared = [t for t in at if log_norm[t] > SMALLEST]
    jacrev = {t: statistics.median(values) for t, values in theirs.items()}
    line, taken = fit(jacrev), statistics.median(ours)
    return Result(
        compile_decay=first - taken,
        decay=taken,
        jacrev=jacrev,
        line=line,
        ratio=line.total(length) / taken,
        compared=compared,
        difference=max((abs(norms[t] - log_norm[t]) for t in compared), default=float("nan")),
    )


def story(result: Result, hidden: int, length: int) -> str:
    """What is printed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    measured = ", ".join(f"{s:.3g} s at t = {t}" for t, s in result.jacrev.items())
    return "\n".join(
        [
            f"LSTM H = {hidden} (N = {2 * hidden}), T = {length}, one sequence, float32",
            f"recurrax {rx.__version__}, jax {jax.__version__}, "
            f"Python {platform.python_version()}, "
            f"{jax.default_backend()}, {cores} cores, load {load:.1f}",
            f"flow.decay, exact: {result.decay:.3f} s for all t, after "
            f"{result.compile_decay:.1f} s of compilation",
            f"jax.jacrev, each t by itself: {measured}",
            f"  fitted: {result.line.start:.3g} s + {result.line.per_step:.3g} s x t, "
            f"in all {result.line.total(length):.1f} s for t = 1 ... {length}, "
            "compilation left out",
            f"ratio: {result.ratio:.0f}",
            f"the log norms differ by {result.difference:.1e} at most, at t = "
            f"{', '.join(map(str, result.compared)) or 'none'} (where float32 holds the product)",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--at", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", action="store_true", help=f"write it into {RESULTS.name}")
    given = parser.parse_args()
    if given.results:
        replace_between(RESULTS, MARKERS, None)
    result = measure(given.hidden, given.length, given.at, given.rounds)
    words = story(result, given.hidden, given.length)
    print(words)
    if not result.difference < 1e-3:
        raise SystemExit("the two do not agree")
    if given.results:
        replace_between(RESULTS, MARKERS, printed("decay", words))


if __name__ == "__main__":
    main()
