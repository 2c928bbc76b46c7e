"""How fast does truncated backpropagation train, how much memory does it take, what does it learn?

    python -m tests.benchmarks.truncate

Each way is a call of `rx.train.fit` in a process of its own, and the ways take turns: steps a
second without compilation but with all that `truncate="auto"` measures on the way; what the
compiled gradient of one step takes beyond its arguments; and by how much the process grew. A task
with a loss at every step (say again what came ten steps ago) and one with a loss at the end
(adding). What truncation does to learning is seen in the loss of the same runs, and in shorter
sequences that can be learned.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import recurrax as rx
from recurrax.tasks.task import Sampler
from recurrax.train.loop import Carry, Program
from recurrax.train.networks.objective import Objective
from recurrax.train.source import ONE_DEVICE, task_source
from recurrax.train.truncation import chunk_length

from .comparing import ratios
from .markers import RESULTS, markers, printed, replace_between
from .training import load, machine, markdown, where

if TYPE_CHECKING:
    import chex

MARKERS = markers("truncate")
KEY = jax.random.key(0)
REMAT, AUTO = "full, remat=100", 'truncate="auto"'
DELAY = 10


class Case(NamedTuple):
    task: str
    T: int
    B: int
    H: int
    steps: int
    chunks: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.task}, GRU, T={self.T} B={self.B} H={self.H}, {self.steps} steps"


LONG = (Case("echo", 10_000, 4, 64, 30, (64, 512)), Case("adding", 10_000, 4, 64, 30, (64, 512)))
SHORT = (Case("echo", 100, 16, 32, 500, (8, 32)), Case("adding", 60, 32, 32, 2000, (8, 32)))
QUICK = (Case("echo", 30, 2, 4, 6, (8, 32)),)


def ways(case: Case) -> dict[str, dict[str, Any]]:
    """What `fit` is given, and the network's `remat`."""
    chunks = {f"truncate={k}": {"truncate": k} for k in case.chunks}
    return {"full": {}, REMAT: {"remat": 100}, **chunks, AUTO: {"truncate": "auto"}}


@dataclasses.dataclass(frozen=True)
class Echo(Sampler):
    """Normal numbers, to be said again some steps later, at every step."""

    length: int

    def sample(self, key: chex.PRNGKey, batch: int) -> rx.tasks.Batch:
        xs = jax.random.normal(key, (self.length, batch, 1))
        targets = jnp.pad(xs, ((DELAY, 0), (0, 0), (0, 0)))[: self.length]
        return rx.tasks.Batch(xs, targets, jnp.ones(xs.shape[:2]).at[:DELAY].set(0))


def task_of(case: Case) -> rx.tasks.Task:
    task = rx.tasks.adding(case.T)
    if case.task == "adding":
        return task
    baseline = (("loss", 1.0), ("mse", 1.0))
    return dataclasses.replace(
        task, name="echo", input_size=1, baseline=baseline, sample=Echo(case.T)
    )


# --- one way, in a process of its own -------------------------------------------------------------


