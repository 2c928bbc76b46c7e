"""`recurrax flow`: real data through the chosen cells, and where the gradient goes."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from recurrax import cells, interop, plot
from recurrax import flow as microscope
from recurrax.cli.data import Sequences, read
from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.show import Row, as_json, print_report, progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.cell import Cell

EXACT_UP_TO = 512  # joint state size N above which 32 random directions stand for all N
PROBES = 32
_FAMILIES = ("elman", "lstm", "gru")


def _arg(metavar: str, default: str | None = None) -> Any:
    """How an option is shown in the help."""
    hint = None if default is None else f"(default: {default})"
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """Measure how the gradient of h_t by h_0 vanishes or explodes, on real data.

    Prints a table, and writes gradient_flow.png and gradient_flow.json into --out.
    """

    data: Annotated[str, _arg("DATA")] = "digits"
    """digits (scikit-learn's, pixel by pixel), or a path to a .npy or .npz ([T, I] or [T, B, I]), a .csv (one time step a line) or any text file (read as bytes, one-hot)."""  # noqa: E501
    length: Annotated[int | None, _arg("INT", "all; of a file at most 256")] = None
    """Time steps T to measure."""
    batch: int = 16
    """Sequences B to measure; one long sequence is cut into as many windows."""
    cells: Annotated[str | None, _arg("NAMES", "elman,lstm,gru")] = None
    """Which cells to measure, comma-separated."""
    hidden: Annotated[int | None, _arg("INT", "64")] = None
    """Hidden units H."""
    recurrent_scale: float = 1.0
    """Multiplies the recurrent weights: the vanilla network's gradient vanishes at .5, explodes at 2."""  # noqa: E501
    forget_bias: Annotated[float | None, _arg("FLOAT", "1")] = None
    """Added to the bias of the LSTM's forget gate."""
    seed: int = 0
    """Of the initial weights."""
    params: Annotated[Path | None, _arg("FILE", "fresh weights")] = None
    """Weights to measure, saved with rx.interop.save."""
    out: Annotated[Path, _arg("DIR", "this folder")] = Path()
    """Folder for the picture and the numbers; made if it is not there."""
    json: bool = False
    """Print the numbers as JSON and nothing else."""


class Subject(NamedTuple):
    """A cell with weights, to be measured."""

    name: str
    cell: Cell
    params: Any


def flow(options: FlowOptions) -> int:
    """Run the command; returns the exit code."""
    _check_out(options.out)
    sequences = read(options.data, options.length, options.batch)
    subjects = choose(options, sequences.xs.shape[-1])
    rows, decays = [], {}
    with progress("measuring", len(subjects)) as advance:
        for subject in subjects:
            row, decays[subject.name] = measure(subject, sequences)
            rows.append(row)
            advance()
    ax = plot.decay(decays, plot.blank_axes())
    ax.set_title(_title(options, sequences))
    text = as_json(dataclasses.asdict(options), sequences, rows, decays)
    picture, numbers = (options.out / f"gradient_flow.{kind}" for kind in ("png", "json"))
    try:
        plot.save(ax, picture)
        numbers.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise Mistake(
            f"--out: {error.filename} cannot be written ({error.strerror}); name another folder"
        ) from None
    if options.json:
        print(text)
    else:
        print_report(sequences, rows, [picture, numbers])
    return 0


def choose(options: FlowOptions, features: int) -> list[Subject]:
    """The cells to measure, with fresh weights or those of a file."""
    if not np.isfinite(options.recurrent_scale):
        raise Mistake(f"--recurrent-scale must be finite, got {options.recurrent_scale}")
    subjects = [_from_file(options, features)] if options.params else _fresh(options, features)
    return [s._replace(params=_scaled(s.params, options.recurrent_scale)) for s in subjects]


def _fresh(options: FlowOptions, features: int) -> list[Subject]:
    asked = ",".join(_FAMILIES) if options.cells is None else options.cells
    names = [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in _FAMILIES:
            raise Mistake(f"--cells: unknown cell {name!r}; choose from {', '.join(_FAMILIES)}")
    if len(set(names)) < len(names):
        raise Mistake(f"--cells names a cell twice: {options.cells}")
    hidden = 64 if options.hidden is None else options.hidden
    if hidden < 1:
        raise Mistake(f"--hidden must be at least 1, got {hidden}")
    if options.forget_bias is not None and "lstm" not in names:
        raise Mistake("--forget-bias is for the lstm, which --cells leaves out")
    forget_bias = 1.0 if options.forget_bias is None else options.forget_bias
    with told(ValueError):
        build: dict[str, Callable[[], Cell]] = {
            "elman": lambda: cells.elman(features, hidden),
            "lstm": lambda: cells.lstm(features, hidden, forget_bias=forget_bias),
            "gru": lambda: cells.gru(features, hidden),
        }
        made = {name: build[name]() for name in names}
    key = _key(options.seed)
    return [Subject(name, cell, cell.init(key)) for name, cell in made.items()]


def _key(seed: int) -> Any:
    if not 0 <= seed < 2**32:
        raise Mistake(f"--seed must be from 0 to 2^32 - 1, got {seed}")
    return jax.random.key(seed)


def _from_file(options: FlowOptions, features: int) -> Subject:
    for flag, value in (
        ("--cells", options.cells),
        ("--hidden", options.hidden),
        ("--forget-bias", options.forget_bias),
    ):
        if value is not None:
            raise Mistake(f"{flag} and --params exclude each other: the file says which cell it is")
    assert options.params is not None
    with told(ValueError, OSError, ImportError):
        cell, params = interop.load(options.params)
    described = interop.describe(params)
    assert described is not None  # load has rebuilt the cell from it
    first = described
    while first["family"] == "stack":
        first = first["cells"][0]
    if first["input_size"] != features:
        raise Mistake(
            f"{options.params} takes {first['input_size']} features a step, but {options.data} has "
            f"{features}; give the data the weights were trained on"
        )
    return Subject(str(described["family"]), cell, params)


def _scaled(params: Any, scale: float) -> Any:
    """Params with their recurrent weights multiplied, in each cell of a stack."""
    if hasattr(params, "w_rec"):
        return params._replace(w_rec=params.w_rec * scale)
    return tuple(_scaled(part, scale) for part in params)


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


def _check_out(out: Path) -> None:
    """Find out before the work whether its result can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Mistake(
            f"--out {out} cannot be written ({error.strerror}); name a folder of your own"
        ) from None
