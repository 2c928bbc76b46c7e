"""`recurrax compare`: cells with cures on one task, from the options to the files."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import tyro

from recurrax.cli import console
from recurrax.cli.compare.comparison_table import print_comparison, reading, sentence, summary
from recurrax.cli.options import TASKS, arg, check_folder, integer, key_of, task_of
from recurrax.interop import disk
from recurrax.plot import over_seeds as seeds
from recurrax.plot.axes import save
from recurrax.plot.comparison import panels
from recurrax.train.compare import compare
from recurrax.train.presets import ALIASES, CELLS, CURES, OPTIMIZERS, optimizer
from recurrax.words import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recurrax.tasks import Task
    from recurrax.train.compare import Comparison, Trial


class Experiment(NamedTuple):
    """A question, and the options of the command that ask it."""

    question: str
    words: str  # as they stand on a command line


EXPERIMENTS = {
    "adding": Experiment(
        "Which cells add two numbers that are up to 100 steps back?",
        "--task adding --length 100 --cells elman,elman-uniform,lstm,gru,irnn --cures clip "
        "--steps 10000 --rate 0.005,irnn=0.0003",
    ),
    "exploding": Experiment(
        "Does a network whose gradient explodes train without clipping, and with it?",
        "--task adding --length 20 --cells elman-exploding --cures none,clip --steps 60000 "
        "--optimizer sgd --rate 0.1 --report-every 1000",
    ),
    "clipping": Experiment(
        "Does clipping help a network whose gradient vanishes?",
        "--task adding --length 100 --cells elman,elman-uniform --cures none,clip --steps 10000 "
        "--rate 0.005",
    ),
    "copying": Experiment(
        "Which beginnings let an LSTM recall ten symbols after 200 steps?",
        "--task copying --length 200 --cells lstm,lstm-forget,lstm-chrono --cures clip "
        "--steps 5000 --hidden 64 --rate 0.01",
    ),
    "digits": Experiment(
        "Which cells tell handwritten digits that they read pixel by pixel?",
        "--task digits --cells elman,lstm,gru --cures clip --steps 2000 --batch 64 --hidden 64 "
        "--rate 0.005,elman=0.001",
    ),
}

# What is done where neither an option nor an experiment says otherwise.
DEFAULTS: dict[str, Any] = {
    "task": "adding",
    "length": None,
    "cells": "elman,lstm,gru",
    "cures": "none,clip",
    "steps": 2000,
    "batch": 32,
    "hidden": 32,
    "rate": "0.005",
    "optimizer": "adam",
    "report_every": 100,
}
_CELLS = ", ".join([*CELLS, *(f"{short} ({name})" for short, name in ALIASES.items())])


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Train cells with cures on one task, several seeds of each, and see who solves it.

    Prints a table, and writes comparison.png (learning curves, and the gradient flow before and
    after training) and comparison.json into --out.
    """

    experiment: Annotated[
        str | None,
        arg(
            "NAME",
            "none",
            "Options of a ready experiment, each of which another option changes: "
            f"{', '.join(EXPERIMENTS)}.",
        ),
    ] = None
    task: Annotated[str | None, arg("NAME", "adding", TASKS)] = None
    length: Annotated[int | None, arg("INT", "the task's own"), integer("--length")] = None
    """Time steps T of a sequence; of copying the lag."""
    text: Annotated[Path | None, arg("FILE", "none")] = None
    """For --task text: any file, of which the next byte is learnt."""
    cells: Annotated[str | None, arg("NAMES", DEFAULTS["cells"], f"Comma-separated: {_CELLS}.")] = (
        None
    )
    cures: Annotated[
        str | None, arg("NAMES", DEFAULTS["cures"], f"Comma-separated: {', '.join(CURES)}.")
    ] = None
    seeds: Annotated[int, integer("--seeds")] = 3
    """Networks trained of each pair of cell and cure, all in one program."""
    steps: Annotated[int | None, arg("INT", "2000"), integer("--steps")] = None
    """Training steps of each; fewer once all seeds of a pair have solved an endless task."""
    batch: Annotated[int | None, arg("INT", "32"), integer("--batch")] = None
    """Sequences B in one training step."""
    hidden: Annotated[int | None, arg("INT", "32"), integer("--hidden")] = None
    """Hidden units H."""
    rate: Annotated[str | None, arg("FLOATS", "0.005")] = None
    """Learning rate: of all, and of some by name, as in 0.005,irnn=0.001,lstm/clip=0.01."""
    optimizer: Annotated[str | None, arg("NAME", "adam", f"One of {', '.join(OPTIMIZERS)}.")] = None
    report_every: Annotated[int | None, arg("INT", "100"), integer("--report-every")] = None
    """Training steps between two points of a learning curve."""
    seed: Annotated[int, integer("--seed")] = 0
    """Seed of all that is random."""
    name: str = "comparison"
    """Name of the two files, without an ending."""
    force: bool = False
    """Write over the files of a comparison before."""
    out: Annotated[Path, arg("DIR", "this folder")] = Path()
    """Folder for the picture and the numbers; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and no table; what is not finite is the string "inf", "-inf" or "nan"."""  # noqa: E501

    def run(self) -> int:
        """Run the command; return the exit code."""
        asked = self.settled()
        task = task_of(asked["task"], asked["length"], self.text)
        with console.as_mistakes(ValueError, TypeError, OSError, ImportError):
            if task.split is not None:
                task.split()
        cells, cures = (_names(f"--{what}", asked[what]) for what in ("cells", "cures"))
        picture, numbers = _files(self)
        found = _compared(self, asked, task, cells, cures)
        content = found._asdict()
        content["trials"] = [
            trial._asdict() | {"summary": summary(trial, found.goal)} for trial in found.trials
        ]
        text = console.document(dataclasses.asdict(self) | asked, **content)
        question = None if self.experiment is None else EXPERIMENTS[self.experiment].question
        show = None if self.json else partial(print_comparison, found, question)
        return console.deliver(text, numbers, picture, lambda: save(panels(found), picture), show)

    def settled(self) -> dict[str, Any]:
        """Return what was asked for, else what the experiment says, else the defaults."""
        sources = [self]
        if self.experiment is not None:
            words = EXPERIMENTS[_known("experiment", self.experiment, EXPERIMENTS)].words
            sources.insert(0, tyro.cli(CompareOptions, args=words.split()))
        asked = dict(DEFAULTS)
        for source in sources:
            given = {name: getattr(source, name) for name in DEFAULTS}
            asked |= {name: value for name, value in given.items() if value is not None}
        return asked


