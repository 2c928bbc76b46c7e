"""What is trained on what: a task, a cell and how it begins, an optimizer, by their names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax import cures, keys, tasks
from recurrax.cells import CELLS
from recurrax.cli.console import Mistake, as_mistakes
from recurrax.cli.options import check_name, check_task_options, flag_of, key_of
from recurrax.train import presets
from recurrax.train.network import Network, network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recurrax.tasks import Task

EXAMPLES = 8  # sequences along which the gradient flow is measured

_GATED = tuple(name for name, cell in CELLS.items() if cell.gates is not None)


class Initialiser(NamedTuple):
    """What `--init` says of a function of `rx.cures.init`."""

    cells: tuple[str, ...] = tuple(CELLS)  # those that it fits
    takes_number: bool = True
    default: float | None = None  # the number where none is given
    needs_number: bool = False


INITIALISERS = {
    "orthogonal": Initialiser(default=1.0),
    "identity": Initialiser(default=1.0),
    "spectral_radius": Initialiser(default=1.0),
    "largest_singular_value": Initialiser(default=1.0),
    "critical": Initialiser(("elman",), takes_number=False),
    "forget_bias": Initialiser(_GATED, needs_number=True),
    "chrono": Initialiser(_GATED),  # of the task's length, without a number
    "uniform_gate": Initialiser(_GATED, takes_number=False),
}


class TrainingSetup(NamedTuple):
    """All that `rx.train.fit` needs."""

    task: Task
    network: Network
    optimizer: Any
    key: Any
    xs: np.ndarray  # sequences [T, B, I] of the task, to measure the gradient flow along


def training_setup(asked: Mapping[str, Any]) -> TrainingSetup:
    """Return what the options by name ask for.

    Raises:
      Mistake: if a name is unknown, with the nearest, or a value is out of range.
    """
    for name in ("length", "hidden", "steps", "batch", "flow_every"):
        if asked[name] is not None and asked[name] < 1:
            raise Mistake(f"{flag_of(name)} must be at least 1, got {asked[name]}")
        if asked[name] is not None and asked[name] >= 2**31:  # steps are counted in int32
            raise Mistake(f"{flag_of(name)} must be below 2^31, got more")
    for name, meaning in (("rate", ""), ("clip", "; leave it out for no clipping")):
        value = asked[name]
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise Mistake(f"--{name} must be a finite number above 0, got {value:g}{meaning}")
    key = key_of(asked["seed"])
    check_name("--cell", "cell", asked["cell"], CELLS)
    check_name("--optimizer", "optimizer", asked["optimizer"], presets.OPTIMIZERS)
    start = None if asked["init"] is None else _parsed_start(asked["cell"], asked["init"])
    task = _task(asked)
    xs = _sequences(task, key)
    options: dict[str, Any] = {}
    if start is not None:
        with as_mistakes(ValueError, TypeError, prefix=f"--init {start[0]}: "):
            options = _start(asked["cell"], *start, task, xs)
    cell = CELLS[asked["cell"]].build(task.input_size, asked["hidden"], **options)
    return TrainingSetup(
        task,
        network(cell, task.output_size, task.input_size),
        presets.optimizer(asked["optimizer"], asked["rate"], asked["clip"]),
        key,
        xs,
    )


def _task(asked: Mapping[str, Any]) -> Task:
    name, length, text = asked["task"], asked["length"], asked["text"]
    check_name("--task", "task", name, tasks.NAMES)
    check_task_options(name, length, text)
    options = {} if length is None else {"T": length}
    with as_mistakes(ValueError, TypeError, OSError, prefix=f"--task {name}: "):
        return tasks.get(name, **options) if text is None else tasks.text(text, **options)


def _sequences(task: Task, key: Any) -> np.ndarray:
    """Return a few sequences of the task; of data, from the part that is not trained on."""
    with as_mistakes(ImportError):
        data = None if task.split is None else task.split().test
    if data is None:
        batch = task.draw(keys.purpose(key, keys.EXAMPLES), EXAMPLES)
    else:
        count = data.weights.shape[1]
        columns = np.linspace(0, count - 1, min(EXAMPLES, count)).astype(int)
        batch = task.take(data, columns)
    return np.asarray(batch.xs, np.float32)


# --- how the cell begins --------------------------------------------------------------------------


def initialisers_for(cell: str) -> list[str]:
    """Return the names of initialisers that fit a cell."""
    return [name for name, initialiser in INITIALISERS.items() if cell in initialiser.cells]


def _parsed_start(cell: str, given: str) -> tuple[str, float | None]:
    """Return `NAME` or `NAME=NUMBER` in its two parts; None where there is no number."""
    word, equals, number = given.partition("=")
    name, fitting = word.strip().replace("-", "_"), initialisers_for(cell)
    if name in INITIALISERS and name not in fitting:
        raise Mistake(
            f"--init {name} does not fit the cell {cell}; choose from {', '.join(fitting)}"
        )
    check_name("--init", "initialiser", name, fitting)
    initialiser = INITIALISERS[name]
    if not equals:
        if initialiser.needs_number:
            raise Mistake(f"--init {name} needs a number, such as --init {name}=3")
        return name, initialiser.default
    if not initialiser.takes_number:
        raise Mistake(f"--init {name} takes no number, got {given!r}")
    try:
        return name, float(number)
    except ValueError:
        raise Mistake(f"--init {name}= needs a number, got {number!r}") from None


def _start(
    cell: str, name: str, number: float | None, task: Task, xs: np.ndarray
) -> dict[str, Any]:
    """Return the keyword arguments of the cell for an initialiser."""
    make = getattr(cures.init, name)
    if name == "critical":
        # LeCun's w_in makes of the inputs a variance of their mean square.
        square = float(np.mean(np.square(xs, dtype=np.float64)))
        return {"recurrent_init": make(input_variance=float(f"{square:.4g}"))}
    if INITIALISERS[name].default is not None:
        return {"recurrent_init": make(number)}
    gates = CELLS[cell].gates
    assert gates is not None  # these initialisers are for cells with gates
    where: dict[str, Any] = {"gates": gates.number, "forget_gate": gates.forget}
    if name == "chrono":
        where["input_gate"] = gates.input
        number = max(2.0, float(task.length)) if number is None else number
    bias = make(**where) if number is None else make(number, **where)
    # The initialiser says the whole bias; the LSTM's own would be added to it.
    return {"bias_init": bias} | ({"forget_bias": 0.0} if cell == "lstm" else {})
