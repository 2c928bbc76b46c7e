"""How fast is a training step of recurrax beside other libraries of recurrent networks?

    python -m tests.benchmarks.training

Every peer (`tests.benchmarks.peers`) lives in a process of its own, which is kept alive, and only
one of them computes at a time. A case is a cell and a shape T x B x I x H, in float32. First all
must compute the same numbers; then, in rounds, each peer is asked in turn for the forward pass
alone and for the value and gradient of `sum(ys * w)` by the params, w being fixed noise. What is
quoted is the median over the rounds of a peer's time over recurrax's in the same round, so above
1 recurrax is faster. Compilation is counted by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .markers import RESULTS, markers, replace_between
from .peers import GATES, OTHER_GRUS, PEERS, Case, Problem, cores, problem, reference

SHAPES = (
    (1000, 1, 64, 128),
    (100, 32, 64, 128),
    (1000, 16, 64, 64),
    (100, 64, 256, 256),
    (100, 128, 512, 512),
    (2000, 8, 32, 256),
)
OURS = "recurrax"
JAX_PEERS = [name for name in PEERS if name not in (OURS, "recurrax-scan", "torch")]
NAMES = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU"}
MARKERS = markers("training")

# ys is compared entry by entry with the equations in float64. Rounding in float32 stays near 1e-6
# at every length here, as none of the networks is chaotic; a wrong gate or bias shows at 1e-2.
# The value, a sum of terms of both signs, is compared relative to the norm of its terms; the
# gradient by the norm of d w_rec, which no layout changes, with recurrax's own.
RTOL, ATOL, GRADIENT_RTOL = 1e-4, 2e-5, 1e-2
BUSY = 0.5  # a load average of this for each core, before the start


@dataclasses.dataclass
class Result:
    """What is known of one peer in one case."""

    case: Case
    peer: str
    status: str  # agrees, other (agrees with its own equations), disagrees, missing, fails
    reason: str = ""
    compile: float | None = None  # seconds, value and gradient
    temp: int | None = None  # bytes, value and gradient
    temp_remat: int | None = None
    ys_error: float | None = None
    d_w_rec: float | None = None
    forward: list[float] = dataclasses.field(default_factory=list)  # seconds, by round
    gradient: list[float] = dataclasses.field(default_factory=list)


class Run(NamedTuple):
    results: list[Result]
    facts: dict[str, Any]  # versions, machine, date, load


class Summary(NamedTuple):
    """One cell over all its shapes; times are ratios to recurrax's, memory is recurrax's to
    flax.linen's, compile is recurrax's to the plain scan's."""

    gradient: list[float]  # of the best other JAX library, by shape
    forward: list[float]
    torch: list[float]
    memory: list[float]
    memory_remat: list[float]
    compile: list[float]


class Worker:
    """A peer's process."""

    def __init__(self, name: str) -> None:
        from .peers import serve  # by its own module's name, also when this one is __main__

        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(name, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *question: Any) -> tuple[str, Any]:
        """`("ok", value)`, or `("missing" or "fails", reason)`."""
        try:
            self.pipe.send(question)
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return "fails", f"its process ended with {self.process.exitcode}"

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(10)
        if self.process.is_alive():
            self.process.terminate()
        self.pipe.close()


def judge(result: Result, numbers: dict[str, Any], given: Problem, ys: np.ndarray) -> None:
    """Set the status: does the peer compute what it should?"""
    terms, other = ys * given.w, numbers["other"]
    result.status, result.reason = "agrees", ""
    if other:
        result.status, result.reason = "other", f"computes another GRU: {OTHER_GRUS[other]}"
    if numbers["ys"].shape != ys.shape:
        result.status, result.reason = "disagrees", f"ys is {numbers['ys'].shape}"
        return
    result.ys_error = float(np.abs(numbers["ys"] - ys).max())
    if not np.allclose(numbers["ys"], ys, RTOL, ATOL):
        result.status, result.reason = "disagrees", f"ys differs by {result.ys_error:.1e}"
    elif not abs(numbers["value"] - terms.sum()) <= RTOL * np.linalg.norm(terms):
        result.status, result.reason = "disagrees", "the value differs"