def _compared(
    options: CompareOptions,
    asked: dict[str, Any],
    task: Task,
    cells: list[str],
    cures: list[str],
) -> Comparison:
    """Train all pairs; show a bar meanwhile, and a line on standard error for each that is done."""
    metric, relation, _ = task.goal
    steps, pairs = asked["steps"], 0

    with console.progress("compiling", len(cells) * len(cures) * steps) as update:

        def tell(cell: str, cure: str, step: int, seen: dict[str, Any]) -> None:
            value = np.median(seeds.ranked(seen[metric], ~np.isfinite(seen["loss"]), relation))
            update(
                description=f"{cell}, {cure}",
                completed=pairs * steps + step,
                words=f"step {step}/{steps}  {console.spoken(metric)} {reading(value, '.4g')}",
            )

        def done(trial: Trial) -> None:
            nonlocal pairs
            pairs += 1
            update(completed=pairs * steps)
            print(sentence(trial, task.goal), file=sys.stderr)  # which a bar puts above itself

        with console.as_mistakes(ValueError, TypeError):
            return compare(
                task,
                cells,
                cures,
                key=key_of(options.seed),
                steps=steps,
                seeds=options.seeds,
                batch_size=asked["batch"],
                hidden_size=asked["hidden"],
                learning_rate=_rates(asked["rate"]),
                optimizer=partial(optimizer, _known("optimizer", asked["optimizer"], OPTIMIZERS)),
                report_every=asked["report_every"],
                tell=tell,
                done=done,
            )


def _known(option: str, name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise console.Mistake(f"--{option}: {unknown(option, name, known)}")
    return name


def _names(flag: str, words: str) -> list[str]:
    names = [name.strip() for name in words.split(",")]
    if not all(names):
        raise console.Mistake(f"{flag} must be names with commas between them, got {words!r}")
    return names


def _rates(words: str) -> dict[str, float]:
    """Return the learning rates by name, that of all others as `default`."""
    rates: dict[str, float] = {}
    for part in words.split(","):
        name, _, value = part.rpartition("=")
        name = name.strip() or "default"
        try:
            rate = float(value)
        except ValueError:
            raise console.Mistake(
                f"--rate must be a number, or names with numbers as in "
                f"0.005,irnn=0.001; got {words!r}"
            ) from None
        if name in rates:
            raise console.Mistake(f"--rate says twice what it is for {name}: {words}")
        rates[name] = rate
    return rates


def _files(options: CompareOptions) -> tuple[Path, Path]:
    """Return the picture and the numbers, which must not be there yet."""
    if not options.name or Path(options.name).name != options.name:
        raise console.Mistake(
            f"--name must be the name of a file without folders, got {options.name!r}"
        )
    check_folder(options.out)
    picture, numbers = (options.out / f"{options.name}{ending}" for ending in (".png", ".json"))
    for file in (picture, numbers):
        if disk.there(file) and not file.is_file():
            raise console.Mistake(f"{file} is no file; give another --name or --out")
    there = [str(file) for file in (picture, numbers) if file.exists()]
    if there and not options.force:
        raise console.Mistake(
            f"{' and '.join(there)} would be written over; give another --name or --out, or --force"
        )
    return picture, numbers
