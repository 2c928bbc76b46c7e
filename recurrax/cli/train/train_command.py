"""`recurrax train`: a cell trained on a task, and what became of its gradient flow."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import jax
import numpy as np

from recurrax import interop
from recurrax.cells import CELLS
from recurrax.cli.console import NO_PICTURE, Mistake, as_mistakes, progress, say
from recurrax.cli.flow.cells_to_measure import measure
from recurrax.cli.flow.measurement import Subject
from recurrax.cli.options import TASKS, arg, flag_of, integer, number
from recurrax.cli.train.run_folder import RunFolder, write_text
from recurrax.cli.train.training_report import Summary, draw
from recurrax.cli.train.training_setup import TrainingSetup, initialisers_shown, training_setup
from recurrax.interop import disk
from recurrax.train.checkpoint import check_directory
from recurrax.train.fit import Fit, fit
from recurrax.train.presets import OPTIMIZERS

if TYPE_CHECKING:
    from recurrax.cli.flow.measurement import Measurement

STOPPED = 130  # what a shell says of a command that Ctrl-C ended
_DAMAGE = ("checkpoint ", "history ")  # how warnings of damage begin
_REPORTS = 20  # of a run, at least
_LONGEST_REPORT = 50  # training steps between two reports, at most
_EVALUATIONS = 10  # reports between two looks at test data


_DEFAULTS: dict[str, Any] = {
    "task": "adding",
    "cell": "lstm",
    "hidden": 64,
    "optimizer": "adam",
    "rate": 1e-3,
    "steps": 2000,
    "batch": 32,
    "seed": 0,
}
_NOT_OF_THE_RUN = ("out", "resume", "no_progress")


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train a cell on a task, and see what becomes of its gradient flow.

    Prints a table, and writes into --out the curves (training.png), the numbers (report.json,
    history.jsonl), the cell's weights before and after for recurrax flow --compare, the cell with
    its readout (network.npz), and checkpoints. Ctrl-C saves and says how to go on.
    """

    out: Annotated[Path | None, arg("FOLDER", "none, it must be named")] = None
    """Folder of the run; made if it is not there."""
    task: Annotated[str | None, arg("NAME", "adding", TASKS)] = None
    length: Annotated[int | None, arg("INT", "the task's, mostly 100"), integer("--length")] = None
    """Time steps T of a sequence; of copying the lag."""
    text: Annotated[Path | None, arg("FILE", "none")] = None
    """For --task text: any file, of which the next byte is learnt."""
    cell: Annotated[str | None, arg("NAME", "lstm", f"One of {', '.join(CELLS)}.")] = None
    hidden: Annotated[int | None, arg("INT", "64"), integer("--hidden")] = None
    """Hidden units H."""
    init: Annotated[
        str | None,
        arg(
            "NAME[=NUMBER]",
            "the cell's own",
            f"How it begins, by rx.cures.init: {initialisers_shown()}. A number that is left out "
            "is T where it is a time, else 1.",
        ),
    ] = None
    clip: Annotated[float | None, arg("FLOAT", "none"), number("--clip")] = None
    """Largest norm of a gradient; longer ones are shortened to it."""
    optimizer: Annotated[str | None, arg("NAME", "adam", f"One of {', '.join(OPTIMIZERS)}.")] = None
    rate: Annotated[float | None, arg("FLOAT", "0.001"), number("--rate")] = None
    """Learning rate."""
    steps: Annotated[int | None, arg("INT", "2000"), integer("--steps")] = None
    """Training steps, fewer once an endless task is solved; with --resume there may be more."""
    batch: Annotated[int | None, arg("INT", "32"), integer("--batch")] = None
    """Sequences B in a training step."""
    flow_every: Annotated[int | None, arg("INT", "never"), integer("--flow-every")] = None
    """Training steps between two measurements of the gradient flow."""
    seed: Annotated[int | None, arg("INT", "0"), integer("--seed")] = None
    """Of the initial weights and the batches."""
    resume: bool = False
    """Go on with the run in --out; its options are known there and may be left out."""
    no_progress: bool = False
    """Show no progress bar."""

    def run(self) -> int:
        """Run the command; return the exit code."""
        if self.out is None:
            raise Mistake("give --out FOLDER, where the run is kept, such as --out run")
        folder = RunFolder(self.out)
        asked = _asked(self, folder)
        try:
            setup = training_setup(asked)
            is_recorded = self.resume and asked == folder.asked(_kinds())
            _begin(folder, asked, setup, is_recorded)
            try:
                found = _fit(folder, asked, setup, not self.no_progress)
            except KeyboardInterrupt as stop:  # with what was trained, unless it is a second one
                if (partly := getattr(stop, "fit", None)) and len(partly.history["step"]):
                    draw(folder, asked, setup.task, partly)
                raise
            with as_mistakes(OSError, ValueError, prefix=f"--out {folder.path}: "):
                interop.save(folder.after, found.params.cell)
                interop.save(folder.network, found.params)
                flows = _measured(folder, setup.xs, not self.no_progress)
                summary = Summary(asked, setup.task, found, *flows)
                write_text(folder.report, summary.text() + "\n")
            return 0 if summary.show(folder) else NO_PICTURE
        except KeyboardInterrupt as stop:
            return _stopped(self, folder, asked, stop)