def judge_gradients(results: list[Result]) -> None:
    """Compare the norms of d w_rec of those who compute the same function."""
    ours = next(r for r in results if r.peer == OURS).d_w_rec
    for r in results:
        if r.status == "agrees" and not (
            ours and r.d_w_rec and math.isclose(r.d_w_rec, ours, rel_tol=GRADIENT_RTOL)
        ):
            r.status, r.reason = "disagrees", f"|d w_rec| is {r.d_w_rec}, recurrax's {ours}"


def prepare(workers: dict[str, Worker], case: Case) -> list[Result]:
    """Compile the case in each process, and compare the numbers."""
    given, expected, results = problem(case), {}, []
    for name, worker in workers.items():
        status, answer = worker.ask("prepare", case)
        result = Result(case, name, status)
        results.append(result)
        if status != "ok":
            result.reason = answer.strip()
            continue
        other = answer["other"]
        if other not in expected:
            expected[other] = reference(case, given, other)
        judge(result, answer, given, expected[other])
        for field in ("compile", "temp", "temp_remat", "d_w_rec"):
            setattr(result, field, answer.get(field))
    judge_gradients(results)
    return results


def measure(workers: dict[str, Worker], case: Case, rounds: int) -> list[Result]:
    """Prepare, then time all peers in turn; round 0, which wakes every process, does not count."""
    results = prepare(workers, case)
    for number in range(rounds + 1):
        first = number % len(results)  # another begins each round: nobody always follows the same
        for what in ("forward", "gradient"):
            for result in results[first:] + results[:first]:
                if result.status in ("missing", "fails"):
                    continue
                status, answer = workers[result.peer].ask("time", what)
                if status == "ok":
                    getattr(result, what).extend([answer] if number else [])
                else:
                    result.status, result.reason = status, answer.strip()
    return results


def run(cells: list[str], shapes: list[tuple[int, ...]], names: list[str], rounds: int) -> Run:
    """Measure every case."""
    facts: dict[str, Any] = machine() | {"rounds": rounds, "versions": {}, "load": [load()]}
    workers, absent, results = {}, [], []
    try:
        for name in [OURS, *(name for name in names if name != OURS)]:
            workers[name] = Worker(name)
            status, answer = workers[name].ask("start")
            if status == "ok":
                facts["backend"] = answer.pop("backend", facts.get("backend"))
                facts["versions"] |= answer
            elif name == OURS:
                raise SystemExit(f"recurrax {status}: {answer}")
            else:
                absent.append((name, status, answer))
                workers.pop(name).stop()
        for case in (Case(cell, *shape) for cell in cells for shape in shapes):
            print(f"{case.cell} {case.shape}", file=sys.stderr)
            results += measure(workers, case, rounds)
            results += [Result(case, *reason) for reason in absent]
    finally:
        for worker in workers.values():
            worker.stop()
    facts["load"].append(load())
    return Run(results, facts)


