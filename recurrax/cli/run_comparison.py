"""A comparison from the options to the files: what was asked for, the bar while one waits."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from recurrax import plot, tasks
from recurrax.cli.comparison_table import as_json, print_comparison, reading, sentence, spoken
from recurrax.cli.experiments import EXPERIMENTS
from recurrax.cli.flow import check_out
from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.option_types import key_of
from recurrax.cli.pictures import NO_PICTURE, attempt
from recurrax.cli.task_options import check_task_options
from recurrax.cli.terminal import console as terminal
from recurrax.cli.terminal import say
from recurrax.interop import disk
from recurrax.plot import over_seeds as seeds
from recurrax.plot.comparison import panels
from recurrax.train.compare import compare
from recurrax.train.optimizers import NAMES as OPTIMIZERS
from recurrax.train.optimizers import optimizer
from recurrax.words import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from recurrax.cli.compare import CompareOptions
    from recurrax.train.compare import Trial


def run(options: CompareOptions, defaults: Mapping[str, Any]) -> int:
    """Run the command; returns the exit code."""
    asked = settled(options, defaults)
    task = _task(asked, options.text)
    cells, cures = (_names(f"--{what}", asked[what]) for what in ("cells", "cures"))
    files = _files(options)
    with told(ValueError, TypeError), _shown(len(cells) * len(cures), asked["steps"], task) as show:
        found = compare(
            task,
            cells,
            cures,
            key=key_of(options.seed),
            steps=asked["steps"],
            seeds=options.seeds,
            batch_size=asked["batch"],
            hidden_size=asked["hidden"],
            learning_rate=_rates(asked["rate"]),
            optimizer=partial(optimizer, _known("optimizer", asked["optimizer"], OPTIMIZERS)),
            inner=asked["report_every"],
            tell=show.moved,
            done=show.done,
        )
    text = as_json(dataclasses.asdict(options) | asked, found)
    with told(OSError, prefix=f"--out {options.out}: "):
        files[1].write_text(text + "\n", encoding="utf-8")
    failed = attempt(files[0], lambda: plot.save(panels(found), files[0]))
    written = files if failed is None else files[1:]
    if options.json:
        print(text)
    else:
        name = options.experiment
        print_comparison(found, None if name is None else EXPERIMENTS[name].question, written)
    if failed is None:
        return 0
    say(failed)
    return NO_PICTURE


def settled(options: CompareOptions, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, else what the experiment says, else the defaults."""
    name = options.experiment
    ready = {} if name is None else EXPERIMENTS[_known("experiment", name, EXPERIMENTS)].options
    given = {field: getattr(options, field) for field in defaults}
    given = {field: value for field, value in given.items() if value is not None}
    return dict(defaults) | ready | given


# --- what was asked for -----------------------------------------------------------------------


def _task(asked: dict[str, Any], text: Path | None) -> tasks.Task:
    name, length = asked["task"], asked["length"]
    if name in tasks.NAMES:  # `get` names the nearest one otherwise
        check_task_options(name, length, text)
    given = {"T": length, "path": text}
    with told(ValueError, TypeError, OSError, ImportError):
        task = tasks.get(name, **{key: value for key, value in given.items() if value is not None})
        if task.split is not None:
            task.split()
    return task


def _names(flag: str, words: str) -> list[str]:
    names = [name.strip() for name in words.split(",")]
    if not all(names):
        raise Mistake(f"{flag} must be names with commas between them, got {words!r}")
    return names


def _rates(words: str) -> dict[str, float]:
    rates: dict[str, float] = {}
    for part in words.split(","):
        name, _, value = part.rpartition("=")
        name = name.strip() or "default"
        try:
            rate = float(value)
        except ValueError:
            raise Mistake(
                f"--rate must be a number, or names with numbers as in "
                f"0.005,irnn=0.001; got {words!r}"
            ) from None
        if name in rates:
            raise Mistake(f"--rate says twice what it is for {name}: {words}")
        rates[name] = rate
    return rates


def _known(option: str, name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise Mistake(f"--{option}: {unknown(option, name, known)}")
    return name


def _files(options: CompareOptions) -> list[Path]:
    """The picture and the numbers, which must not be there yet."""
    if not options.name or Path(options.name).name != options.name:
        raise Mistake(f"--name must be the name of a file without folders, got {options.name!r}")
    check_out(options.out)
    files = [options.out / f"{options.name}{ending}" for ending in (".png", ".json")]
    for file in files:
        if disk.there(file) and not file.is_file():
            raise Mistake(f"{file} is no file; give another --name or --out")
    there = [str(file) for file in files if file.exists()]
    if there and not options.force:
        raise Mistake(
            f"{' and '.join(there)} would be written over; give another --name or --out, or --force"
        )
    return files


# --- while one waits --------------------------------------------------------------------------


@contextmanager
def _shown(pairs: int, steps: int, task: tasks.Task) -> Iterator[_Show]:
    name, words = (
        TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[words]}")
    )
    columns, console = (name, BarColumn(), words), terminal(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        yield _Show(bar, bar.add_task("compiling", total=pairs * steps, words=""), steps, task)


class _Show:
    """A bar on a terminal, and a line on standard error for each pair that is done."""

    def __init__(self, bar: Progress, row: Any, steps: int, task: tasks.Task) -> None:
        self._bar, self._row, self._steps, self._task = bar, row, steps, task
        self._pairs = 0

    def moved(self, cell: str, cure: str, step: int, seen: dict[str, Any]) -> None:
        metric, relation, _ = self._task.goal
        value = np.median(seeds.ranked(seen[metric], ~np.isfinite(seen["loss"]), relation))
        self._bar.update(
            self._row,
            description=f"{cell}, {cure}",
            completed=self._pairs * self._steps + step,
            words=f"step {step}/{self._steps}  {spoken(metric)} {reading(value, '.4g')}",
        )

    def done(self, trial: Trial) -> None:
        self._pairs += 1
        self._bar.update(self._row, completed=self._pairs * self._steps)
        words = sentence(trial, self._task.goal)
        self._bar.console.print(words, soft_wrap=True)
