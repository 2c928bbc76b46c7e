"""How fast is `rx.train.fit` beside a training loop written by hand?

    python -m tests.benchmarks.fit

The loop by hand is a jitted `lax.scan` over the same step, with the same batches, which returns the
losses and nothing else: no metrics, no gradient norm, no report. Both are timed from the first
params to the last, in turn, and must end with the same params; compilation is left out. The bar is
drawn on a terminal that goes nowhere.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import recurrax as rx
from recurrax import keys

from .comparing import Asked, Figure, Outcome, in_turn, ratios, table
from .markers import RESULTS, markers, printed, replace_between
from .training import load, machine, where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEED, BAR = "a loop by hand over fit", "fit with the bar over without"
MARKERS = markers("fit")
KEY = jax.random.PRNGKey(0)


class Case(NamedTuple):
    cell: str
    T: int
    B: int
    H: int
    steps: int  # of one measurement

    def __str__(self) -> str:
        return f"{self.cell} T={self.T} B={self.B} H={self.H}, {self.steps} steps"


CASES = (
    Case("elman", 20, 16, 16, 40000),
    Case("gru", 50, 32, 32, 2000),
    Case("lstm", 100, 32, 64, 400),
)
QUICK = (Case("elman", 4, 3, 4, 30),)


class Terminal:
    """A terminal that goes nowhere."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def isatty(self) -> bool:
        return True


def sides(case: Case) -> dict[str, Callable[[], Any]]:
    """Each trains anew from the same key, and returns the params."""
    cell = getattr(rx.cells, case.cell)(2, case.H)
    task = rx.tasks.adding(case.T)
    optimizer = optax.chain(rx.cures.clip_by_global_norm(1.0), optax.adam(1e-3))

    def fit(progress: bool) -> Any:
        options = {"batch_size": case.B, "stop_when_solved": False, "progress": progress}
        return rx.train.fit(cell, task, optimizer, key=KEY, steps=case.steps, **options).params

    return {
        "fit": partial(fit, False),
        "fit with the bar": partial(_on_a_terminal, fit),
        "by hand": by_hand(cell, task, optimizer, case),
    }


def by_hand(cell: Any, task: Any, optimizer: Any, case: Case) -> Callable[[], Any]:
    """What a user would write."""
    net = rx.train.network(cell, 1)

    def objective(params: Any, batch: Any) -> Any:
        return task.loss(net.apply(params, batch.xs), batch)

    def step(carry: Any, n: Any) -> Any:
        params, state = carry
        batch = task.draw(keys.of_step(KEY, n), case.B)
        loss, gradient = jax.value_and_grad(objective)(params, batch)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    @partial(jax.jit, donate_argnums=0)
    def train(carry: Any) -> Any:
        return jax.lax.scan(step, carry, jnp.arange(case.steps))

    def whole() -> Any:
        params = net.init(KEY)
        (params, _), losses = train((params, optimizer.init(params)))
        jax.block_until_ready(losses)
        return params

    return whole


def _on_a_terminal(fit: Callable[[bool], Any]) -> Any:
    with _terminal():
        return fit(True)


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    with (
        open(os.devnull, "w", encoding="utf-8") as file,
        contextlib.redirect_stderr(Terminal(file)),
    ):  # type: ignore[type-var]
        yield


def measure(case: Case, rounds: int) -> Outcome:
    results, seconds, compiling = in_turn(sides(case), rounds)
    wrong, notes = [], []
    expected = jax.tree.leaves(results["by hand"])
    for name, params in results.items():
        pairs = zip(jax.tree.leaves(params), expected, strict=True)
        gap = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
        notes.append(f"{name}: params differ by {gap:.1g} at most from those by hand")
        if not gap < 0.05:  # training is chaotic: rounding grows with the steps
            wrong.append(name)
    of = case.cell
    speed = ratios(seconds["by hand"], seconds["fit"])
    bar = ratios(seconds["fit with the bar"], seconds["fit"])
    figures = [
        Figure(SPEED, of, Asked(least=0.95), speed),
        Figure(BAR, of, Asked(most=1.02), bar),
    ]
    return Outcome(str(case), figures, seconds, compiling, notes, wrong)


def story(outcomes: list[Outcome], facts: dict[str, Any]) -> str:
    """What is printed."""
    lines = [*where(facts), facts["platform"], ""]
    for outcome in outcomes:
        lines.append(outcome.case)
        for side, seconds in outcome.seconds.items():
            lines.append(f"  {side}: {statistics.median(seconds):.3f} s")
        lines += [f"  {note}" for note in outcome.notes]
        lines += [f"  DISAGREES: {side}" for side in outcome.wrong]
    figures = [figure for outcome in outcomes for figure in outcome.figures]
    missed = [f"not as asked: {f.name} {f.of}" for f in figures if not f.met]
    return "\n".join([*lines, "", *table(figures), "", *(missed or ["all figures are as asked"])])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--results", action="store_true", help=f"write it into {RESULTS.name}")
    given = parser.parse_args(arguments)
    if given.results:
        replace_between(RESULTS, MARKERS, None)
    versions = {"recurrax": rx.__version__, "jax": jax.__version__, "optax": optax.__version__}
    facts = machine() | {"rounds": given.rounds, "versions": versions, "load": [load()]}
    facts["backend"] = f"{jax.default_backend()} ({jax.devices()[0].device_kind})"
    outcomes = []
    for case in QUICK if given.quick else CASES:
        print(case, file=sys.stderr)
        outcomes.append(measure(case, given.rounds))
    facts["load"].append(load())
    words = story(outcomes, facts)
    print(words)
    if any(outcome.wrong for outcome in outcomes):
        raise SystemExit("not all sides agree")
    if given.results:
        replace_between(RESULTS, MARKERS, printed("fit", words))


if __name__ == "__main__":
    main()