def load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def machine() -> dict[str, Any]:
    """Where and when."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": cores(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def find(results: list[Result], case: Case, peer: str) -> Result | None:
    return next((r for r in results if (r.case, r.peer) == (case, peer)), None)


def cases(results: list[Result], cell: str) -> list[Case]:
    return list(dict.fromkeys(r.case for r in results if r.case.cell == cell))


def ratio(results: list[Result], case: Case, peer: str, what: str) -> float | None:
    """The median over the rounds of the peer's time over recurrax's in the same round."""
    theirs, ours = find(results, case, peer), find(results, case, OURS)
    if theirs is None or ours is None:
        return None
    pairs = list(zip(getattr(theirs, what), getattr(ours, what), strict=False))
    return statistics.median(a / b for a, b in pairs) if pairs else None


def best(results: list[Result], case: Case, what: str) -> tuple[str, float] | None:
    """The fastest other JAX library; one that computes another GRU counts, a wrong one does not."""
    found = []
    for r in results:
        if r.case == case and r.peer in JAX_PEERS and r.status in ("agrees", "other"):
            found.append((r.peer, ratio(results, case, r.peer, what)))
    return min(((p, x) for p, x in found if x is not None), key=lambda px: px[1], default=None)


def geomean(values: list[float]) -> float:
    """The geometric mean; NaN of none."""
    return math.exp(statistics.fmean(map(math.log, values))) if values else float("nan")


def quotients(results: list[Result], cell: str, field: str, peer: str, theirs: str) -> list[float]:
    """Recurrax's field over a peer's, by shape, where both are known and above zero."""
    found = []
    for case in cases(results, cell):
        a, b = find(results, case, OURS), find(results, case, peer)
        top, bottom = getattr(a, field, None), getattr(b, theirs, None)
        if top and bottom:
            found.append(top / bottom)
    return found


def summary(results: list[Result], cell: str) -> Summary:
    """All figures of one cell."""
    these = cases(results, cell)

    def bests(what: str) -> list[float]:
        return [found[1] for case in these if (found := best(results, case, what))]

    torch = [ratio(results, case, "torch", "gradient") for case in these]
    return Summary(
        gradient=bests("gradient"),
        forward=bests("forward"),
        torch=[x for x in torch if x is not None],
        memory=quotients(results, cell, "temp", "flax.linen", "temp"),
        memory_remat=quotients(results, cell, "temp_remat", "flax.linen", "temp"),
        compile=quotients(results, cell, "compile", "recurrax-scan", "compile"),
    )


def markdown(rows: list[list[str]]) -> list[str]:
    """A table, its columns as wide as they must be; the first row is the head."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(s.ljust(w) for s, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def table(results: list[Result], cell: str, what: str) -> list[str]:
    """Ratios: rows are shapes, columns are peers."""
    marks = {"other": "*", "disagrees": "!"}
    order = {r.peer for r in results if r.case.cell == cell and getattr(r, what)}
    names = [name for name in PEERS if name in order and name != OURS]
    rows = [["T x B x I x H", f"{OURS}, ms", *names, "best JAX"]]
    for case in cases(results, cell):
        ours = find(results, case, OURS)
        seconds = getattr(ours, what) if ours else []
        row = [case.shape, f"{1000 * statistics.median(seconds):.3g}" if seconds else ""]
        for name in names:
            x, r = ratio(results, case, name, what), find(results, case, name)
            row.append("" if x is None or r is None else f"{x:.2f}{marks.get(r.status, '')}")
        found = best(results, case, what)
        rows.append([*row, f"{found[0]} {found[1]:.2f}" if found else ""])
    return markdown(rows)


def notes(results: list[Result]) -> list[str]:
    """Who is missing, computes something else, disagrees or fails, and why; never silently."""
    found: dict[tuple[str, ...], list[Case]] = {}
    for r in results:
        if r.status != "agrees":
            found.setdefault((r.peer, r.status, r.reason), []).append(r.case)
    lines = []
    for (peer, status, reason), where in found.items():
        cells = dict.fromkeys(case.cell for case in where)
        if status in ("disagrees", "fails"):
            places = ", ".join(f"{case.cell} {case.shape}" for case in where)
        else:
            places = ", ".join(cells)
        lines.append(f"{'* ' if status == 'other' else ''}{peer} ({places}) {status}: {reason}")
    return lines


