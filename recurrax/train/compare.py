"""The comparison that papers make: cells and cures on one task, several seeds of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from recurrax import checks, keys
from recurrax.flow.watch import Watched, watch
from recurrax.tasks.task import Task
from recurrax.train.loop import Carry, Loop, Program, Schedule, check_old_spelling, evaluate
from recurrax.train.networks.network import Network, network
from recurrax.train.networks.objective import Objective
from recurrax.train.presets import Cure, cells_of, cures_of
from recurrax.train.source import ONE_DEVICE, BatchSource, task_source

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell

_EXAMPLES, _PROBES = 4, 8  # sequences and directions along which the gradient flow is measured
_JUDGED = 512  # sequences judged at once; of an endless task, all there are
_ASTRAY = 10  # a final loss above so many times a memoryless guess's has diverged


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
    optimizer: Callable[[float], Any] = optax.adam,
    report_every: int = 100,
    stop_early: bool = True,
    tell: Callable[[str, str, int, dict[str, Any]], None] | None = None,
    done: Callable[[Trial], None] | None = None,
    inner: None = None,
) -> Comparison:
    """Train every cell with every cure, several seeds of each, and measure the gradient flow.

    All seeds of one pair are one program. Seed s of each pair begins and draws its batches with
    `jax.random.split(key, seeds)[s]`, so that cures are compared on the same weights and batches;
    it is what `rx.train.fit` does with that key, to rounding.

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
      report_every: training steps between two reports.
      stop_early: end a pair once each of its seeds has solved an endless task, or has only NaN
        left. On a task made of data the first would be to choose by the test, and is not done.
      tell: `tell(cell, cure, step, seen)` at each report, what was seen being `[S]` by name.
      done: `done(trial)` after each pair.
      inner: what `report_every` was called; refused.

    Returns:
      A `Comparison`. The history of a `Trial` has the means since the report before of "loss",
      each metric, "gradient_norm" and "clip_fraction". `final` is of 512 fresh sequences, or of
      the test split. A seed has solved an endless task at the first report that reaches the goal,
      even if it rises again; a task made of data is judged once, at the end. A seed has diverged
      if a loss was not finite, or the final one is above ten times that of a memoryless guess.
      `start` and `end` are `rx.flow.watch` of four sequences along eight directions, of the cell
      without its cure.

    Raises:
      ValueError, TypeError: if an argument is not as described, or a name unknown; the nearest
        one is told.

    Example:
      >>> import jax, optax, recurrax as rx
      >>> cells = {"small": rx.cells.gru(2, 8), "large": rx.cells.gru(2, 24)}
      >>> clip = rx.train.Cure(optimizer=rx.cures.clip_by_global_norm(1.0))
      >>> task, options = rx.tasks.adding(4), {"steps": 40, "report_every": 20}
      >>> found = rx.train.compare(task, cells, {"clip": clip}, key=jax.random.key(0), **options)
      >>> [(trial.cell, trial.history["mse"].shape) for trial in found.trials]
      [('small', (2, 3)), ('large', (2, 3))]
    """
    check_old_spelling(inner)
    if not isinstance(task, Task):
        raise TypeError(
            f"task must be a rx.tasks.Task such as rx.tasks.adding(100), got {type(task).__name__}"
        )
    checks.check_key(key)
    schedule = Schedule(steps, report_every, checkpoint_every=steps)
    checks.check_positive_int("seeds", seeds)
    checks.check_positive_int("batch_size", batch_size)
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
    source = task_source(task, batch_size, ONE_DEVICE)
    grid = _Grid(task, source, key, jax.random.split(key, seeds), schedule, stop_early)
    pairs = []  # all are made before the first is trained, so that a mistake comes at once
    for (cell, cure), rate in rates.items():
        program = _program(source, networks[cell], chosen[cure], optimizer(rate))
        pairs.append(_Pair(cell, cure, rate, networks[cell].cell, program))
    trials = []
    for pair in pairs:
        trials.append(_trial(grid, pair, tell))
        if done is not None:
            done(trials[-1])
    baseline = {name: float(value) for name, value in task.baseline}
    return Comparison(task.name, task.length, task.goal, baseline, tuple(trials))


def _rates(
    given: Any, cells: Mapping[str, Any], cures: Mapping[str, Any]
) -> dict[tuple[str, str], float]:
    """Return the learning rate of each pair."""
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
    rates = {}
    for cell, cure in pairs:
        named = [name for name in (f"{cell}/{cure}", cell, "default") if name in by_name]
        if not named:
            raise ValueError(
                f"learning_rate says nothing of {cell!r}: name it, or give a 'default' for the "
                "others"
            )
        rates[cell, cure] = float(by_name[named[0]])
    return rates


class _Grid(NamedTuple):
    """What all pairs share."""

    task: Task
    source: BatchSource
    key: chex.PRNGKey
    seeds: chex.PRNGKey  # [S]
    schedule: Schedule
    stop_early: bool


class _Pair(NamedTuple):
    """A cell with a cure."""

    cell_name: str
    cure_name: str
    learning_rate: float
    cell: Cell  # without the cure
    program: Program


def _program(source: BatchSource, net: Network, cure: Cure, optimizer: Any) -> Program:
    """Return the training step of a network under a cure."""
    task: Any = source.task
    if cure.cell is not None:
        net = network(cure.cell(net.cell), net.output_size, net.input_size)
        jax.eval_shape(lambda key: net.cell.initial_state(net.cell.init(key)), jax.random.key(0))
    if cure.optimizer is not None:
        optimizer = optax.chain(cure.optimizer, optimizer)
    return Program(
        objective=Objective(net, task.loss, task.metrics, cure.regularizer),
        draw=source.draw,
        optimizer=optimizer,
        many=True,
    )


def _trial(grid: _Grid, pair: _Pair, tell: Any) -> Trial:
    """Train one pair from its first step to its last."""
    begin = time.perf_counter()
    task, program, test = grid.task, pair.program, grid.source.test
    loop = Loop(program, _fresh(program, grid.seeds), grid.source.feed)
    xs = task.draw(keys.purpose(grid.key, keys.EXAMPLES), _EXAMPLES, test).xs
    xs = xs.astype(loop.carry.params.w_out.dtype)
    start = jax.device_get(_watched(pair.cell, loop.carry.params.cell, xs, np.int32(0)))
    rows: list[dict[str, np.ndarray]] = []
    steps: list[int] = []
    solved_at = np.full(len(grid.seeds), np.nan)
    for report in loop.run(grid.schedule):
        row = {name: total / report.taken for name, total in report.totals.items()}
        rows.append(row)
        steps.append(report.step)
        if test is None:
            solved_at[np.isnan(solved_at) & task.solved(row)] = report.step
        if tell is not None:
            tell(pair.cell_name, pair.cure_name, report.step, row)
        if grid.stop_early and np.all(~np.isnan(solved_at) | ~np.isfinite(row["loss"])):
            break
    params = loop.carry.params
    data = task.draw(keys.purpose(grid.key, keys.FRESH), _JUDGED) if test is None else test
    final = evaluate(program, task, params, data, _JUDGED)
    solved_at_end = task.solved(final)
    if test is not None:
        solved_at[solved_at_end] = loop.step
    history = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    most = _ASTRAY * dict(task.baseline)["loss"]
    return Trial(
        cell=pair.cell_name,
        cure=pair.cure_name,
        learning_rate=pair.learning_rate,
        step=np.asarray(steps),
        history=history,
        solved_at=solved_at,
        solved_at_end=solved_at_end,
        diverged=~(np.isfinite(history["loss"]).all(0) & (final["loss"] <= most)),
        final=final,
        start=start,
        end=jax.device_get(_watched(pair.cell, params.cell, xs, np.int32(loop.step))),
        seconds=time.perf_counter() - begin,
    )


@partial(jax.jit, static_argnums=0)
def _fresh(program: Program, seeds: Any) -> Carry:
    """Return params and optimizer at step 0, of each seed."""

    def one(key: Any) -> Carry:
        params = program.objective.init(key)
        return Carry(params, program.optimizer.init(params), key, jnp.int32(0))

    carry: Carry = jax.vmap(one)(seeds)
    return carry


@partial(jax.jit, static_argnums=0)
def _watched(cell: Cell, params: Any, xs: Any, step: Any) -> Watched:
    """Return the gradient flow `[S]` along xs, of the params of each seed."""
    options = {"step": step, "every": 1, "examples": _EXAMPLES, "probes": _PROBES}
    found: Watched = jax.vmap(lambda own: watch(cell, own, None, xs, **options))(params)
    return found
