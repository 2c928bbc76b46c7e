"""`fit`: train a cell or a model of your own, on a task or on batches of your own."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.train.checkpoint import Loaded, Store, check_directory, identity
from recurrax.train.history import History, flat, learning_rates
from recurrax.train.loop import Carry, Loop, Program, Schedule, check_old_spelling, evaluate
from recurrax.train.networks.network import NetworkParams
from recurrax.train.networks.objective import objective_of
from recurrax.train.progress import catch_ctrl_c, interrupted, shown
from recurrax.train.source import batch_source
from recurrax.train.truncation.chunk_length import with_truncation
from recurrax.train.truncation.truncated import left_before
from recurrax.train.user_functions import check_functions, check_takes

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    import chex

    from recurrax.cell import Cell
    from recurrax.tasks.batch import Batch
    from recurrax.tasks.task import Task
    from recurrax.train.history import Row
    from recurrax.train.loop import Report
    from recurrax.train.networks.model import Model
    from recurrax.train.networks.network import Network
    from recurrax.train.networks.objective import Objective, Regularizer
    from recurrax.train.source import BatchSource


class Fit(NamedTuple):
    """Where training stands."""

    params: Any  # `NetworkParams` of a cell, a model's own of a model
    opt_state: Any
    key: chex.PRNGKey  # as it was given
    step: int  # training steps done
    history: dict[str, Any]  # arrays [M] by name, an entry a report
    solved: bool  # a report reached the goal; of a data task, the test split did at the end


def fit(
    cell: Cell | Network | Model | tuple[Callable[..., Any], Callable[..., Any]],
    task: Task | Iterable[Batch],
    optimizer: Any,
    *,
    key: chex.PRNGKey,
    steps: int,
    batch_size: int = 32,
    params: Any = None,
    loss: Callable[[Any, Batch], Any] | None = None,
    metrics: Callable[[Any, Batch], dict[str, Any]] | None = None,
    regularizer: Regularizer | None = None,
    report_every: int = 200,
    evaluate_every: int | None = None,
    flow_every: int | None = None,
    truncate: int | str | None = None,
    truncate_every: int = 500,
    stop_when_solved: bool = True,
    directory: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    progress: bool | str = True,
    log: Callable[[int, dict[str, float]], Any] | None = None,
    inner: None = None,
) -> Fit:
    """Train a cell with a linear readout, or a model of your own, by any optimizer of Optax.

    `params <- params + update(d (loss + regularizer) / d params)`, many steps in one compiled loop.
    Step n draws its batch from the key and n alone, with `fold_in(fold_in(key, 2**31), n)`, so that
    the same arguments give the same bits on the same machine, also when the run was stopped and
    resumed in between.

    With several devices whose number divides the batch, the batch is spread over all of them, also
    across the processes of `jax.distributed`; losses are the same to rounding. Each process then
    makes the same call, with a `directory` that all of them see.

    Args:
      cell: a `Cell`, or a `rx.train.network` of one, which batches of your own need; or any
        functions: a `rx.train.model`, or a pair `(init, apply)`, as is said there.
      task: a `Task`; or an iterable of `rx.tasks.Batch`, all of one shape, together with `loss`.
        It ends the run where it ends. To resume it must begin where it first began: the batches
        of the steps that are done are drawn once more, and dropped. Where they have `begins`, a
        row for which that is False goes on from the state in which the batch before left it.
      optimizer: an `optax.GradientTransformation`. Where it holds a clip of `rx.cures`, the
        history tells how often it clipped. A learning rate is in the history where the optimizer
        keeps it: of a schedule `optax.inject_hyperparams(optax.adam)(learning_rate=schedule)` does,
        `optax.adam(schedule)` does not.
      key: for the initial params, for the batches, and for what a model draws.
      steps: training steps in all, those before a resumption included.
      batch_size: B of a task's batches.
      params: where to start, by default `init` of the key. They are left as they are, and
        not looked at by a run that goes on from a checkpoint.
      loss: `loss(outputs [T, B, O], batch) -> scalar` for batches of your own.
      metrics: `metrics(outputs, batch) -> {name: scalar}` for batches of your own.
      regularizer: `regularizer(cell, params, state, xs) -> scalar` of the cell's params and
        initial state, added to the loss; in the history it is the "penalty". A model has none.
      report_every: training steps between two reports.
      evaluate_every: training steps between two evaluations on a data task's test split; by
        default there is one, at the end, which alone tells whether the task is solved.
      flow_every: training steps between two measurements by `rx.flow.watch`, if any: of the cell,
        or of the `parts` of a model.
      truncate: k, to cut the gradient between chunks of k steps, while the state is carried on:
        truncated backpropagation, with one update a batch by the loss over all of its outputs.
        Memory is that of one chunk, beside what a regularizer takes. `"auto"` measures how far
        errors travel (which takes memory of its own), and takes a power of two that is at least
        4 (K + 1), or T if that is less, with K = `rx.flow.truncation` of the `rx.flow.lag_profile`
        of the loss on the next batch: its first 4 rows, over at most 1024 steps up to the last
        that the loss looks at. Where the gradient does not fade within half of these, k is T.
      truncate_every: training steps between two such measurements; each begins a new report.
      stop_when_solved: end an endless task at the first report at which `task.solved` is true, of
        the mean metrics since the report before. A task made of data is trained for all steps,
        and judged once, at the end: to end where the test split is good would be to choose by it.
      directory: for `history.jsonl` and `checkpoints/`; nothing is written without.
      checkpoint_every: training steps between two checkpoints, the most that a kill can cost.
      resume: go on from the newest checkpoint in the directory that is right, or begin if there
        is none. It also knows the rows of `history.jsonl` up to it: a file that is cut, edited,
        reordered or gone is told in one warning and kept aside, the rows that can be found in it
        are used, and those that are lost are NaN in every column but "step". What it cannot see is
        up to you: the optimizer's numbers, `truncate_every`, and what functions of yours compute.
      progress: True for a bar on a terminal, `"lines"` for lines of text anywhere, False for
        neither.
      log: `log(step, record)` at each report, with the numbers of the history by name, those of
        the flow as `"flow/horizon"`. What it raises ends the run, after a checkpoint. Rows after
        the checkpoint from which a run goes on come once more. For TensorBoard and for wandb::

          from tensorboardX import SummaryWriter  # or from torch.utils.tensorboard
          with SummaryWriter("runs/1") as w:
              fit(..., log=lambda step, record: [w.add_scalar(*r, step) for r in record.items()])

          import wandb
          with wandb.init(project="mine") as run:
              fit(..., log=lambda step, record: run.log(record, step=step))
      inner: what `report_every` was called; refused.

    Returns:
      A `Fit`. Its history holds, by name, an array with an entry a report: "step"; means since the
      report before of "loss", each metric, "gradient_norm" and "clip_fraction";
      "gradient_norm_max"; "steps_per_second"; "truncate", the k in force; "learning_rate", that of
      the last step, of several "learning_rate/group"; "test_loss" and such, NaN where there was no
      evaluation; under "flow" a `rx.flow.Watched`, or one by the name of each part, which
      `rx.plot.history` draws.

    Raises:
      ValueError, TypeError: if an argument is not as described, the cell does not fit the task, or
        the directory holds another run. Nothing is written over.
      ImportError: if a directory is given and orbax is not installed.
      Interrupted: a `KeyboardInterrupt`, after Ctrl-C and a checkpoint; its `fit` is the `Fit` so
        far.

    Example:
      >>> import jax, optax, recurrax as rx
      >>> optimizer = optax.chain(rx.cures.clip_by_global_norm(1.0), optax.adam(0.01))
      >>> cell, task = rx.cells.gru(2, 16), rx.tasks.adding(4)
      >>> found = rx.train.fit(cell, task, optimizer, key=jax.random.key(0), steps=600)
      >>> found.solved, bool(found.history["mse"][-1] < 0.01)
      (True, True)
    """
    check_old_spelling(inner)
    checks.check_key(key)
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise TypeError(
            "optimizer must be an optax.GradientTransformation, such as optax.adam(1e-3), got "
            f"{type(optimizer).__name__}"
        )
    objective = objective_of(cell, task, loss, metrics, regularizer)
    checks.check_positive_int("batch_size", batch_size)
    checks.check_positive_int("truncate_every", truncate_every)
    objective = with_truncation(objective, truncate)
    if progress not in (True, False, "lines"):
        raise ValueError(f'progress must be True, False or "lines", got {progress!r}')
    if log is not None:
        check_takes("log", log, ("step", "record"))
    schedule = Schedule(
        steps, report_every, checkpoint_every, evaluate_every, flow_every, stop_when_solved
    )
    if truncate == "auto":
        schedule = dataclasses.replace(schedule, truncate_every=truncate_every)
    source = batch_source(task, objective.network, batch_size)
    if evaluate_every is not None and source.test is None:
        raise ValueError(
            "evaluate_every needs a task made of data, with a test split; of an endless task every "
            "batch is new, and its metrics are in each report"
        )
    program = Program(
        objective=objective,
        draw=source.draw,
        optimizer=optimizer,
        flow_every=flow_every,
        placement=source.placement,
    )
    params = _begun_with(params, objective, key)
    store = None
    if directory is not None:
        trained = params.cell if isinstance(params, NetworkParams) else params
        size, penalised = source.batch_size, regularizer is not None
        who = identity(trained, source.task, size, penalised, truncate)
        store = _opened(directory, resume, who)
    elif resume:
        raise ValueError("resume=True needs the directory in which the checkpoints are")
    carry = Carry(params, optimizer.init(params), key, jnp.int32(0))
    carry = carry._replace(state=left_before(program, carry, source.feed.example))
    found = store.newest(carry) if store and resume else None
    loaded = found or Loaded(carry, False, [])
    if truncate == "auto":
        program = program.truncated(loaded.truncate or 0)
    if int(loaded.carry.step) > steps:
        raise ValueError(
            f"steps must be at least the {int(loaded.carry.step)} that are done in {directory}, "
            f"got {steps}; they count from the beginning"
        )
    run = _Run(program, source, schedule, store, loaded)
    metric = source.task.goal[0] if source.task else None
    with shown(progress, steps, run.loop.step, metric) as show, catch_ctrl_c() as pressed:
        reports = run.loop.run(schedule, pressed, show.moved)
        while not run.finished() and (report := next(reports, None)):
            row = run.record(report, whole=not pressed.is_set())
            show.report(row)
            if report.step % checkpoint_every == 0:
                run.save()
            if log is not None and jax.process_index() == 0:
                with run.saved_if_it_fails():
                    log(report.step, flat(row))
        run.save()
    carry, history = run.loop.carry, run.history.arrays()
    result = Fit(carry.params, carry.opt_state, key, run.loop.step, history, run.solved)
    if pressed.is_set():
        raise interrupted(result, steps, directory)
    return result


def _begun_with(given: Any, objective: Objective, key: chex.PRNGKey) -> Any:
    """Return the params to begin with, which must be those of the network; None draws them."""
    if given is None:
        return objective.init(key)
    expected, got = checks.show(jax.eval_shape(objective.init, key)), checks.show(given)
    if got != expected:
        raise ValueError(f"params must be those of the network, {expected}, got {got}")
    return given


def _opened(directory: Any, resume: bool, who: dict[str, str]) -> Store:
    """Return the checkpoints in a directory, which must be usable, and unused unless to resume."""
    path = Path(directory).absolute()
    check_directory(path)
    store = Store(path, who)
    if not resume and store.used():
        raise ValueError(
            f"directory {directory} holds a run already. resume=True goes on with it; another "
            "directory begins anew. Nothing was written over."
        )
    return store


class _Run:
    """What is kept of a run on its way: its history, its checkpoints, and whether it is solved."""

    def __init__(
        self,
        program: Program,
        source: BatchSource,
        schedule: Schedule,
        store: Store | None,
        loaded: Loaded,
    ) -> None:
        check_functions(program, loaded.carry, source)
        self.loop = Loop(program, loaded.carry, source.feed)
        path = None if store is None else store.directory / "history.jsonl"
        names = ["loss", *self.loop.names, "gradient_norm_max", "steps_per_second"]
        names += learning_rates(loaded.carry.opt_state)
        self.history = History(path, loaded.ledger, names, write=jax.process_index() == 0)
        self.solved = loaded.solved
        self._program, self._source, self._schedule = program, source, schedule
        self._store, self._saved = store, self.loop.step

    def finished(self) -> bool:
        """Return whether no step is to come."""
        over = self.loop.ended or self.loop.step >= self._schedule.steps
        # Of data it would be the test split that chose the end.
        stops = self._schedule.stop_when_solved and self._source.test is None
        return over or (self.solved and stops)

    def record(self, report: Report, whole: bool) -> Row:
        """Add a row to the history; `whole` unless Ctrl-C has cut it short."""
        means = {name: float(total) / report.taken for name, total in report.totals.items()}
        row: Row = {"step": report.step, "loss": means["loss"]} | means
        row |= {"gradient_norm_max": float(report.largest)}
        row |= {"steps_per_second": report.taken / report.seconds}
        row |= learning_rates(self.loop.carry.opt_state)
        if self.loop.truncate is not None:
            row["truncate"] = self.loop.truncate
        watched = jax.tree.map(float, jax.device_get(self.loop.carry.watched or {}))
        flow = {
            name: own._replace(step=int(own.step))._asdict()
            for name, own in watched.items()
            if own.step >= report.step - report.taken
        }
        if flow:  # of a part without a name, alone
            row["flow"] = flow.get("", flow)
        task, test, every = self._source.task, self._source.test, self._schedule.evaluate_every
        if task is not None and test is None and whole:
            self.solved = self.solved or self._reached(row)
        elif task is not None and test is not None:
            self.solved = False
            if self.finished() or (every and report.step % every == 0):
                size = self._source.batch_size
                found = evaluate(self._program, task, self.loop.carry.params, test, size)
                row |= {f"test_{name}": float(value) for name, value in found.items()}
                self.solved = self.finished() and self._reached(found)
        self.history.append(row)
        return row

    def _reached(self, metrics: dict[str, Any]) -> bool:
        """Whether the goal is reached; a loss of the user's own need not tell."""
        task: Any = self._source.task
        return task.goal[0] in metrics and bool(task.solved(metrics))

    @contextlib.contextmanager
    def saved_if_it_fails(self) -> Iterator[None]:
        """Write a checkpoint before an error of what is run inside goes on."""
        try:
            yield
        except BaseException:
            self.save()
            raise

    def save(self) -> None:
        """Write a checkpoint, unless there is one of this step."""
        if self._store is None or self._saved == self.loop.step:
            return
        self._saved = self.loop.step
        if jax.process_index() == 0:
            chosen = self.loop.truncate if self._schedule.truncate_every else None
            self._store.save(self.loop.carry, self.solved, self.history.ledger, chosen)