def spread(values: list[float]) -> str:
    """The geometric mean and the range."""
    if not values:
        return "not measured"
    return f"{geomean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def where(facts: dict[str, Any]) -> list[str]:
    """Machine, versions, date."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    loads = " and ".join(f"{x:.1f}" for x in facts["load"])
    return [
        f"{facts['cpu']}, {facts['cores']} cores, {facts.get('backend')}, Python "
        f"{facts['python']}, {versions}",
        f"{facts['date']}, {facts['rounds']} rounds, load average {loads} at start and end",
    ]


def story(measured: Run) -> str:
    """What is printed."""
    results = measured.results
    lines = [*where(measured.facts), measured.facts["platform"], ""]
    lines += notes(results) or ["all peers are here, and agree"]
    if measured.facts["load"][0] > BUSY * measured.facts["cores"]:
        lines.append("the machine was busy; torch, whose threads wait for each other, suffers most")
    for cell in dict.fromkeys(r.case.cell for r in results):
        for what, name in (("gradient", "value and gradient"), ("forward", "forward alone")):
            lines += ["", f"{NAMES[cell]}, {name}: time over recurrax's", ""]
            lines += table(results, cell, what)
        s = summary(results, cell)
        remat = f"with remat = sqrt(T) {spread(s.memory_remat)}"
        lines += [
            "",
            "geometric means over the shapes, and ranges",
            f"  value and gradient, best other JAX library over recurrax: {spread(s.gradient)}",
            f"  value and gradient, torch over recurrax: {spread(s.torch)}",
            f"  forward, best other JAX library over recurrax: {spread(s.forward)}, "
            f"the smallest {min(s.forward, default=float('nan')):.2f}",
            f"  temporary memory, recurrax over flax.linen: {spread(s.memory)}, {remat}",
            f"  compile time, recurrax over recurrax-scan: {spread(s.compile)}",
        ]
    return "\n".join(lines)


def results_text(measured: Run) -> str:
    """What stands between the markers in RESULTS.md."""
    results, facts = measured.results, measured.facts
    found = list(dict.fromkeys(r.case.cell for r in results))
    cells = [cell for cell in ("lstm", "gru", "elman") if cell in found]
    head = ["", "value and gradient vs the best other JAX library", "vs torch"]
    head += ["forward vs best JAX", "peak temporary memory vs flax", "the same with `remat`"]
    rows = [[*head, "compile time vs plain scan"]]
    for cell in cells:
        s = summary(results, cell)
        figures = (s.gradient, s.torch, s.forward, s.memory, s.memory_remat, s.compile)
        rows.append([NAMES[cell], *map(spread, figures)])
    lines = [
        f"`python -m tests.benchmarks.training --results` wrote this on {facts['date']}: geometric "
        "means over the shapes, and ranges.",
        "Times are the other's over recurrax's, so above 1 recurrax is faster; memory and compile "
        "time are recurrax's over the other's, so below 1 is better.",
        "",
        *markdown(rows),
    ]
    if "lstm" in cells:
        lines += ["", "LSTM, value and gradient, by shape, time over recurrax's:", ""]
        lines += table(results, "lstm", "gradient")
    lines += ["", f"Measured on {'; '.join(where(facts))}; medians, all peers timed in turn."]
    for note in notes(results):  # a list in Markdown; the last line of a reason says it all
        lines.append(f"- {note.removeprefix('* ').splitlines()[-1]}")
    return "\n".join(lines)


def shape(text: str) -> tuple[int, ...]:
    """`100x32x64x128` as T, B, I, H."""
    sizes = tuple(int(size) for size in text.split("x"))
    if len(sizes) != 4 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not TxBxIxH, such as 100x32x64x128")
    return sizes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=list(GATES), default=list(GATES))
    parser.add_argument("--shapes", nargs="+", type=shape, default=SHAPES, metavar="TxBxIxH")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write all raw numbers to this file")
    parser.add_argument("--results", action="store_true", help="write the summary into RESULTS.md")
    given = parser.parse_args(arguments)
    if given.results:
        replace_between(RESULTS, MARKERS, None)
    measured = run(given.cells, given.shapes, given.peers, given.rounds)
    print(story(measured))
    if given.json:
        results = [{**vars(r), "case": r.case._asdict()} for r in measured.results]
        text = json.dumps({**measured.facts, "results": results}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")
    wrong = [r for r in measured.results if r.status in ("disagrees", "fails")]
    if wrong:
        raise SystemExit("not all peers agree" + (", RESULTS.md is as it was" * given.results))
    if given.results:
        replace_between(RESULTS, MARKERS, results_text(measured))


if __name__ == "__main__":
    main()
