"""A comparison from the options to the files."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from recurrax import tasks
from recurrax.cli.compare.compare_options import DEFAULTS, EXPERIMENTS, CompareOptions
from recurrax.cli.compare.comparison_table import (
    print_comparison,
    reading,
    sentence,
    summary,
)
from recurrax.cli.console import (
    NO_PICTURE,
    Mistake,
    as_mistakes,
    picture_failures,
    print_written,
    progress,
    say,
    spoken,
)
from recurrax.cli.options import check_folder, check_task_options, key_of
from recurrax.cli.to_json import document
from recurrax.interop import disk
from recurrax.plot import over_seeds as seeds
from recurrax.plot.axes import save
from recurrax.plot.comparison import panels
from recurrax.train.compare import compare
from recurrax.train.presets import OPTIMIZERS, optimizer
from recurrax.words import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recurrax.train.compare import Comparison, Trial


def run_comparison(options: CompareOptions) -> int:
    """Run the command; return the exit code."""
    asked = settled(options)
    task = _task(asked, options.text)
    cells, cures = (_names(f"--{what}", asked[what]) for what in ("cells", "cures"))
    picture, numbers = _files(options)
    found = _compared(options, asked, task, cells, cures)
    content = found._asdict()
    content["trials"] = [
        trial._asdict() | {"summary": summary(trial, found.goal)} for trial in found.trials
    ]
    text = document(dataclasses.asdict(options) | asked, **content)
    with as_mistakes(OSError, prefix=f"--out {options.out}: "):
        numbers.write_text(text + "\n", encoding="utf-8")
    failed = picture_failures(picture, lambda: save(panels(found), picture))
    if options.json:
        print(text)
    else:
        name = options.experiment
        print_comparison(found, None if name is None else EXPERIMENTS[name].question)
        print_written([numbers] if failed else [picture, numbers])
    for words in failed:
        say(words)
    return NO_PICTURE if failed else 0


def _compared(
    options: CompareOptions,
    asked: dict[str, Any],
    task: tasks.Task,
    cells: list[str],
    cures: list[str],
) -> Comparison:
    """Train all pairs; show a bar meanwhile, and a line on standard error for each that is done."""
    metric, relation, _ = task.goal
    steps, pairs = asked["steps"], 0

    with progress("compiling", len(cells) * len(cures) * steps) as update:

        def tell(cell: str, cure: str, step: int, seen: dict[str, Any]) -> None:
            value = np.median(seeds.ranked(seen[metric], ~np.isfinite(seen["loss"]), relation))
            update(
                description=f"{cell}, {cure}",
                completed=pairs * steps + step,
                words=f"step {step}/{steps}  {spoken(metric)} {reading(value, '.4g')}",
            )

        def done(trial: Trial) -> None:
            nonlocal pairs
            pairs += 1
            update(completed=pairs * steps)
            print(sentence(trial, task.goal), file=sys.stderr)  # which a bar puts above itself

        with as_mistakes(ValueError, TypeError):
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


# --- what was asked for -----------------------------------------------------------------------


def settled(options: CompareOptions) -> dict[str, Any]:
    """Return what was asked for, else what the experiment says, else the defaults."""
    asked, name = dict(DEFAULTS), options.experiment
    if name is not None:
        words = EXPERIMENTS[_known("experiment", name, EXPERIMENTS)].words
        asked |= _given(tyro.cli(CompareOptions, args=words.split()))
    return asked | _given(options)


def _given(options: CompareOptions) -> dict[str, Any]:
    """Return the options with a value, of those that have a default elsewhere."""
    values = {name: getattr(options, name) for name in DEFAULTS}
    return {name: value for name, value in values.items() if value is not None}


def _known(option: str, name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise Mistake(f"--{option}: {unknown(option, name, known)}")
    return name


def _task(asked: dict[str, Any], text: Path | None) -> tasks.Task:
    name, length = asked["task"], asked["length"]
    if name in tasks.NAMES:  # `get` names the nearest one otherwise
        check_task_options(name, length, text)
    given = {"T": length, "path": text}
    with as_mistakes(ValueError, TypeError, OSError, ImportError):
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
    """Return the learning rates by name, that of all others as `default`."""
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


def _files(options: CompareOptions) -> tuple[Path, Path]:
    """Return the picture and the numbers, which must not be there yet."""
    if not options.name or Path(options.name).name != options.name:
        raise Mistake(f"--name must be the name of a file without folders, got {options.name!r}")
    check_folder(options.out)
    picture, numbers = (options.out / f"{options.name}{ending}" for ending in (".png", ".json"))
    for file in (picture, numbers):
        if disk.there(file) and not file.is_file():
            raise Mistake(f"{file} is no file; give another --name or --out")
    there = [str(file) for file in (picture, numbers) if file.exists()]
    if there and not options.force:
        raise Mistake(
            f"{' and '.join(there)} would be written over; give another --name or --out, or --force"
        )
    return picture, numbers
