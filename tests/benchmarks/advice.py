"""Does what `rx.advise` puts first learn more than the cell as it was given?

    python -m tests.benchmarks.advice [--only elman-adding lstm-copying] [--results]

Adding and copying at T = 200, an Elman network and an LSTM of 64 units, five seeds: the starts are
ranked, then the default and the best three are trained, all on the same batches with Adam and
behind the same clip. Asked is that in four of five seeds the first choice solves the task, or comes
nearer to it than the default does with the same seed. Where the default is the first choice itself,
a seed counts if it solves. The settings are those that `advise` has by itself, but for the seeds
and for 1,000 steps more, and were set before anything was trained.

It takes an hour or two of one core. `--out DIR` keeps the numbers of each case there, what is
trained already included; `--read DIR` reads what lies there, and runs nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import recurrax as rx
from recurrax.advice.prove import solved
from recurrax.cli.console import document
from recurrax.plot import over_seeds

from .experiments import short
from .markers import asked, deliver, markers
from .training import markdown

T, HIDDEN, SEEDS, STEPS, BATCH, RATE = 200, 64, 5, 3000, 32, 0.005
BEST, ASKED = 3, 4
MARKERS = markers("advice")
TASKS = {"adding": rx.tasks.adding(T), "copying": rx.tasks.copying(T)}
CELLS = {"elman": rx.cells.elman, "lstm": rx.cells.lstm}
CASES = {f"{cell}-{task}": (cell, task) for cell in CELLS for task in TASKS}


# --- measuring ------------------------------------------------------------------------------------


def run(name: str, file: Path, steps: int) -> None:
    """Advise on one case, and write the file anew after each option that was trained."""
    cell, task = CELLS[CASES[name][0]], TASKS[CASES[name][1]]
    key = jax.random.key(0)
    found = rx.advise(cell(task.input_size, HIDDEN), task, key=key, seeds=SEEDS)
    rows = [row(option) for option in found.options]
    case = {
        **{"cell": CASES[name][0], "task": CASES[name][1], "length": task.length},
        **{"goal": task.goal, "baseline": dict(task.baseline), "wanted": found.wanted},
        **{"clip": found.clip, "verdict": found.verdict, "skipped": found.skipped},
    }
    write = partial(save, file, case | {"starts": rows}, steps)
    write()
    print(f"{name}: {found.verdict}", flush=True)
    names = [option.candidate.name for option in found.options]
    for chosen in dict.fromkeys(["default", *names[:BEST]]):
        option = found.options[names.index(chosen)]
        trial = trained(option, found.clip, task, key, steps)
        rows[names.index(chosen)]["trial"] = trial
        write()
        print(f"{name}, {chosen}: {trial['metric']} {trial['final']}", flush=True)


def row(option: Any) -> dict[str, Any]:
    """The numbers of an option's start."""
    start = {name: np.asarray(values).tolist() for name, values in option.start._asdict().items()}
    kept = {"name": option.candidate.name, "words": option.candidate.words}
    return kept | {"start": start, "distance": option.distance, "trial": None}


def trained(option: Any, clip: float, task: Any, key: Any, steps: int) -> dict[str, Any]:
    """Train one option as `advise(prove=True)` does, so that each is kept once it is trained."""
    candidate = option.candidate
    cure = dataclasses.replace(candidate.cure, optimizer=rx.cures.clip_by_global_norm(clip))
    (trial,) = rx.train.compare(
        task,
        {candidate.name: candidate.cell},
        {"clip": cure},
        key=key,
        steps=steps,
        seeds=SEEDS,
        batch_size=BATCH,
        learning_rate=RATE,
    ).trials
    metric, relation, _ = task.goal
    return {
        "metric": metric,
        "final": over_seeds.final(trial, metric, relation),
        "loss": over_seeds.final(trial, "loss", "<"),
        "solved": solved(trial),
        "diverged": trial.diverged,
        "steps": int(trial.step[-1]),
        "seconds": trial.seconds,
    }


def save(file: Path, case: dict[str, Any], steps: int) -> None:
    settings = {"T": T, "hidden": HIDDEN, "seeds": SEEDS, "steps": steps, "batch": BATCH}
    text = document(settings | {"rate": RATE}, **case)
    file.write_text(text + "\n", encoding="utf-8")


# --- reporting ------------------------------------------------------------------------------------


