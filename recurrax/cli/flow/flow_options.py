"""The options of `recurrax flow`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from recurrax.cli.options import arg, integer, number, two_files


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