def one(case: Case, way: str) -> dict[str, Any]:
    """What was measured of one way, as JSON can hold it."""
    options = ways(case)[way]
    task, remat = task_of(case), options.pop("remat", None)
    net = rx.train.network(rx.cells.gru(task.input_size, case.H), task.output_size, remat=remat)
    optimizer = optax.chain(rx.cures.clip_by_global_norm(1.0), optax.adam(3e-3))
    options |= {"batch_size": case.B, "stop_when_solved": False, "progress": False}
    options |= {"report_every": max(1, case.steps // 4), "key": KEY}
    before, clock = most_memory(), time.perf_counter()
    rx.train.fit(net, task, optimizer, steps=1, **options)
    first, clock = time.perf_counter() - clock, time.perf_counter()
    found = rx.train.fit(net, task, optimizer, steps=case.steps, **options)
    seconds, grown = time.perf_counter() - clock, most_memory() - before
    chunks = sorted({int(k) for k in found.history.get("truncate", [])})
    return {
        "seconds": seconds / case.steps,
        "compile": first - seconds / case.steps,
        "grown": grown,
        "loss": float(found.history["loss"][-1]),
        "chunks": chunks,
        "gradient": gradient_memory(net, task, case.B, chunks[-1] if chunks else None),
        "measuring": measuring_memory(net, task, case.B) if way == AUTO else 0.0,
    }


def most_memory() -> float:
    """The most that this process ever held, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def gradient_memory(net: Any, task: rx.tasks.Task, size: int, truncate: int | None) -> float:
    """What the compiled gradient of a step takes beyond its arguments, in MB."""
    objective = Objective(net, task.loss, truncate=truncate)
    given = jax.eval_shape(lambda: (net.init(KEY), task.draw(KEY, size)))
    gradient = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    return temporary(gradient.lower(*given))


def measuring_memory(net: Any, task: rx.tasks.Task, size: int) -> float:
    """What the compiled measurement of the lag profile takes, in MB."""
    source = task_source(task, size, ONE_DEVICE)
    program = Program(Objective(net, task.loss), source.draw, None)
    carry = Carry(net.init(KEY), None, KEY, jnp.int32(0))
    return temporary(chunk_length._needed.lower(program, carry, None))


def temporary(lowered: Any) -> float:
    return float(lowered.compile().memory_analysis().temp_size_in_bytes / 2**20)


# --- all of them ----------------------------------------------------------------------------------


def measured(case: Case, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Each way in each round, in processes that take turns."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways(case)}
    for number in range(rounds):
        names = list(found)
        start = number % len(names)  # another begins each round
        for way in names[start:] + names[:start]:
            command = [sys.executable, "-m", "tests.benchmarks.truncate", "--one", way]
            answer = subprocess.run(
                [*command, json.dumps(case)], check=True, stdout=subprocess.PIPE, text=True
            )
            found[way].append(json.loads(answer.stdout.splitlines()[-1]))
    return found


def table(case: Case, found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A row for each way: medians over rounds; speed beside that of the round's remat."""
    head = ["way", "k", "steps a second", "over remat", "range", "gradient", "process", "loss"]
    rows = [head]
    remat = [answer["seconds"] for answer in found[REMAT]]
    for way, answers in found.items():
        seconds = [answer["seconds"] for answer in answers]
        faster = ratios(remat, seconds)
        last = answers[-1]
        memory = f"{last['gradient']:.1f} MB"
        if last["measuring"]:
            memory += f" ({last['measuring']:.0f} MB to measure)"
        rows.append(
            [
                way,
                ", ".join(map(str, last["chunks"])),
                f"{1 / statistics.median(seconds):.3g}",
                f"{statistics.median(faster):.2f}",
                f"{min(faster):.2f} to {max(faster):.2f}",
                memory,
                f"{statistics.median(a['grown'] for a in answers):.0f} MB",
                f"{last['loss']:.4f}",
            ]
        )
    return [str(case), "", *markdown(rows)]


def story(tables: list[list[str]], facts: dict[str, Any]) -> str:
    """What is printed."""
    lines = [*where(facts), facts["platform"], ""]
    lines += [
        "over remat: speed over that of full, remat=100; gradient: what the compiled gradient of a",
        "step takes beyond its arguments; process: by how much it grew, compiler and all.",
    ]
    lines += ["A guess without memory has loss 1 (echo) and 0.1667 (adding).", ""]
    return "\n".join([*lines, *("\n".join([*rows, ""]) for rows in tables)]).rstrip()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--results", action="store_true", help=f"write it into {RESULTS.name}")
    parser.add_argument("--one", help="one way, in this process")
    parser.add_argument("case", nargs="?", help="of --one, as JSON")
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(one(Case(*json.loads(given.case)), given.one)))
        return
    if given.results:
        replace_between(RESULTS, MARKERS, None)
    versions = {"recurrax": rx.__version__, "jax": jax.__version__, "optax": optax.__version__}
    facts = machine() | {"rounds": given.rounds, "versions": versions, "load": [load()]}
    facts["backend"] = f"{jax.default_backend()} ({jax.devices()[0].device_kind})"
    tables = []
    for case in QUICK if given.quick else (*LONG, *SHORT):
        print(case, file=sys.stderr)
        tables.append(table(case, measured(case, 1 if case in SHORT else given.rounds)))
    facts["load"].append(load())
    words = story(tables, facts)
    print(words)
    if given.results:
        replace_between(RESULTS, MARKERS, printed("truncate", words))


if __name__ == "__main__":
    main()
