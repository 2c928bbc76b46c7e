"""The process of `tests.benchmarks.gpu` that computes, and the journal in which it writes.

A journal has a line of JSON for everything that is begun, ends, is found or is missing, so that
what was measured is known even if this process is killed, and so is what it was doing then.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np

    from .gpu_sides import Case, Ready

LIBRARIES = ("recurrax", "jax", "jaxlib", "flax", "torch", "triton", "numpy")
SAFETY = 1.0  # seconds before the deadline in which nothing new is begun


class Plan(NamedTuple):
    """What one process is to do."""

    checks: tuple[Case, ...]
    cases: tuple[Case, ...]
    sides: tuple[str, ...]
    until: float  # by time.time
    rounds: int = 5
    seconds: float = 0.02  # about what one measurement takes, if one call does not take longer
    threads: int = 14  # that compile
    anywhere: bool = False  # also where there is no GPU
    skipped: dict[tuple[str, str, str], str] | None = None  # stage, case, side: why
    banned: dict[str, str] | None = None  # side: why
    strikes: tuple[str, ...] = ()  # sides, as often as they ended the process
    careful: frozenset[str] = frozenset()  # cases whose sides are compiled one after another

    def reason(self, stage: str, case: Case, side: str) -> str | None:
        """Why a side must not be tried."""
        return (self.banned or {}).get(side) or (self.skipped or {}).get((stage, str(case), side))

    @property
    def late(self) -> bool:
        return time.time() > self.until - SAFETY


class Broken(Exception):
    """The device answers no more in this process."""


class Journal:
    """Lines of JSON; each is in the file before the next thing is done."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, threading.Lock()
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")  # ends what a killed process left

    def write(self, kind: str, **found: Any) -> None:
        with self.lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **found}) + "\n")

    @contextlib.contextmanager
    def doing(self, stage: str, case: Case, side: str, what: str) -> Iterator[None]:
        """What the process is at; an error is written down, and goes no further."""
        about = {"stage": stage, "case": str(case), "side": side, "what": what}
        self.write("begin", **about)
        try:
            yield
        except Exception as error:  # whatever a peer, a compiler or a device may raise
            self.write("missing", **about, reason=first_line(error))
        self.write("end", **about)


