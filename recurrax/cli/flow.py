"""`recurrax flow`: real data through the chosen cells, and where the gradient goes."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from recurrax import flow as microscope
from recurrax import plot
from recurrax.cli.data import Sequences, read
from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.numbers import as_json
from recurrax.cli.page import document
from recurrax.cli.questions import QUESTIONS, Answer, answer, as_numbers
from recurrax.cli.show import Difference, Row, difference, of_row, print_report, progress
from recurrax.cli.subjects import Subject, choose
from recurrax.cli.values import arg, integer, number, two_files

EXACT_UP_TO = 512  # joint state size N above which 32 random directions stand for all N
PROBES = 32


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """Measure how the gradient of h_t by h_0 vanishes or explodes, on real data.

    Prints a table, and writes gradient_flow.png and gradient_flow.json into --out; with --report
    gradient_report.html, with all pictures inside, and gradient_report.json.
    """

    data: Annotated[str, arg("DATA")] = "digits"
    """digits (scikit-learn's, pixel by pixel), or a path to a .npy or .npz ([T, I] or [T, B, I]), a .csv (one time step a line) or any text file (read as bytes, one-hot)."""  # noqa: E501
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
    sequences = read(options.data, options.length, options.batch)
    subjects = choose(options, sequences.xs.shape[-1])
    count = len(subjects) * (1 + (len(QUESTIONS) if options.report else 0))
    rows, decays, answers = [], {}, {}
    with progress("measuring", count) as advance:
        for subject in subjects:
            row, decays[subject.name] = measure(subject, sequences)
            rows.append(row)
            advance()
            if options.report:
                answers[subject.name] = list(answer(subject, sequences, advance))
    ax = plot.decay(decays, plot.blank_axes())
    ax.set_title(_title(options, sequences))
    numbers = {row.name: of_row(row, decays[row.name]) for row in rows}
    for name, found in answers.items():
        numbers[name]["questions"] = as_numbers(found)
    change = difference(*rows) if options.compare else None
    text = as_json(dataclasses.asdict(options), sequences, numbers, change)
    written = _write(options, sequences, text, ax, rows, answers, change)
    if options.json:
        print(text)
    else:
        print_report(sequences, rows, written, change)
    return 0


def _write(
    options: FlowOptions,
    sequences: Sequences,
    text: str,
    ax: Any,
    rows: list[Row],
    answers: dict[str, list[Answer]],
    change: Difference | None,
) -> list[Path]:
    """The picture or the page, and the numbers; returns their paths."""
    stem = "gradient_report" if options.report else "gradient_flow"
    shown, numbers = (
        options.out / f"{stem}.{kind}" for kind in ("html" if answers else "png", "json")
    )
    try:
        if answers:
            page = document(_title(options, sequences), sequences, rows, ax, answers, change)
            shown.write_text(page, encoding="utf-8")
        else:
            plot.save(ax, shown)
        numbers.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise Mistake(
            f"--out: {error.filename} cannot be written ({error.strerror}); name another folder"
        ) from None
    return [shown, numbers]


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


def _title(options: FlowOptions, sequences: Sequences) -> str:
    length, batch, _ = sequences.xs.shape
    scale = options.recurrent_scale
    suffix = "" if scale == 1 else f", recurrent weights times {scale:g}"
    return f"Gradient flow on {sequences.name} (T = {length}, B = {batch}{suffix})"


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
