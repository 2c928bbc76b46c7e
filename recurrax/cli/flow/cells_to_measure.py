"""Which cells are measured, fresh ones or those of a file or two, and their measurement."""

from __future__ import annotations

import inspect
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax import flow, interop
from recurrax.cells import CELLS
from recurrax.checks import check_finite
from recurrax.cli.console import Mistake, as_mistakes
from recurrax.cli.flow.measurement import Measurement, Subject
from recurrax.cli.options import check_name, flag_of, key_of
from recurrax.gated.step import GatedStep
from recurrax.literal import visible

if TYPE_CHECKING:
    from pathlib import Path

    from recurrax.cli.flow.flow_command import FlowOptions

DEFAULT = "elman,lstm,gru"  # the cells where none is named
EXACT_UP_TO = 512  # joint state size N above which 32 random directions stand for all N
PROBES = 32


def measure(subject: Subject, xs: np.ndarray, mask: np.ndarray | None = None) -> Measurement:
    """Return all that the table says of one cell, along the steps that a mask leaves."""
    name, cell, params = subject
    state = cell.initial_state(params, (xs.shape[1],))
    size = sum(leaf[0].size for leaf in jax.tree.leaves(state))
    probes = None if size <= EXACT_UP_TO else PROBES
    inputs = jax.numpy.asarray(xs, jax.tree.leaves(state)[0].dtype)
    with as_mistakes(ValueError):
        decay = flow.decay(cell, params, state, inputs, probes=probes, mask=mask)
        bounds = flow.bounds(cell, params) if isinstance(cell.step, GatedStep) else None
    rate, verdict = np.asarray(flow.rate(decay)), flow.verdict(decay)
    steps, reached = map(np.asarray, flow.horizon(decay))
    return Measurement(name, int(size), bounds, decay, rate, steps, reached, verdict, probes)


def choose(options: FlowOptions, features: int) -> list[Subject]:
    """Return the cells to measure, with fresh weights or those of a file or two."""
    scale = options.recurrent_scale
    if not math.isfinite(scale):
        raise Mistake(f"--recurrent-scale must be finite, got {scale}")
    if options.compare:
        subjects = _before_and_after(options, *options.compare, features)
    elif options.params:
        subjects = [_from_file(options, options.params, "--params", features)]
    else:
        subjects = _fresh(options, features)
    return [s._replace(params=_scaled(s.params, scale)) for s in subjects]


def _scaled(params: Any, scale: float) -> Any:
    """Return params with their recurrent weights multiplied, in each cell of a stack."""
    if hasattr(params, "w_rec"):
        return params._replace(w_rec=params.w_rec * scale)
    return tuple(_scaled(part, scale) for part in params)


def _fresh(options: FlowOptions, features: int) -> list[Subject]:
    asked = DEFAULT if options.cells is None else options.cells
    names = [name.strip() for name in asked.split(",")]
    for name in names:
        check_name("--cells", "cell", name, CELLS)
    if len(set(names)) < len(names):
        raise Mistake(f"--cells names a cell twice: {options.cells}")
    hidden = 64 if options.hidden is None else options.hidden
    if hidden < 1:
        raise Mistake(f"--hidden must be at least 1, got {hidden}")
    forgetful = [n for n in names if "forget_bias" in inspect.signature(CELLS[n].build).parameters]
    bias = {} if options.forget_bias is None else {"forget_bias": options.forget_bias}
    if bias and not forgetful:
        raise Mistake("--forget-bias is for the lstm, which --cells leaves out")
    key = key_of(options.seed)
    subjects = []
    with as_mistakes(ValueError):
        for name in names:
            cell = CELLS[name].build(features, hidden, **(bias if name in forgetful else {}))
            subjects.append(Subject(name, cell, cell.init(key)))
    return subjects


def _before_and_after(
    options: FlowOptions, before: Path, after: Path, features: int
) -> list[Subject]:
    """Return the weights of two files, by the names of the files."""
    if options.params:
        raise Mistake("--params and --compare exclude each other: name both files to --compare")
    if before.resolve() == after.resolve():
        raise Mistake(f"--compare names one file twice: {before}")
    stems, paths = [before.stem, after.stem], [str(before), str(after)]
    names = [visible(name) for name in (stems if before.stem != after.stem else paths)]
    if names[0] == names[1]:  # bytes that are no text look all the same
        names = [f"{names[0]} ({when})" for when in ("before", "after")]
    found = [_from_file(options, path, "--compare", features) for path in (before, after)]
    return [s._replace(name=name) for s, name in zip(found, names, strict=True)]


def _from_file(options: FlowOptions, path: Path, flag: str, features: int) -> Subject:
    for other in ("cells", "hidden", "forget_bias"):
        if getattr(options, other) is not None:
            raise Mistake(
                f"{flag_of(other)} and {flag} exclude each other: the file says which cell it is"
            )
    try:
        with as_mistakes(ValueError, OSError, ImportError):
            cell, params = interop.load(path)
    except Mistake:
        names = ["params"]
        with suppress(Exception), np.load(path, allow_pickle=False) as file:
            names = file.files
        if any(name.startswith("params") for name in names):
            raise
        raise Mistake(
            f"{flag} {path} holds the arrays {', '.join(names)}, but what is needed is a file that "
            "rx.interop.save wrote: put them into params, such as "
            "rx.cells.GRUParams(w_in, w_rec, b, unit), and save those"
        ) from None
    with as_mistakes(ValueError, prefix=f"{flag} {path}: "):
        check_finite("params", params, "Did training diverge?")
    described = interop.describe(params)
    assert described is not None  # load has rebuilt the cell from it
    first = described
    while first["family"] == "stack":
        first = first["cells"][0]
    if first["input_size"] != features:
        raise Mistake(
            f"{path} takes {first['input_size']} features a step, but {options.data} has "
            f"{features}; give the data the weights were trained on"
        )
    return Subject(str(described["family"]), cell, params)
