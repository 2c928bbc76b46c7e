"""`recurrax advise`: the cures that fit a cell, tried on a task or on data, and ranked."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

from recurrax.advice import advise
from recurrax.advice.cures_that_fit import check_cures
from recurrax.cli import console
from recurrax.cli.advise.advice_table import numbers_of, print_advice
from recurrax.cli.data.data_options import DataOptions
from recurrax.cli.options import (
    TASKS,
    arg,
    check_folder,
    check_name,
    integer,
    key_of,
    number,
    task_of,
)
from recurrax.plot.advice import panels
from recurrax.plot.axes import save
from recurrax.train.presets import ALIASES, CELLS

if TYPE_CHECKING:
    from recurrax.advice import Advice

_NAMES = {**CELLS, **{short: CELLS[name] for short, name in ALIASES.items()}}
_CURES = ", ".join(check_cures(None))


@dataclasses.dataclass(frozen=True)
class AdviseOptions(DataOptions):
    """Try the cures that fit a cell, measure each start, rank them, and prove the best.

    Prints a table (how far back the gradient is felt, its spread, its norm, over several seeds),
    a verdict, and the lines of code that apply the first choice; writes advice.png and advice.json
    into --out.
    """

    task: Annotated[str | None, arg("NAME", "adding, where no --data is given", TASKS)] = None
    text: Annotated[Path | None, arg("FILE", "none")] = None
    """For --task text: any file, of which the next byte is learnt."""
    data: Annotated[str | None, arg("DATA", "none")] = None
    """In place of a task what the cell reads: digits (scikit-learn's), or a path to a table, one time step a row (.csv, .tsv, .xlsx, .parquet), to an array [T, I] or [T, B, I] (.npy, .npz), to sound (.wav), or to any text file (read as bytes, one-hot); each may be a .gz."""  # noqa: E501
    cell: Annotated[str, arg("NAME", "lstm", f"One of {', '.join(_NAMES)}.")] = "lstm"
    hidden: Annotated[int, integer("--hidden")] = 32
    """Hidden units H."""
    horizon: Annotated[float | None, arg("STEPS", "all T"), number("--horizon")] = None
    """How far back the gradient is to be felt, 1 to T."""
    length: Annotated[int | None, arg("INT", "the horizon"), integer("--length")] = None
    """Time steps T of a sequence; of copying the lag."""
    cures: Annotated[str | None, arg("NAMES", "all that fit", f"Comma-separated: {_CURES}.")] = None
    seeds: Annotated[int, integer("--seeds")] = 3
    """Draws of the weights that each start is measured with, and trained."""
    prove: bool = False
    """Train the best three and the default on the task, at an equal budget, and say who learned."""
    steps: Annotated[int, integer("--steps")] = 2000
    """Training steps of each, with --prove."""
    train_batch: Annotated[int, integer("--train-batch")] = 32
    """Sequences in one training step, with --prove."""
    rate: Annotated[float, arg("FLOAT", "0.005"), number("--rate")] = 0.005
    """Learning rate of Adam, with --prove."""
    seed: Annotated[int, integer("--seed")] = 0
    """Seed of all that is random."""
    out: Annotated[Path, arg("DIR", "this folder")] = Path()
    """Folder for the picture and the numbers; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and nothing else; what is not finite is the string "inf", "-inf" or "nan"."""  # noqa: E501

    def run(self) -> int:
        """Run the command; return the exit code."""
        check_name("--cell", "cell", self.cell, _NAMES)
        check_folder(self.out)
        data, features, length, notes = self._material()
        for note in notes:
            console.say(note)
        found = self._advised(data, features, length)
        numbers, picture = self.out / "advice.json", self.out / "advice.png"
        text = console.document(dataclasses.asdict(self), **numbers_of(found))
        show = None if self.json else partial(print_advice, found)
        return console.deliver(text, numbers, picture, lambda: save(panels(found), picture), show)

    def _material(self) -> tuple[Any, int, int, tuple[str, ...]]:
        """Return a task or sequences, their features and length, and what was done to them."""
        if self.data is not None and self.task is not None:
            raise console.Mistake("--task and --data exclude each other: a task draws its own data")
        if self.data is None:
            self.refuse_without_data()
            name, length = self.task or "adding", self.length
            finite = self.horizon is not None and 2 <= self.horizon < math.inf
            if length is None and finite and name != "digits":  # they have a length of their own
                length = max(2, math.ceil(self.horizon or 2))
            task = task_of(name, length, self.text)
            return task, task.input_size, task.length, ()
        if self.prove:
            raise console.Mistake(
                "--prove trains on a task, and --data says nothing of what is to be learnt"
            )
        sequences = self.sequences()
        if sequences.mask is not None and not sequences.mask.all():
            raise console.Mistake(
                f"--data {sequences.name} has sequences of different lengths, and whole ones are "
                "measured: cut them to one with --length"
            )
        steps, _, features = sequences.xs.shape
        return sequences.xs, features, steps, tuple(sequences.notes)

    def _names(self) -> list[str] | None:
        return None if self.cures is None else [name.strip() for name in self.cures.split(",")]

    def _advised(self, data: Any, features: int, length: int) -> Advice:
        """Ask the library, with a bar on the terminal while it measures and trains."""
        with console.progress("measuring", 1) as update:

            def tell(done: int, total: int, words: str) -> None:
                update(completed=done, total=total, description=words)

            with console.as_mistakes(ValueError, TypeError, OSError, ImportError):
                sizes: Any = SimpleNamespace(input_size=features, length=length)
                return advise(
                    _NAMES[self.cell](sizes, self.hidden),
                    data,
                    horizon=self.horizon,
                    cures=self._names(),
                    key=key_of(self.seed),
                    seeds=self.seeds,
                    prove=self.prove,
                    steps=self.steps,
                    batch_size=self.train_batch,
                    learning_rate=self.rate,
                    tell=tell,
                )