def won(first: dict[str, Any], default: dict[str, Any], relation: str, same: bool) -> list[bool]:
    """In which seeds the first choice solves the task, or comes nearer than the default does."""
    pairs = zip(first["solved"], numbers(first["final"]), numbers(default["final"]), strict=True)
    below = relation.startswith("<")
    return [
        done or (not same and bool(one < other if below else one > other))
        for done, one, other in pairs
    ]


def numbers(values: Any) -> np.ndarray:
    """What JSON holds, of which what is not finite is a string."""
    return np.asarray([float(value) for value in values])


def line(case: dict[str, Any], option: dict[str, Any]) -> list[str]:
    """A row of the table."""
    start, trial = option["start"], option["trial"]
    horizon, rate, spread, gradient = (
        float(np.median(numbers(start[name])))
        for name in ("horizon", "rate", "spread", "gradient_norm")
    )
    made = [f"{case['cell']}, {case['task']}", option["name"], short(horizon, "no end")]
    made += [f"{rate:+.4f}", f"{spread:.2f}", short(gradient), short(option["distance"], "inf")]
    if trial is None:
        return [*made, "", "", ""]
    final = numbers(trial["final"])
    low, high = short(final.min()), short(final.max())
    middle = f"{trial['metric']} {short(np.median(final))} ({low} to {high})"
    done = f"{sum(trial['solved'])} of {len(final)} by {trial['steps']}"
    return [*made, done, middle, short(median(trial["loss"]))]


def median(values: Any) -> float:
    return float(np.median(numbers(values)))


def outcome(case: dict[str, Any]) -> str:
    """In how many seeds the first choice won, and whether that is what was asked."""
    first = case["starts"][0]
    default = next(option for option in case["starts"] if option["name"] == "default")
    metric, relation, goal = case["goal"]
    guess = case["baseline"][metric]
    head = (
        f"- {case['cell']}, {case['task']}, T = {case['length']}, solved at {metric} {relation} "
        f"{goal:g} (a guess without memory {guess:.4g}): "
    )
    if first["trial"] is None or default["trial"] is None:
        return f"{head}{first['name']} is put first; it and the default were not both trained"
    same = first is default
    count = sum(won(first["trial"], default["trial"], relation, same))
    done = sum(first["trial"]["solved"])
    verdict = "" if count >= ASKED else f", fewer than the {ASKED} that are asked"
    words = "it is the default itself, and" if same else "it"
    return (
        f"{head}{first['name']} is put first; {words} solves, or comes nearer than the default, in "
        f"{count} of {len(first['trial']['solved'])} seeds; it solves {done}, "
        f"the default {sum(default['trial']['solved'])}{verdict}"
    )


def text(cases: list[dict[str, Any]], when: str) -> str:
    """What stands between the markers."""
    heading = ["cell, task", "start", "horizon", "rate", "spread", "gradient norm", "distance"]
    heading += ["solved by step", "metric at the end, median (range)", "loss"]
    rows = [line(case, option) for case in cases for option in case["starts"]]
    done = [f"{case['cell']}-{case['task']}" for case in cases]
    asked = cases[0]["options"]
    settings = (
        f"H = {asked['hidden']}, {asked['seeds']} seeds, {asked['steps']} steps of Adam of "
        f"{asked['rate']}, B = {asked['batch']}. Of a start, medians over the seeds: the horizon "
        "in steps, the rate in nats a step, the spread in nats, the norm of the loss's gradient; "
        "the distance is what they are ranked by. Training ends once all seeds have "
        "solved the task. What has no outcome was not trained"
    )
    return "\n".join(
        [
            f"`python -m tests.benchmarks.advice --results` wrote this on {when}, recurrax "
            f"{cases[0]['recurrax']}, jax {cases[0]['jax']}: {settings}.",
            "",
            *(outcome(case) for case in cases),
            *(f"- {name}: was not run" for name in CASES if name not in done),
            "",
            *markdown([heading, *rows]),
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    import datetime

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps of each")
    parser.add_argument("--out", type=Path, help="keep the numbers in this folder")
    parser.add_argument("--read", type=Path, help="read what --out kept, and run nothing")
    given = asked(parser, MARKERS, arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.read or given.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / f"{name}.json" for name in given.only}
        for name, path in () if given.read else paths.items():
            run(name, path, given.steps)
        there = [path for path in paths.values() if path.exists()]
        cases = [json.loads(path.read_text(encoding="utf-8")) for path in there]
        newest = max(path.stat().st_mtime for path in there)
    deliver(given, MARKERS, text(cases, datetime.date.fromtimestamp(newest).isoformat()))


if __name__ == "__main__":
    main()