def _asked(options: TrainOptions, folder: RunFolder) -> dict[str, Any]:
    """Return every option by name, as plain values that a file can hold."""
    given = dataclasses.asdict(options)
    for name in _NOT_OF_THE_RUN:
        del given[name]
    if given["text"] is not None:
        given["text"] = str(given["text"].resolve())
    if options.resume:
        asked = _resumed(folder, given)
        if _digest(asked["text"]) not in (None, asked["text_digest"]):
            raise Mistake(
                f"--text {asked['text']} has changed since the run began; name another --out to "
                "begin anew with it"
            )
        return asked
    folder.check_unused()
    asked = {name: _DEFAULTS.get(name) if value is None else value for name, value in given.items()}
    return asked | {"text_digest": _digest(asked["text"])}


def _resumed(folder: RunFolder, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run that goes on: its own; only of `steps` there may be more."""
    recorded = folder.asked(_kinds())
    for name, value in given.items():
        was = recorded[name]
        if value is not None and name != "steps" and value != was:
            flag = flag_of(name)
            raise Mistake(
                f"{flag} {value} contradicts the run in {folder.path}, which has "
                f"{f'no {flag}' if was is None else f'{flag} {was}'}; leave it out to go on, or "
                "name another folder"
            )
    steps = recorded["steps"] if given["steps"] is None else given["steps"]
    if steps < recorded["steps"]:
        raise Mistake(
            f"--steps {steps} is fewer than the {recorded['steps']} of the run in {folder.path}; "
            "leave it out to go on, or give more to train longer"
        )
    return recorded | {"steps": steps}


def _kinds() -> dict[str, set[type]]:
    """Return the types that every option's value may have in the record of a run."""
    hints = get_type_hints(TrainOptions) | {"text_digest": str | None}
    kinds = {}
    for name, hint in hints.items():
        if name not in _NOT_OF_THE_RUN:
            kind = {str if part is Path else part for part in get_args(hint)}
            kinds[name] = kind - ({type(None)} if name in _DEFAULTS else set())
    return kinds


def _digest(path: str | None) -> str | None:
    """Return the SHA-256 of a file; None where there is none to read, which the task will say."""
    try:
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError):  # a name that no file can have
        return None


def _begin(
    folder: RunFolder, asked: dict[str, Any], setup: TrainingSetup, is_recorded: bool
) -> None:
    """Write what is written before the first step; on resuming, what a kill has kept from it."""
    with as_mistakes(ValueError, ImportError, prefix="--out: "):
        check_directory(folder.path.absolute())
    before, xs = setup.network.init(setup.key).cell, setup.xs

    def write_inputs() -> None:
        with disk.replaced(folder.inputs) as part, part.open("wb") as file:
            np.save(file, xs)

    with as_mistakes(OSError, prefix=f"--out {folder.path}: "):
        if not is_recorded:
            folder.begin(asked)
        folder.clear()
        folder.keep(
            folder.before,
            lambda: _same(interop.load(folder.before).params, before),
            lambda: interop.save(folder.before, before),
        )
        folder.keep(folder.inputs, lambda: _same(np.load(folder.inputs), xs), write_inputs)


def _same(a: Any, b: Any) -> bool:
    """Return whether all arrays of two trees are the same to the last bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def _fit(folder: RunFolder, asked: dict[str, Any], setup: TrainingSetup, bar: bool) -> Fit:
    """Train, from the last checkpoint on."""
    every = max(1, min(_LONGEST_REPORT, asked["steps"] // _REPORTS))
    with as_mistakes(ValueError, ImportError, OSError), warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
            """Say a warning of damage as a mistake would be said, and let training go on."""
            if str(message).startswith(_DAMAGE):
                say(str(message))
            else:
                usual(message, category, *rest, **more)

        for word in _DAMAGE:
            warnings.filterwarnings("always", message=word, category=UserWarning)
        warnings.showwarning = show
        return fit(
            setup.network,
            setup.task,
            setup.optimizer,
            key=setup.key,
            steps=asked["steps"],
            batch_size=asked["batch"],
            report_every=every,
            evaluate_every=None if setup.task.split is None else _EVALUATIONS * every,
            flow_every=asked["flow_every"],
            directory=folder.path,
            resume=True,  # that the folder is this run's own was made sure of
            progress=bar,
        )


def _measured(folder: RunFolder, xs: np.ndarray, bar: bool) -> list[Measurement | None]:
    """Return the gradient flow before and after, of the weights as they lie in the folder."""
    found: list[Measurement | None] = []
    with progress("measuring", 2, show=bar) as update:
        for path in (folder.before, folder.after):
            cell, params = interop.load(path)
            try:
                found.append(measure(Subject(path.stem, cell, params), xs))
            except Mistake:  # a network that has diverged has no gradient flow
                found.append(None)
            update(advance=1)
    return found


def _stopped(
    options: TrainOptions, folder: RunFolder, asked: dict[str, Any], stop: BaseException
) -> int:
    """Say what Ctrl-C left behind, and the command that goes on."""
    partly = getattr(stop, "fit", None)
    if not folder.record.exists():
        say("stopped before the run began; nothing was written")
        return STOPPED
    if partly is None:  # before the first step, after the last, or by a second Ctrl-C
        left = f"stopped; what was saved before is in {folder.path}"
    else:
        done = f"{partly.step} of {asked['steps']} steps"
        left = f"stopped after {done}; they are saved in {folder.path}"
    quiet = ["--no-progress"] if options.no_progress else []
    command = shlex.join(["recurrax", "train", "--resume", "--out", str(folder.path), *quiet])
    say(f"{left}. To go on:")
    print(f"  {command}", file=sys.stderr)
    return STOPPED
