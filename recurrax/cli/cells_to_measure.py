"""Which cells are measured, and with which weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from recurrax import interop
from recurrax.cells.names import CELLS
from recurrax.checks import check_finite
from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.option_types import key_of
from recurrax.literal import visible

if TYPE_CHECKING:
    from pathlib import Path

    from recurrax.cell import Cell

_FAMILIES = ("elman", "lstm", "gru")


class Choice(Protocol):
    """The options that say which cells are measured."""

    @property
    def data(self) -> str: ...
    @property
    def cells(self) -> str | None: ...
    @property
    def hidden(self) -> int | None: ...
    @property
    def recurrent_scale(self) -> float: ...
    @property
    def forget_bias(self) -> float | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def params(self) -> Path | None: ...
    @property
    def compare(self) -> tuple[Path, Path] | None: ...


class Subject(NamedTuple):
    """A cell with weights, to be measured."""

    name: str
    cell: Cell
    params: Any


def choose(options: Choice, features: int) -> list[Subject]:
    """The cells to measure, with fresh weights or those of a file or two."""
    if not np.isfinite(options.recurrent_scale):
        raise Mistake(f"--recurrent-scale must be finite, got {options.recurrent_scale}")
    if options.compare:
        subjects = _before_and_after(options, options.compare, features)
    elif options.params:
        subjects = [_from_file(options, options.params, "--params", features)]
    else:
        subjects = _fresh(options, features)
    return [s._replace(params=_scaled(s.params, options.recurrent_scale)) for s in subjects]


def _fresh(options: Choice, features: int) -> list[Subject]:
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
        bias = {"lstm": {"forget_bias": forget_bias}}
        made = {n: CELLS[n].build(features, hidden, **bias.get(n, {})) for n in names}
    key = key_of(options.seed)
    return [Subject(name, cell, cell.init(key)) for name, cell in made.items()]


def _before_and_after(options: Choice, files: tuple[Path, Path], features: int) -> list[Subject]:
    """The weights of two files, by the names of the files."""
    if options.params:
        raise Mistake("--params and --compare exclude each other: name both files to --compare")
    before, after = files
    if before.resolve() == after.resolve():
        raise Mistake(f"--compare names one file twice: {before}")
    stems, paths = [before.stem, after.stem], [str(before), str(after)]
    names = [visible(name) for name in (stems if before.stem != after.stem else paths)]
    if names[0] == names[1]:  # bytes that are no text look all the same
        names = [f"{name} ({when})" for name, when in zip(names, ("before", "after"), strict=True)]
    pairs = zip(names, files, strict=True)
    found = [(name, _from_file(options, path, "--compare", features)) for name, path in pairs]
    return [subject._replace(name=name) for name, subject in found]


def _from_file(options: Choice, path: Path, flag: str, features: int) -> Subject:
    for other, value in (
        ("--cells", options.cells),
        ("--hidden", options.hidden),
        ("--forget-bias", options.forget_bias),
    ):
        if value is not None:
            raise Mistake(f"{other} and {flag} exclude each other: the file says which cell it is")
    try:
        with told(ValueError, OSError, ImportError):
            cell, params = interop.load(path)
    except Mistake:
        _check_arrays(path, flag)
        raise
    with told(ValueError, prefix=f"{flag} {path}: "):
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


def _check_arrays(path: Path, flag: str) -> None:
    """Say what a file of other arrays holds."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file.files
    except Exception:  # no such file, or a damaged one, which the reader has told
        return
    if not any(name.startswith("params") for name in names):
        raise Mistake(
            f"{flag} {path} holds the arrays {', '.join(names)}, but what is needed is a file that "
            "rx.interop.save wrote: put them into params, such as "
            "rx.cells.GRUParams(w_in, w_rec, b, unit), and save those"
        )


def _scaled(params: Any, scale: float) -> Any:
    """Params with their recurrent weights multiplied, in each cell of a stack."""
    if hasattr(params, "w_rec"):
        return params._replace(w_rec=params.w_rec * scale)
    return tuple(_scaled(part, scale) for part in params)
