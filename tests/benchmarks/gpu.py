"""How fast is recurrax on an NVIDIA GPU, engine by engine, and beside flax and cuDNN?

    python -m tests.benchmarks.gpu [--out DIR] [--seconds 480] [--only lstm,bfloat16] [--results]

It needs a GPU that JAX sees, and says so where there is none; flax and torch are compared where
they are installed. First every engine is checked against a scan in float64, outputs and gradients;
then the forward pass and value and gradient of `sum(ys * w)` by the params are timed, for cells of
I = H over 1024 steps, the rows that decide most first. All sides of a row are compiled together,
which is not timed with them, and then take turns in one process, in rounds; each call waits for its
result. What is quoted is the median microseconds a step, and for the others the median over the
rounds of their time over that of recurrax's fastest engine in the same round.

float32 means float32, without tf32, for everyone. `+graphs` is the same program compiled with
`recurrax.unrolling.gpu_options()`; flax is run as its users run it, without them. A process of its
own computes and keeps a journal; if it dies or hangs, what it was doing is named as missing and
another one goes on, and what was not reached after `--seconds` is named as missing too. `--only`
takes names of cells, dtypes and sides. `gpu.json` and `gpu.md` are written into `--out`, and the
table into RESULTS.md by `--results`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .gpu_measure import Plan, serve
from .gpu_report import Report, results_text, story
from .gpu_sides import SIDES, Case
from .markers import RESULTS, markers, replace_between
from .peers import GATES
from .training import machine

MARKERS = markers("gpu")
DTYPES = ("bfloat16", "float32", "float16")
CELLS = ("lstm", "gru", "elman")
WRITING = 6.0  # seconds kept for the report
PATIENCE = 75.0  # seconds without a line in the journal before the process counts as hung
PROCESSES = 12
STRIKES = 2  # a side that ended the process so often is left out

# B, H of the timed rows, with the dtypes, in order: where the kernel can run, then the rest.
ROWS = (
    *(((16, 128), dtype) for dtype in DTYPES),
    *(((1, 128), dtype) for dtype in DTYPES),
    ((16, 64), "float32"),  # accurate float32 products of an LSTM fit the kernel up to here
    *((size, dtype) for size in ((16, 512), (64, 1024), (128, 2048)) for dtype in DTYPES[:2]),
    *((size, "float16") for size in ((16, 512), (64, 1024), (128, 2048))),
)
TIMED = tuple(Case(cell, dtype, 1024, *size) for size, dtype in ROWS for cell in CELLS)
# A whole tile of the kernel's, and one of which rows and columns stay empty.
CHECKED = tuple(
    Case(cell, dtype, *size)
    for dtype, sizes in (
        ("bfloat16", ((1024, 16, 128), (256, 3, 100))),
        ("float32", ((1024, 16, 64), (256, 3, 50))),
        ("float16", ((1024, 16, 128),)),
    )
    for size in sizes
    for cell in CELLS
)


def chosen(names: list[str]) -> tuple[tuple[Case, ...], tuple[Case, ...], tuple[str, ...]]:
    """Checks, rows and sides; a name leaves out the others of its kind."""

    def keep(kind: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in kind if name in names) or kind

    cells, dtypes, sides = keep(CELLS), keep(DTYPES), keep(tuple(SIDES))
    checks, rows = (
        tuple(c for c in cases if c.cell in cells and c.dtype in dtypes)
        for cases in (CHECKED, TIMED)
    )
    return checks, rows, sides


def read(path: Path) -> list[dict[str, Any]]:
    """The journal, without lines that were cut off."""
    entries: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries


def watched(plan: Plan, path: Path) -> str | None:
    """Run a process of a plan; None if it came to its end or to the deadline, else what befell."""
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(plan, path))
    process.start()
    size, since = -1, time.time()
    while process.is_alive():
        process.join(0.2)
        now = path.stat().st_size if path.exists() else 0
        if now != size:
            size, since = now, time.time()
        hung = time.time() - since > PATIENCE
        if hung or time.time() > plan.until:
            process.kill()
            process.join()
            return f"nothing came for {PATIENCE:.0f} s" if hung else None
    return f"the process ended with {process.exitcode}" if process.exitcode else None


def still_open(entries: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """What had begun and not ended: stage, case, side, what."""
    count: Counter[tuple[str, str, str, str]] = Counter()
    for e in entries:
        if e["kind"] in ("begin", "end"):
            about = (e["stage"], e["case"], e["side"], e["what"])
            count[about] += 1 if e["kind"] == "begin" else -1
    return [about for about, number in count.items() if number > 0]


def after(plan: Plan, entries: list[dict[str, Any]], since: int, trouble: str) -> Plan:
    """The plan of the next process: without what is done and what is to blame."""
    done = {(e["stage"], e["case"]) for e in entries if e["kind"] == "done"}
    latest = entries[since:]
    blamed = {about[:3] for about in still_open(latest)}
    doubtful = {e["case"] for e in latest if e["kind"] == "broken" and not e["side"]}
    if len(blamed) > 1:
        doubtful |= {case for _, case, _ in blamed}
    doubtful -= plan.careful  # one after another, it is known which one it was
    found = {
        (e["stage"], e["case"], e["side"]): e["reason"]
        for e in latest
        if e["kind"] == "missing" and e["case"] not in doubtful
    }
    ended = {about: trouble for about in blamed if about[1] not in doubtful}
    ended |= {
        (e["stage"], e["case"], e["side"]): trouble
        for e in latest
        if e["kind"] == "broken" and e["side"]
    }
    strikes = plan.strikes + tuple(side for _, _, side in ended)
    banned = {
        side: f"left out, as it ended the process {number} times; the last time {trouble}"
        for side, number in Counter(strikes).items()
        if number >= STRIKES and side not in (plan.banned or {})
    }
    return plan._replace(
        checks=tuple(c for c in plan.checks if ("check", str(c)) not in done),
        cases=tuple(c for c in plan.cases if ("time", str(c)) not in done),
        skipped=ended | found | (plan.skipped or {}),
        careful=plan.careful | doubtful,
        strikes=strikes,
        banned=(plan.banned or {}) | banned,
    )


def run(plan: Plan, path: Path) -> list[dict[str, Any]]:
    """Process after process, until all is done or the time is up."""
    for _ in range(PROCESSES):
        since = len(read(path))
        trouble = watched(plan, path)
        entries = read(path)
        if trouble is None:
            break
        print(trouble, file=sys.stderr)
        plan = after(plan, entries, since, trouble)
        if time.time() > plan.until or not (plan.checks or plan.cases):
            break
    return read(path)


def measure(plan: Plan, path: Path, allowed: float) -> Report:
    """Run a plan, and read what it found."""
    begin = time.time()
    facts = machine() | {"allowed": allowed, "rounds": plan.rounds}
    entries = run(plan, path)
    return Report.of(plan, entries, facts | {"took": round(time.time() - begin, 1)})


def main(arguments: list[str] | None = None, **trial: Any) -> None:
    """`trial`: fields of the plan, for a test at small sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="for gpu.json, gpu.md")
    parser.add_argument("--seconds", type=float, default=480.0, help="all in all")
    parser.add_argument("--only", default="", help="cells, dtypes and sides, with commas between")
    parser.add_argument("--results", action="store_true", help="write the table into RESULTS.md")
    given = parser.parse_args(arguments)
    names = [name for name in given.only.split(",") if name]
    if unknown := [name for name in names if name not in (*GATES, *DTYPES, *SIDES)]:
        parser.error(f"--only knows {', '.join((*GATES, *DTYPES, *SIDES))}, got {unknown[0]}")
    if given.results:
        replace_between(RESULTS, MARKERS, None)
    plan = Plan(*chosen(names), until=time.time() + given.seconds - WRITING)._replace(**trial)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(plan, Path(folder) / "journal.jsonl", given.seconds)
    on_gpu = report.facts.get("backend") == "gpu"
    if given.results and not on_gpu:
        raise SystemExit("no GPU, so RESULTS.md is as it was")
    if not on_gpu and not plan.anywhere:
        print("no GPU that JAX sees: nothing was measured")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "gpu.json").write_text(json.dumps(report.raw(), indent=1) + "\n", encoding="utf-8")
    (given.out / "gpu.md").write_text(story(report) + "\n", encoding="utf-8")
    print(story(report))
    if given.results:
        replace_between(RESULTS, MARKERS, results_text(report))


if __name__ == "__main__":
    main()
