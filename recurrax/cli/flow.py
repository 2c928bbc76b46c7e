"""`recurrax flow`: real data through the chosen cells, and where the gradient goes."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np

from recurrax import flow as microscope
from recurrax import plot
from recurrax.cli.cells_to_measure import Subject, choose
from recurrax.cli.console import Difference, Row, difference, of_row, print_report, progress
from recurrax.cli.data import Reading, Sequences, read
from recurrax.cli.html_page import document
from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.option_types import arg, integer, number, two_files
from recurrax.cli.pictures import NO_PICTURE, attempt
from recurrax.cli.questions import QUESTIONS, Answer, answer, as_numbers
from recurrax.cli.terminal import say
from recurrax.cli.to_json import as_json
from recurrax.plot.words import literal

EXACT_UP_TO = 512  # joint state size N above which 32 random directions stand for all N
PROBES = 32
_LONGEST_NAME = 40  # letters of a file's name in a title


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """Measure how the gradient of h_t by h_0 vanishes or explodes, on real data.

    Prints a table, and writes gradient_flow.png and gradient_flow.json into --out; with --report
    gradient_report.html, with all pictures inside, and gradient_report.json.
    """

    data: Annotated[str, arg("DATA")] = "digits"
    """digits (scikit-learn's, pixel by pixel), or a path to a table, one time step a row (.csv, .tsv, .xlsx, .parquet), to an array [T, I] or [T, B, I] (.npy, .npz), to sound (.wav, one feature a channel), or to any text file (read as bytes, one-hot); each may be a .gz."""  # noqa: E501
    columns: Annotated[str | None, arg("NAMES", "all that hold numbers")] = None
    """Columns of a table to measure, by name or by number from 1, comma-separated; words among them become one-hot, dates days since the first."""  # noqa: E501
    array: Annotated[str | None, arg("NAME", "xs, or the only one")] = None
    """Array of an .npz to measure."""
    fill: Annotated[str | None, arg("HOW", "missing numbers are refused")] = None
    """forward (the value before, at the start the first there is) or mean (of the whole column): what stands for a missing number, such as an empty cell, NA, nan, null or ?."""  # noqa: E501
    standardise: bool = False
    """Subtract each feature's mean over the whole file, and divide by its standard deviation."""
    length: Annotated[int | None, arg("INT", "all; of a file at most 256"), integer("--length")] = (
        None
    )
    """Time steps T to measure."""
    batch: Annotated[int, integer("--batch")] = 16
    """Sequences B to measure; one long sequence is cut into as many windows."""
    cells: Annotated[str | None, arg("NAMES", "elman,lstm,gru")] = None
    """Which cells to measure, comma-separated."""
    hidden: Annotated[int | None, arg("INT", "64"), integer("--hidden")] = None
    """Hidden units H."""
    recurrent_scale: Annotated[float, number("--recurrent-scale")] = 1.0
    """Multiplies the recurrent weights: the vanilla network's gradient vanishes at .5, explodes at 2."""  # noqa: E501
    forget_bias: Annotated[float | None, arg("FLOAT", "1"), number("--forget-bias")] = None
    """Added to the bias of the LSTM's forget gate."""
    seed: Annotated[int, integer("--seed")] = 0
    """Of the initial weights."""
    params: Annotated[Path | None, arg("FILE", "fresh weights")] = None
    """Weights to measure, a file that rx.interop.save wrote."""
    compare: Annotated[
        tuple[Path, Path] | None, arg("BEFORE AFTER", "none"), two_files("--compare")
    ] = None
    """Two files of weights that rx.interop.save wrote, such as before and after training, side by side."""  # noqa: E501
    report: bool = False
    """Answer the questions of rx.flow in one HTML file: decay, rate, horizon, verdict, bounds, predict, report, lyapunov, spectrum, gradient_map, loss_gradients, lag_profile, truncation, paths (jacobians, covariant_vectors and watch are for code); takes a minute or so a cell."""  # noqa: E501
    out: Annotated[Path, arg("DIR", "this folder")] = Path()
    """Folder for the picture and the numbers; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and nothing else; what is not finite is the string "inf", "-inf" or "nan"."""  # noqa: E501


def flow(options: FlowOptions) -> int:
    """Run the command; returns the exit code."""
    check_out(options.out)
    asked = Reading(options.columns, options.array, options.fill, options.standardise)
    sequences = read(options.data, options.length, options.batch, asked)
    subjects = choose(options, sequences.xs.shape[-1])
    for note in sequences.notes:
        say(note)
    count = len(subjects) * (1 + (len(QUESTIONS) if options.report else 0))
    rows, decays, answers = [], {}, {}
    with progress("measuring", count) as advance:
        for subject in subjects:
            row, decays[subject.name] = measure(subject, sequences)
            rows.append(row)
            advance()
            if options.report:
                answers[subject.name] = list(answer(subject, sequences, advance))
    numbers = {row.name: of_row(row, decays[row.name]) for row in rows}
    for name, found in answers.items():
        numbers[name]["questions"] = as_numbers(found)
    change = difference(*rows) if options.compare else None
    text = as_json(dataclasses.asdict(options), sequences, numbers, change)
    shown = Shown(options, sequences, decays, rows, answers, change)
    written, failed = _write(text, shown)
    if options.json:
        print(text)
    else:
        print_report(sequences, rows, written, change)
    for words in failed:
        say(words)
    return NO_PICTURE if failed else 0


class Shown(NamedTuple):
    """What the picture or the page shows."""

    options: FlowOptions
    sequences: Sequences
    decays: dict[str, microscope.Decay]
    rows: list[Row]
    answers: dict[str, list[Answer]]
    change: Difference | None

    def draw(self) -> Any:
        """The picture of all cells; returns its axes."""
        ax = plot.decay(self.decays, plot.blank_axes())
        ax.set_title(literal(self.title))
        return ax

    @property
    def title(self) -> str:
        length, batch, _ = self.sequences.xs.shape
        scale = self.options.recurrent_scale
        suffix = "" if scale == 1 else f", recurrent weights times {scale:g}"
        name = self.sequences.name
        name = name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
        return f"Gradient flow on {name} (T = {length}, B = {batch}{suffix})"


def _write(text: str, shown: Shown) -> tuple[list[Path], list[str]]:
    """The numbers, then the picture or the page; their paths, and why a picture is missing."""
    stem = "gradient_report" if shown.options.report else "gradient_flow"
    picture, numbers = (
        shown.options.out / f"{stem}.{kind}"
        for kind in ("html" if shown.answers else "png", "json")
    )
    try:
        numbers.write_text(text + "\n", encoding="utf-8")
        if not shown.answers:
            why = attempt(picture, lambda: plot.save(shown.draw(), picture))
            return ([picture, numbers], []) if why is None else ([numbers], [why])
        page, failed = document(
            shown.title, shown.sequences, shown.rows, shown.draw, shown.answers, shown.change
        )
        picture.write_text(page, encoding="utf-8")
    except OSError as error:
        raise Mistake(
            f"--out: {error.filename} cannot be written ({error.strerror}); name another folder"
        ) from None
    return [picture, numbers], failed


def measure(subject: Subject, sequences: Sequences) -> tuple[Row, microscope.Decay]:
    """All that the table says of one cell."""
    name, cell, params = subject
    state = cell.initial_state(params, (sequences.xs.shape[1],))
    size = sum(leaf[0].size for leaf in jax.tree.leaves(state))
    probes = None if size <= EXACT_UP_TO else PROBES
    xs = jax.numpy.asarray(sequences.xs, jax.tree.leaves(state)[0].dtype)
    with told(ValueError):
        decay = microscope.decay(cell, params, state, xs, probes=probes)
        bounds = microscope.bounds(cell, params) if hasattr(params, "w_rec") else None
    horizon = microscope.horizon(decay)
    return (
        Row(
            name=name,
            state_size=int(size),
            bounds=bounds,
            rate=np.asarray(microscope.rate(decay)),
            horizon=np.asarray(horizon.steps),
            horizon_reached=np.asarray(horizon.reached),
            verdict=microscope.verdict(decay),
            probes=probes,
        ),
        decay,
    )


def check_out(out: Path) -> None:
    """Find out before the work whether its result can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Mistake(
            f"--out {out} cannot be written ({error.strerror}); name a folder of your own"
        ) from None
