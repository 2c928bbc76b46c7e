"""What is trained on what: a task, a cell and how it begins, an optimizer, by their names."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax import cures, keys, tasks
from recurrax.cells import CELLS
from recurrax.cli.console import Mistake, as_mistakes
from recurrax.cli.options import check_name, flag_of, key_of, task_of
from recurrax.train import presets
from recurrax.train.networks.network import Network, network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recurrax.tasks import Task

EXAMPLES = 8  # sequences along which the gradient flow is measured


class TrainingSetup(NamedTuple):
    """All that `rx.train.fit` needs."""

    task: Task
    network: Network
    optimizer: Any
    key: Any
    xs: np.ndarray  # sequences [T, B, I] of the task, to measure the gradient flow along


def training_setup(asked: Mapping[str, Any]) -> TrainingSetup:
    """Return what the options by name ask for, unless one of them has to be refused."""
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
    name, length, text = asked["task"], asked["length"], asked["text"]
    check_name("--task", "task", name, tasks.NAMES)
    task = task_of(name, length, text, prefix=f"--task {name}: ")
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


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Return what a function of `rx.cures.init` takes, which says what it is for."""
    return inspect.signature(getattr(cures.init, name)).parameters


def initialisers_for(cell: str) -> list[str]:
    """Return the names of initialisers that fit a cell: those of gates fit a cell with gates."""
    fitting = []
    for name in cures.init.__all__:
        if "forget_gate" in _parameters(name):
            fits = CELLS[cell].gates is not None
        elif "w_proj" in CELLS[cell].params._fields:  # its recurrent blocks are not square
            fits = name in ("orthogonal", "largest_singular_value")
        else:  # the critical point is that of tanh
            fits = name != "critical" or cell == "elman"
        if fits:
            fitting.append(name)
    return fitting


def _number_of(name: str) -> str:
    """Return how the help shows the number of an initialiser: none, one that may be left out."""
    first = next(iter(_parameters(name).values()))
    if first.kind is first.KEYWORD_ONLY:
        return ""
    is_needed = "forget_gate" in _parameters(name) and first.name != "t_max"
    return "=NUMBER" if is_needed else "[=NUMBER]"


def initialisers_shown() -> str:
    """Return all initialisers as the help shows them, with the cells that they fit."""
    shown = []
    for name in cures.init.__all__:
        cells = [cell for cell in CELLS if name in initialisers_for(cell)]
        fits = f" ({', '.join(cells)})" if len(cells) < len(CELLS) else ""
        shown.append(f"{name}{_number_of(name)}{fits}")
    return ", ".join(shown)


def _parsed_start(cell: str, given: str) -> tuple[str, float | None]:
    """Return `NAME` or `NAME=NUMBER` in its two parts; None where there is no number."""
    word, equals, number = given.partition("=")
    name, fitting = word.strip().replace("-", "_"), initialisers_for(cell)
    if name in cures.init.__all__ and name not in fitting:
        raise Mistake(
            f"--init {name} does not fit the cell {cell}; choose from {', '.join(fitting)}"
        )
    check_name("--init", "initialiser", name, fitting)
    takes = _number_of(name)
    if not equals:
        if takes == "=NUMBER":
            raise Mistake(f"--init {name} needs a number, such as --init {name}=3")
        return name, None
    if not takes:
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
    takes, gates = _parameters(name), CELLS[cell].gates
    if "forget_gate" not in takes:
        return {"recurrent_init": make(1.0 if number is None else number)}
    assert gates is not None  # these initialisers are for cells with gates
    where: dict[str, Any] = {"gates": gates.number, "forget_gate": gates.forget}
    if "input_gate" in takes:
        where["input_gate"] = gates.input
    if "t_max" in takes and number is None:
        number = max(2.0, float(task.length))
    bias = make(**where) if number is None else make(number, **where)
    # The initialiser says the whole bias; the LSTM's own would be added to it.
    owns_bias = "forget_bias" in inspect.signature(CELLS[cell].build).parameters
    return {"bias_init": bias} | ({"forget_bias": 0.0} if owns_bias else {})
