"""What is trained on what: a task, a cell and its beginning, an optimizer, by their names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax import cures, keys, tasks, train
from recurrax.cells.names import CELLS
from recurrax.cli.data import Sequences
from recurrax.cli.mistakes import Mistake, told
from recurrax.cli.option_types import key_of
from recurrax.cli.task_options import check_task_options
from recurrax.train import optimizers
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from recurrax.cell import Cell
    from recurrax.tasks import Task
    from recurrax.train import Network

EXAMPLES = 8  # sequences along which the gradient flow is measured

# By the initialiser's name: what it is without a number; None: it takes none; NaN: it needs one.
_MATRICES = {
    "orthogonal": 1.0,
    "identity": 1.0,
    "spectral_radius": 1.0,
    "largest_singular_value": 1.0,
}
_BIASES = {"forget_bias": math.nan, "chrono": math.inf, "uniform_gate": None}


class Recipe(NamedTuple):
    """All that `rx.train.fit` needs."""

    task: Task
    network: Network
    optimizer: Any
    key: Any
    sequences: Sequences  # of the task, to measure the gradient flow along


def recipe(asked: Mapping[str, Any]) -> Recipe:
    """Of the options by name.

    Raises:
      Mistake: if a name is unknown, with the nearest, or a value is out of range.
    """
    for name in ("length", "hidden", "steps", "batch", "flow_every"):
        if asked[name] is not None and asked[name] < 1:
            raise Mistake(f"--{name.replace('_', '-')} must be at least 1, got {asked[name]}")
        if asked[name] is not None and asked[name] >= 2**31:  # steps are counted in int32
            raise Mistake(f"--{name.replace('_', '-')} must be below 2^31, got more")
    for name, meaning in (("rate", ""), ("clip", "; leave it out for no clipping")):
        value = asked[name]
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise Mistake(f"--{name} must be a finite number above 0, got {value:g}{meaning}")
    key = key_of(asked["seed"])
    _check_name("--cell", "cell", asked["cell"], CELLS)
    _check_name("--optimizer", "optimizer", asked["optimizer"], optimizers.NAMES)
    start = _parsed_start(asked["cell"], asked["init"])
    task = _task(asked)
    sequences = _sequences(task, key)
    cell = _cell(asked["cell"], task, asked["hidden"], start, sequences)
    return Recipe(
        task,
        train.network(cell, task.output_size, task.input_size),
        optimizers.optimizer(asked["optimizer"], asked["rate"], asked["clip"]),
        key,
        sequences,
    )


def _check_name(flag: str, what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        meant = nearest(name, known, show=str)
        choose = f"{meant} Choose from" if meant else "; choose from"
        raise Mistake(f"{flag}: unknown {what} {name!r}{choose} {', '.join(known)}")


# --- the task -------------------------------------------------------------------------------------


def _task(asked: Mapping[str, Any]) -> Task:
    name, length, text = asked["task"], asked["length"], asked["text"]
    _check_name("--task", "task", name, tasks.NAMES)
    check_task_options(name, length, text)
    options = {} if length is None else {"T": length}
    with told(ValueError, TypeError, OSError, prefix=f"--task {name}: "):
        return tasks.get(name, **options) if text is None else tasks.text(text, **options)


def _sequences(task: Task, key: Any) -> Sequences:
    """A few sequences of the task; of data, from the part that is not trained on."""
    with told(ImportError):
        data = None if task.split is None else task.split().test
    if data is None:
        batch = task.draw(keys.purpose(key, keys.EXAMPLES), EXAMPLES)
    else:
        count = data.weights.shape[1]
        columns = np.linspace(0, count - 1, min(EXAMPLES, count)).astype(int)
        batch = task.take(data, columns)
    return Sequences(task.name, np.asarray(batch.xs, np.float32), task.length)


# --- the cell -------------------------------------------------------------------------------------


def starts_for(cell: str) -> tuple[str, ...]:
    """The names of `rx.cures.init` that fit a cell."""
    if CELLS[cell].gates is not None:
        return (*_MATRICES, *_BIASES)
    return (*_MATRICES, "critical") if cell == "elman" else tuple(_MATRICES)


def _parsed_start(cell: str, given: str | None) -> tuple[str, float | None] | None:
    """`NAME` or `NAME=NUMBER` in its two parts."""
    if given is None:
        return None
    word, equals, number = given.partition("=")
    name, fitting = word.strip().replace("-", "_"), starts_for(cell)
    every = (*_MATRICES, "critical", *_BIASES)
    if name in every and name not in fitting:
        raise Mistake(
            f"--init {name} does not fit the cell {cell}; choose from {', '.join(fitting)}"
        )
    _check_name("--init", "initialiser", name, fitting)
    usual = (_MATRICES | _BIASES).get(name)
    if usual is None and equals:
        raise Mistake(f"--init {name} takes no number, got {given!r}")
    if not equals:
        if usual is not None and math.isnan(usual):
            raise Mistake(f"--init {name} needs a number, such as --init {name}=3")
        return name, usual
    try:
        return name, float(number)
    except ValueError:
        raise Mistake(f"--init {name}= needs a number, got {number!r}") from None


def _cell(
    name: str, task: Task, hidden: int, start: tuple[str, float | None] | None, seen: Sequences
) -> Cell:
    options: dict[str, Any] = {}
    if start is not None:
        with told(ValueError, TypeError, prefix=f"--init {start[0]}: "):
            options = _start(name, *start, task, seen)
    return CELLS[name].build(task.input_size, hidden, **options)


def _start(
    cell: str, name: str, value: float | None, task: Task, seen: Sequences
) -> dict[str, Any]:
    """The keyword arguments of the cell for an initialiser."""
    init = cures.init
    if name in _MATRICES:
        return {"recurrent_init": getattr(init, name)(value)}
    if name == "critical":
        # LeCun's w_in makes of the inputs a variance of their mean square.
        square = float(np.mean(np.square(seen.xs, dtype=np.float64)))
        return {"recurrent_init": init.critical(input_variance=float(f"{square:.4g}"))}
    gates = CELLS[cell].gates
    assert gates is not None  # starts_for offers these for gates only
    where: dict[str, Any] = {"gates": gates.number, "forget_gate": gates.forget}
    if name == "chrono":
        longest = max(2.0, float(task.length)) if value == math.inf else value
        bias = init.chrono(longest, **where, input_gate=gates.input)  # type: ignore[arg-type]
    elif name == "forget_bias":
        bias = init.forget_bias(value, **where)  # type: ignore[arg-type]
    else:
        bias = init.uniform_gate(**where)
    # The initialiser says the whole bias; the LSTM's own would be added to it.
    return {"bias_init": bias} | ({"forget_bias": 0.0} if cell == "lstm" else {})
