"""The comparison that papers make: cells and cures on one task, several seeds of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import optax

from recurrax import checks, keys
from recurrax.tasks import Task
from recurrax.train.many_seeds import EXAMPLES, advance_seeds, flow, judged, start
from recurrax.train.network import Network, network
from recurrax.train.presets import Cure, cells_of, cures_of
from recurrax.train.sharding import Placement
from recurrax.train.source import Drawn
from recurrax.train.step import Program

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell
    from recurrax.flow import Watched

_ASTRAY = 10  # a final loss above so many times a memoryless guess's has diverged

Optimizer = Callable[[float], Any]
"""`optimizer(learning_rate) -> optax.GradientTransformation`."""


class Trial(NamedTuple):
    """One cell with one cure: M reports of S seeds."""

    cell: str
    cure: str
    learning_rate: float
    step: chex.Array  # int [M], how many training steps were done
    history: dict[str, chex.Array]  # [M, S] by name
    solved_at: chex.Array  # [S], the first step at which the goal was seen reached; nan: never
    solved_at_end: chex.Array  # bool [S], whether `final` reaches the goal
    diverged: chex.Array  # bool [S]
    final: dict[str, chex.Array]  # [S] by name, on sequences that were not trained on
    start: Watched  # fields [S], the gradient flow before training
    end: Watched  # fields [S], after it
    seconds: float  # compilation included


class Comparison(NamedTuple):
    """A grid of cells and cures on one task."""

    task: str
    length: int  # T
    goal: tuple[str, str, float]  # (metric, relation, value)
    baseline: dict[str, float]  # loss and metrics of a guess without memory
    trials: tuple[Trial, ...]  # cell by cell, in each cure by cure


def compare(
    task: Task,
    cells: Mapping[str, Cell] | Sequence[str],
    cures: Mapping[str, Cure] | Sequence[str] = ("none",),
    *,
    key: chex.PRNGKey,
    steps: int,
    seeds: int = 3,
    batch_size: int = 32,
    hidden_size: int = 64,
    learning_rate: float | Mapping[str, float] = 1e-3,
    optimizer: Optimizer = optax.adam,
    inner: int = 100,
    stop_early: bool = True,
    tell: Callable[[str, str, int, dict[str, Any]], None] | None = None,
    done: Callable[[Trial], None] | None = None,
) -> Comparison:
    """Train every cell with every cure, several seeds of each, and measure the gradient flow.

    All seeds of one pair are one program: `jax.vmap` over the seeds of a loop over training steps.
    Seed s of each pair begins and draws its batches with `jax.random.split(key, seeds)[s]`, so
    that cures are compared on the same weights and batches; it is what `rx.train.fit` does with
    that key, to rounding.

    Args:
      task: a `Task`.
      cells: cells by name, or names of presets: `rx.train.CELLS`.
      cures: a `rx.train.Cure` by name, or names of presets: `rx.train.CURES`.
      key: of everything.
      steps: training steps, the most of each pair.
      seeds: S.
      batch_size: B of each seed.
      hidden_size: H of preset cells.
      learning_rate: of all; or by name of a cell, or of a pair as in `"lstm/clip"`, with
        `"default"` for the others.
      optimizer: `optimizer(learning_rate)`, behind the cure's transformation.
      inner: training steps between two reports.
      stop_early: end a pair once each of its seeds has solved an endless task, or has only NaN
        left. On a task made of data the first would be to choose by the test, and is not done.
      tell: `tell(cell, cure, step, seen)` at each report, what was seen being `[S]` by name.
      done: `done(trial)` after each pair.

    Returns:
      A `Comparison`. The history of a `Trial` has the means since the report before of "loss",
      each metric, "gradient_norm" and "clip_fraction". `final` is of 512 fresh sequences, or of
      the test split, and `solved_at_end` says whether it reaches the goal. A seed has solved an
      endless task at the first report that reaches the goal, even if it rises again; a task made
      of data is judged once, at the end. A seed has diverged if a loss was not finite, or the
      final one is above ten times that of a memoryless guess; its numbers are what they are, NaN
      too. `start` and `end` are `rx.flow.watch` of four sequences along eight directions, of the
      cell without its cure.

    Raises:
      ValueError, TypeError: if an argument is not as described, or a name unknown; the nearest
        one is told.

    Example:
      >>> import jax, optax, recurrax as rx
      >>> cells = {"small": rx.cells.gru(2, 8), "large": rx.cells.gru(2, 24)}
      >>> clip = rx.train.Cure(optimizer=rx.cures.clip_by_global_norm(1.0))
      >>> found = rx.train.compare(
      ...     rx.tasks.adding(4), cells, {"clip": clip}, key=jax.random.key(0), steps=40, inner=20
      ... )
      >>> [(trial.cell, trial.history["mse"].shape) for trial in found.trials]
      [('small', (2, 3)), ('large', (2, 3))]
    """
    _check(task, key, steps=steps, seeds=seeds, batch_size=batch_size, inner=inner)
    networks = {
        name: network(cell, task.output_size, task.input_size)
        for name, cell in cells_of(cells, task, hidden_size).items()
    }
    chosen = cures_of(cures)
    rates = _rates(learning_rate, networks, chosen)
    if not callable(optimizer):
        raise TypeError(
            "optimizer must be a function of the learning rate, such as optax.adam itself, got "
            f"{type(optimizer).__name__}: write optimizer=optax.adam and learning_rate=1e-3"
        )
    grid = _Grid(task, key, jax.random.split(key, seeds), steps, batch_size, inner, stop_early)
    programs = {
        (cell, cure): _program(grid, networks[cell], chosen[cure], optimizer(rate))
        for (cell, cure), rate in rates.items()
    }
    trials = []
    for (cell, cure), program in programs.items():
        names = (cell, cure, rates[cell, cure])
        say = partial(tell or _silent, cell, cure)
        trials.append(_trial(grid, networks[cell], program, names, say))
        (done or _silent)(trials[-1])
    baseline = {name: float(value) for name, value in task.baseline}
    return Comparison(task.name, task.length, task.goal, baseline, tuple(trials))


class _Grid(NamedTuple):
    """What all pairs share."""

    task: Task
    key: chex.PRNGKey
    keys: chex.PRNGKey  # [S]
    steps: int
    batch_size: int
    inner: int
    stop_early: bool


def _program(grid: _Grid, net: Network, cure: Cure, optimizer: Any) -> Program:
    """A training step of the network under a cure."""
    if cure.cell is not None:
        net = network(cure.cell(net.cell), net.output_size, net.input_size)
        jax.eval_shape(lambda key: net.cell.initial_state(net.cell.init(key)), grid.key)  # it fits
    if cure.optimizer is not None:
        optimizer = optax.chain(cure.optimizer, optimizer)
    return Program(
        network=net,
        draw=Drawn(grid.task, grid.batch_size),
        loss=grid.task.loss,
        metrics=grid.task.metrics,
        optimizer=optimizer,
        regularizer=cure.regularizer,
        flow_every=None,
        placement=Placement(None),
    )


def _trial(
    grid: _Grid, net: Network, program: Program, names: tuple[str, str, float], tell: Any
) -> Trial:
    """One pair from its first step to its last."""
    begin = time.perf_counter()
    data, test = (None, None) if grid.task.split is None else jax.device_put(grid.task.split())
    carry = start(program, grid.keys)
    xs = grid.task.draw(keys.purpose(grid.key, keys.EXAMPLES), EXAMPLES, test).xs
    measure = partial(flow, net.cell, xs.astype(carry.params.w_out.dtype))
    first = measure(carry.params.cell, 0)
    rows: list[dict[str, np.ndarray]] = []
    ends: list[int] = []
    solved_at = np.full(len(grid.keys), np.nan)
    while not ends or ends[-1] < grid.steps:
        done = ends[-1] if ends else 0
        count = min(grid.inner, grid.steps - done)
        carry, tally = advance_seeds(program, carry, grid.keys, data, np.int32(count))
        row = {name: np.asarray(total) / count for name, total in tally.totals.items()}
        if test is None:
            solved_at[np.isnan(solved_at) & grid.task.solved(row)] = done + count
        rows.append(row)
        ends.append(done + count)
        tell(done + count, row)
        if grid.stop_early and np.all(~np.isnan(solved_at) | ~np.isfinite(row["loss"])):
            break
    final = judged(grid.task, program.network, carry.params, grid.key, test)
    solved_at_end = grid.task.solved(final)
    if test is not None:
        solved_at[solved_at_end] = ends[-1]
    history = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Trial(
        *names,
        step=np.asarray(ends),
        history=history,
        solved_at=solved_at,
        solved_at_end=solved_at_end,
        diverged=_diverged(grid.task, history["loss"], final["loss"]),
        final=final,
        start=first,
        end=measure(carry.params.cell, ends[-1]),
        seconds=time.perf_counter() - begin,
    )


def _diverged(task: Task, losses: np.ndarray, final: np.ndarray) -> np.ndarray:
    sane: np.ndarray = np.isfinite(losses).all(0) & (final <= _ASTRAY * dict(task.baseline)["loss"])
    return ~sane


# --- arguments --------------------------------------------------------------------------------


def _check(task: Any, key: Any, **counts: Any) -> None:
    if not isinstance(task, Task):
        raise TypeError(
            f"task must be a rx.tasks.Task such as rx.tasks.adding(100), got {type(task).__name__}"
        )
    checks.check_key(key)
    for name, count in counts.items():
        checks.check_positive_int(name, count)


def _rates(
    given: Any, cells: Mapping[str, Any], cures: Mapping[str, Any]
) -> dict[tuple[str, str], float]:
    """The learning rate of each pair."""
    by_name = given if isinstance(given, Mapping) else {"default": given}
    pairs = [(cell, cure) for cell in cells for cure in cures]
    known = {"default", *cells, *("/".join(pair) for pair in pairs)}
    for name, rate in by_name.items():
        if name not in known:
            raise ValueError(
                f"learning_rate names {name!r}, which is neither a cell nor a pair that is "
                f"compared: {', '.join(sorted(known))}"
            )
        checks.check_number("learning_rate", rate)
        if rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {rate}")

    def of(cell: str, cure: str) -> float:
        for name in (f"{cell}/{cure}", cell, "default"):
            if name in by_name:
                return float(by_name[name])
        raise ValueError(
            f"learning_rate says nothing of {cell!r}: name it, or give a 'default' for the others"
        )

    return {pair: of(*pair) for pair in pairs}


def _silent(*_: Any) -> None:
    """Nobody is told."""
