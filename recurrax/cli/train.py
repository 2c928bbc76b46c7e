"""`recurrax train`: a cell trained on a task, and what became of its gradient flow."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import jax
import numpy as np

from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.option_types import arg, integer, number
from recurrax.cli.pictures import NO_PICTURE
from recurrax.cli.run_folder import RunFolder, merged
from recurrax.cli.terminal import say
from recurrax.interop.disk import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.cli.training_setup import Recipe
    from recurrax.train import Fit

_DAMAGE = ("checkpoint ", "history ")  # how warnings of damage begin
STOPPED = 130  # what a shell says of a command that Ctrl-C ended
_REPORTS = 20  # of a run, at least
_INNER = 50  # training steps between two reports, at most
_EVALUATIONS = 10  # reports between two looks at test data


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Train a cell on a task, and see what becomes of its gradient flow.

    Prints a table, and writes into --out the curves (training.png), the numbers (report.json,
    history.jsonl), the cell's weights before and after for recurrax flow --compare, the cell with
    its readout (network.npz), and checkpoints. Ctrl-C saves and says how to go on.
    """

    out: Annotated[Path | None, arg("FOLDER", "none, it must be named")] = None
    """Folder of the run; made if it is not there."""
    task: Annotated[str | None, arg("NAME", "adding")] = None
    """adding, multiplication, copying, temporal_order, counting, digits, or text with --text."""
    length: Annotated[int | None, arg("INT", "the task's, mostly 100"), integer("--length")] = None
    """Time steps T of a sequence; of copying the lag."""
    text: Annotated[Path | None, arg("FILE", "none")] = None
    """For --task text: any file, of which the next byte is learnt."""
    cell: Annotated[str | None, arg("NAME", "lstm")] = None
    """elman, elman-relu, lstm or gru."""
    hidden: Annotated[int | None, arg("INT", "64"), integer("--hidden")] = None
    """Hidden units H."""
    init: Annotated[str | None, arg("NAME[=NUMBER]", "the cell's own")] = None
    """How it begins, by rx.cures.init: orthogonal, identity, spectral_radius or largest_singular_value (=1 unless told) of w_rec; critical for elman; chrono (=T unless told), forget_bias=NUMBER or uniform_gate for lstm and gru."""  # noqa: E501
    clip: Annotated[float | None, arg("FLOAT", "none"), number("--clip")] = None
    """Largest norm of a gradient; longer ones are shortened to it."""
    optimizer: Annotated[str | None, arg("NAME", "adam")] = None
    """adam, adamw, nadam, rmsprop, adagrad, lion or sgd."""
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


def train(options: TrainOptions) -> int:
    """Run the command; returns the exit code."""
    if options.out is None:
        raise Mistake("give --out FOLDER, where the run is kept, such as --out run")
    folder = RunFolder(options.out)
    asked = _asked(options, folder)
    try:
        # Here, so that a command that does not train does not wait for Optax.
        from recurrax.cli.training_setup import recipe
        from recurrax.train.checkpoint import check_directory

        made = recipe(asked)
        with told(ValueError, ImportError, prefix="--out: "):
            check_directory(folder.path.absolute())
        with told(OSError, prefix=f"--out {folder.path}: "):
            _begin(options, folder, asked, made)
        fit = _fit(options, folder, asked, made)
        return _finish(options, folder, asked, made, fit)
    except KeyboardInterrupt as stop:
        return _stopped(options, folder, asked, stop)


# --- what is asked --------------------------------------------------------------------------------


def _asked(options: TrainOptions, folder: RunFolder) -> dict[str, Any]:
    """Every option by name, as plain values that a file can hold."""
    given = {
        name: value
        for name, value in dataclasses.asdict(options).items()
        if name not in _NOT_OF_THE_RUN
    }
    if given["text"] is not None:
        given["text"] = str(given["text"].resolve())
    if options.resume:
        recorded = folder.asked(_kinds())
        asked = merged(folder, given, recorded)
        _check_text(asked)
        return asked
    folder.check_unused()
    asked = {name: _DEFAULTS.get(name) if value is None else value for name, value in given.items()}
    return asked | {"text_digest": _digest(asked["text"])}


def _kinds() -> dict[str, set[type]]:
    """Of every option's value in the record of a run."""
    hints = get_type_hints(TrainOptions) | {"text_digest": str | None}
    kinds = {}
    for name, hint in hints.items():
        if name not in _NOT_OF_THE_RUN:
            kind = {str if part is Path else part for part in get_args(hint)}
            kinds[name] = kind - ({type(None)} if name in _DEFAULTS else set())
    return kinds