def first_line(error: Exception) -> str:
    """Of its message, with its name where that says more."""
    lines = str(error).strip().splitlines()
    text = lines[0][:300] if lines else ""
    expected = type(error).__name__ in ("Missing", "ModuleNotFoundError", "ValueError")
    return text if expected and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def serve(plan: Plan, path: Path) -> None:
    """Check the engines, then time all sides, until all is done or it is late."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the GPU is torch's as well
    import jax

    journal = Journal(path)
    device = jax.devices()[0]
    journal.write("facts", backend=device.platform, device=device.device_kind, versions=_versions())
    if device.platform != "gpu" and not plan.anywhere:
        return
    for stage, cases, measure in (("check", plan.checks, check), ("time", plan.cases, timings)):
        for case in cases:
            if plan.late:
                return
            try:
                measure(plan, journal, case)
            except Broken:
                raise
            except Exception as error:  # the problem itself, which may not fit
                for side in plan.sides:
                    about = {"stage": stage, "case": str(case), "side": side, "what": ""}
                    journal.write("missing", **about, reason=first_line(error))
            journal.write("done", stage=stage, case=str(case))
            if device.platform == "gpu":
                jax.clear_caches()  # programs and their CUDA graphs hold its memory


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _see_that_it_lives(journal: Journal, stage: str, case: Case, side: str = "") -> None:
    """After an illegal access no call on a CUDA device succeeds any more in this process."""
    import jax.numpy as jnp

    try:
        (jnp.ones(8) + 1).block_until_ready()
    except Exception as error:
        journal.write("broken", stage=stage, case=str(case), side=side)
        raise Broken(first_line(error)) from error


def _allowed(plan: Plan, journal: Journal, stage: str, case: Case, sides: Any) -> list[str]:
    """The sides that may be tried; of the others, why not."""
    for side in sides:
        if (why := plan.reason(stage, case, side)) is not None:
            journal.write("missing", stage=stage, case=str(case), side=side, what="", reason=why)
    return [side for side in sides if plan.reason(stage, case, side) is None]


def _together(
    plan: Plan, journal: Journal, stage: str, case: Case, tasks: list[Callable[[], None]]
) -> None:
    """Compile on many cores."""
    with ThreadPoolExecutor(1 if str(case) in plan.careful else plan.threads) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()
    _see_that_it_lives(journal, stage, case)


def check(plan: Plan, journal: Journal, case: Case) -> None:
    """Errors of every engine, outputs and gradients, against the scan in float64."""
    from .gpu_sides import ENGINES, outputs_and_gradients, problem

    found, given = {}, problem(case)

    def one(side: str, engine: str, dtype: str) -> None:
        with journal.doing("check", case, side, "both"):
            found[side] = outputs_and_gradients(case, given, engine, dtype)

    engines = _allowed(plan, journal, "check", case, [s for s in ENGINES if s in plan.sides])
    tasks = [partial(one, "float64", "scan", "float64")]
    tasks += [partial(one, side, side, case.dtype) for side in engines]
    _together(plan, journal, "check", case, tasks)
    if "float64" not in found:
        return
    truth = found.pop("float64")
    for side, arrays in found.items():
        errors = [relative(a, b) for a, b in zip(arrays, truth, strict=True)]
        about = {"case": str(case), "side": side}
        journal.write("error", **about, ys=errors[0], gradients=max(errors[1:]))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """`||a - b|| / ||b||`."""
    import numpy as np

    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def timings(plan: Plan, journal: Journal, case: Case) -> None:
    """Compile all sides, see how far their outputs agree, and time them in turn."""
    from .gpu_sides import SIDES, WHATS, problem

    given, ready, seconds = problem(case), {}, {}

    def build(side: str, what: str) -> None:
        with journal.doing("time", case, side, what):
            begin = time.perf_counter()
            ready[side, what] = SIDES[side](case, given, what)
            seconds[side, what] = time.perf_counter() - begin

    sides = _allowed(plan, journal, "time", case, plan.sides)
    tasks = [partial(build, side, what) for what in WHATS for side in sides]
    _together(plan, journal, "time", case, tasks)
    pairs = [pair for side in sides for what in WHATS if (pair := (side, what)) in ready]
    loops = _first_calls(plan, journal, case, ready, pairs)
    found: dict[tuple[str, str], list[float]] = {pair: [] for pair in loops}
    for number in range(plan.rounds):
        start = number % max(1, len(loops))  # another begins each round
        for pair in [*list(loops)[start:], *list(loops)[:start]]:
            if plan.late:
                break
            with journal.doing("time", case, *pair):
                found[pair].append(_mean(ready[pair].call, loops[pair]))
            if len(found[pair]) <= number:
                _see_that_it_lives(journal, "time", case, pair[0])
    for (side, what), values in found.items():
        about = {"case": str(case), "side": side, "what": what, "compile": seconds[side, what]}
        journal.write("seconds", **about, loops=loops[side, what], seconds=values)


def _first_calls(
    plan: Plan, journal: Journal, case: Case, ready: dict[Any, Ready], pairs: list[Any]
) -> dict[Any, int]:
    """Wake every side; how many calls make a measurement, and how its outputs differ."""
    loops, tails = {}, {}
    for pair in pairs:
        if plan.late:
            break
        with journal.doing("time", case, *pair):
            result = ready[pair].call()
            if pair[1] == "forward":
                tails[pair[0]] = ready[pair].tail(result)
            del result
            loops[pair] = max(1, round(plan.seconds / max(_mean(ready[pair].call, 1), 1e-9)))
        if pair not in loops:
            _see_that_it_lives(journal, "time", case, pair[0])
    for side, tail in tails.items():
        if "scan" in tails:
            difference = relative(tail, tails["scan"])
            journal.write("difference", case=str(case), side=side, ys=difference)
    return loops


def _mean(call: Callable[[], Any], times: int) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begin) / times
