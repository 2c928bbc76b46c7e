"""Is this checkout as fast and as sparing of memory as another, such as the one before a change?

    python -m tests.benchmarks.against PATH_OF_THE_OTHER_CHECKOUT

Each checkout lives in a process of its own, and only one of them computes at a time. A case is one
training step's value and gradient, one forward pass, or one question of the microscope, under
`jax.jit`. First both must compute the same numbers; then they are timed in turn, in rounds. What is
printed is the median over the rounds of the other's time over this one's, so above 1 this one is
faster, and this one's temporary memory over the other's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve()
SECONDS = 0.2  # about what one measurement takes, if one call does not take longer
ALLOWED = 0.03  # what a checkout may be slower or larger by
RTOL = 2e-3  # of two norms; the order of a sum may differ
SHAPES = (  # T, B, I, H
    (1000, 1, 64, 128),
    (100, 32, 64, 128),
    (1000, 16, 64, 64),
    (100, 64, 256, 256),
)
CELLS = ("lstm", "gru", "elman")


# --- the cases, made in a checkout's own process -------------------------------------------------


def cases() -> dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]]:
    """By name, what makes a function and its arguments."""
    found: dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {}
    for cell in CELLS:
        for T, B, I, H in SHAPES:
            shape = f"{cell} {T}x{B}x{I}x{H}"
            found[f"gradient {shape}"] = partial(gradient, cell, T, B, I, H)
            found[f"forward {shape}"] = partial(forward, cell, T, B, I, H)
    for cell in CELLS:
        for question in (
            "decay",
            "gradient_map",
            "lag_profile of the last",
            "lag_profile of all",
            "loss_gradients",
            "lyapunov",
            "spectrum",
            "paths",
            "predict",
            "watch",
        ):
            if (cell, question) != ("elman", "paths"):
                found[f"{question} {cell}"] = partial(asked, question, cell)
    return found


def problem(kind: str, T: int, B: int, I: int, H: int) -> tuple[Any, ...]:
    import jax

    import recurrax as rx

    cell = getattr(rx.cells, kind)(I, H)
    params = cell.init(jax.random.key(0))
    shape = () if B == 0 else (B,)
    xs = jax.random.normal(jax.random.key(1), (T, *shape, I))
    return cell, params, cell.initial_state(params, shape), xs


def gradient(*case: Any) -> tuple[Any, tuple[Any, ...]]:
    import jax

    import recurrax as rx

    cell, *arguments = problem(*case)

    def value(params: Any, state: Any, xs: Any) -> Any:
        return (rx.unroll(cell, params, state, xs)[1] ** 2).mean()

    return jax.value_and_grad(value), tuple(arguments)


def forward(*case: Any) -> tuple[Any, tuple[Any, ...]]:
    import recurrax as rx

    cell, *arguments = problem(*case)
    return (lambda params, state, xs: rx.unroll(cell, params, state, xs)[1]), tuple(arguments)


def asked(question: str, kind: str) -> tuple[Any, tuple[Any, ...]]:
    """A question of the microscope at a usual size; one sequence."""
    import jax

    import recurrax as rx

    cell, *arguments = problem(kind, 200, 0, 16, 64)
    flow, first = rx.flow, question.partition(" ")[0]
    ask: Callable[..., Any] = getattr(flow, first)
    last = question.endswith("last")

    def loss(ys: Any) -> Any:
        return (ys[-1] ** 2).sum() if last else (ys**2).mean()

    def run(params: Any, state: Any, xs: Any) -> Any:
        given = (cell, params, state, xs)
        if first in ("lag_profile", "loss_gradients"):
            return either(lambda: ask(*given, loss), lambda: ask(loss, *given))
        if first == "predict":
            return either(lambda: ask(*given), lambda: ask(cell, params, xs, state=state)).rate
        options: dict[str, Any] = {
            "gradient_map": {"probes": 8},
            "lyapunov": {"k": 16, "burn_in": 0},
            "watch": {"step": 0},
        }.get(first, {})
        found = ask(*given, **options)
        return [leaf for leaf in jax.tree.leaves(found) if not isinstance(leaf, str)]

    return run, tuple(arguments)


def either(now: Callable[[], Any], before: Callable[[], Any]) -> Any:
    """What a call gives in the order of arguments of today, or in that of version 0.1.0."""
    try:
        return now()
    except TypeError:
        return before()


def serve() -> None:
    """Answer the questions that come as lines of JSON."""
    import jax
    import numpy as np

    made, call = cases(), None
    for line in sys.stdin:
        what, value = json.loads(line)
        answer: Any = None
        if what == "prepare":
            function, arguments = made[value]()
            begin = time.perf_counter()
            compiled = jax.jit(function).lower(*arguments).compile()
            spent = time.perf_counter() - begin
            call = partial(compiled, *arguments)
            leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(call())]
            norms = [float(np.linalg.norm(leaf[np.isfinite(leaf)])) for leaf in leaves]
            temp = compiled.memory_analysis().temp_size_in_bytes
            answer = {"norms": norms, "temp": temp, "compile": spent}
        elif call is not None:
            times = value or max(1, math.ceil(SECONDS / max(timed(call, 1), 1e-6)))
            answer = [timed(call, times), times]
        print(json.dumps(answer), flush=True)


def timed(call: Callable[[], Any], times: int) -> float:
    """Seconds of one call."""
    import jax

    begin = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(call())
    return (time.perf_counter() - begin) / times


# --- asking --------------------------------------------------------------------------------------


class Checkout:
    """A process in which `import recurrax` gives the package of one checkout."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--serve"],
            env=os.environ | {"PYTHONPATH": str(root)},
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.times: int | None = None

    def ask(self, what: str, value: Any = None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([what, value]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a checkout's process ended at {what} {value}")
        return json.loads(line)

    def seconds(self) -> float:
        spent, self.times = self.ask("time", self.times)
        return float(spent)


def compare(name: str, sides: list[Checkout], rounds: int) -> tuple[list[float], float, bool]:
    """The ratios of the times by round, that of memory, and whether the numbers agree."""
    here, other = answers = [side.ask("prepare", name) for side in sides]
    for side in sides:
        side.times = None
        side.seconds()
    agree = len(here["norms"]) == len(other["norms"]) and all(
        math.isclose(a, b, rel_tol=RTOL, abs_tol=1e-6)
        for a, b in zip(here["norms"], other["norms"], strict=True)
    )
    found = []
    for number in range(rounds):
        order = sides if number % 2 else sides[::-1]
        spent = {id(side): side.seconds() for side in order}
        found.append(spent[id(sides[1])] / spent[id(sides[0])])
    return found, answers[0]["temp"] / max(answers[1]["temp"], 1), agree


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the root of the other checkout")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the cases' names")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    sides = [Checkout(HERE.parents[2]), Checkout(given.other.resolve())]
    print(
        "| case | the other's time over this one's | range | this one's memory over the other's |"
    )
    print("|---|---|---|---|")
    groups: dict[str, list[float]] = {}
    wrong = []
    for name in cases():
        if not any(part in name for part in given.only):
            continue
        ratios, memory, agree = compare(name, sides, given.rounds)
        middle = statistics.median(ratios)
        groups.setdefault(name.rpartition(" ")[0], []).append(middle)
        mark = "" if agree else " (the numbers differ)"
        wrong += [] if agree else [name]
        slow = " slower" if middle < 1 - ALLOWED else ""
        large = " larger" if memory > 1 + ALLOWED else ""
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {name}{mark} | {middle:.2f}{slow} | {spread} | {memory:.2f}{large} |", flush=True)
    print()
    for name, middles in groups.items():
        print(f"{name}: {statistics.geometric_mean(middles):.3f} in the geometric mean")
    if wrong:
        raise SystemExit(f"the numbers differ: {', '.join(wrong)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        main()