def _check_text(asked: dict[str, Any]) -> None:
    if asked["text"] is not None and _digest(asked["text"]) not in (None, asked["text_digest"]):
        raise Mistake(
            f"--text {asked['text']} has changed since the run began; name another --out to begin "
            "anew with it"
        )


def _digest(path: str | None) -> str | None:
    """SHA-256 of a file; None where there is none to read, which the task will tell."""
    try:
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError):  # a name that no file can have
        return None


# --- the run --------------------------------------------------------------------------------------


def _begin(options: TrainOptions, folder: RunFolder, asked: dict[str, Any], made: Recipe) -> None:
    """What is written before the first step; and on resuming, what a kill has kept from it."""
    from recurrax import interop

    if not options.resume or asked != folder.asked(_kinds()):
        folder.begin(asked)
    folder.clear()
    before, xs = made.network.init(made.key).cell, np.asarray(made.sequences.xs)

    def same_weights() -> bool:
        return _same(interop.load(folder.before).params, before)

    def write_inputs() -> None:
        with replaced(folder.inputs) as part, part.open("wb") as file:
            np.save(file, xs)

    folder.keep(folder.before, same_weights, lambda: interop.save(folder.before, before))
    folder.keep(folder.inputs, lambda: _same(np.load(folder.inputs), xs), write_inputs)


def _same(a: Any, b: Any) -> bool:
    """Whether all arrays of two trees are the same to the last bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def _fit(options: TrainOptions, folder: RunFolder, asked: dict[str, Any], made: Recipe) -> Fit:
    from recurrax.cli.training_report import draw
    from recurrax.train import Interrupted, fit

    inner = max(1, min(_INNER, asked["steps"] // _REPORTS))
    errors = (ValueError, ImportError, OSError)
    try:
        with told(*errors), _warnings_as_sentences():
            return fit(
                made.network,
                made.task,
                made.optimizer,
                key=made.key,
                steps=asked["steps"],
                batch_size=asked["batch"],
                inner=inner,
                evaluate_every=None if made.task.split is None else _EVALUATIONS * inner,
                flow_every=asked["flow_every"],
                directory=folder.path,
                resume=True,  # that the folder is this run's own was made sure of
                progress=not options.no_progress,
            )
    except Interrupted as stop:
        if len(stop.fit.history["step"]):
            draw(folder, asked, made.task, stop.fit)
        raise


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """What is told of damage is told as a mistake would be, and training goes on."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
            if str(message).startswith(_DAMAGE):
                say(str(message))
            else:
                usual(message, category, *rest, **more)

        for word in _DAMAGE:
            warnings.filterwarnings("always", message=word, category=UserWarning)
        warnings.showwarning = show
        yield


def _finish(
    options: TrainOptions, folder: RunFolder, asked: dict[str, Any], made: Recipe, fit: Fit
) -> int:
    """Weights, picture and report of a run that is at its end."""
    from recurrax import interop
    from recurrax.cli.training_report import Summary, draw, measured, print_summary, write

    with told(OSError, ValueError, prefix=f"--out {folder.path}: "):
        interop.save(folder.after, fit.params.cell)
        interop.save(folder.network, fit.params)
        first, last = measured(folder, made.sequences, not options.no_progress)
        summary = Summary(asked, made.task, fit, first, last)
        write(folder, summary)
    drawn = draw(folder, asked, made.task, fit)
    print_summary(folder, summary, drawn)
    return 0 if drawn else NO_PICTURE


def _stopped(
    options: TrainOptions, folder: RunFolder, asked: dict[str, Any], stop: BaseException
) -> int:
    """What Ctrl-C left behind, and the command that goes on."""
    fit = getattr(stop, "fit", None)
    if not folder.record.exists():
        say("stopped before the run began; nothing was written")
        return STOPPED
    if fit is not None:
        left = (
            f"stopped after {fit.step} of {asked['steps']} steps; they are saved in {folder.path}"
        )
    else:  # before the first step, after the last, or by a second Ctrl-C
        left = f"stopped; what was saved before is in {folder.path}"
    quiet = ["--no-progress"] if options.no_progress else []
    command = shlex.join(["recurrax", "train", "--resume", "--out", str(folder.path), *quiet])
    say(f"{left}. To go on:")
    print(f"  {command}", file=sys.stderr)
    return STOPPED
