"""`fit`: train a cell on a task, or on batches of your own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.tasks import Task
from recurrax.train.checkpoint import Loaded, Store, check_directory
from recurrax.train.ctrl_c import Interrupted, listening
from recurrax.train.loop import Schedule, starting
from recurrax.train.network import Network, network
from recurrax.train.progress import shown
from recurrax.train.sharding import placement
from recurrax.train.snapshot import Snapshot, identity
from recurrax.train.source import material
from recurrax.train.step import Program

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import chex

    from recurrax.cell import Cell
    from recurrax.tasks import Batch
    from recurrax.train.network import NetworkParams
    from recurrax.train.snapshot import Identity
    from recurrax.train.step import Regularizer


class Fit(NamedTuple):
    """Where training stands."""

    params: NetworkParams
    opt_state: Any
    key: chex.PRNGKey  # as it was given
    step: int  # training steps done
    history: dict[str, Any]  # arrays [M] by name, an entry a report
    solved: bool  # a report reached the goal; of a data task, the test split did at the end


def fit(
    cell: Cell | Network,
    task: Task | Iterable[Batch],
    optimizer: Any,
    *,
    key: chex.PRNGKey,
    steps: int,
    batch_size: int = 32,
    params: NetworkParams | None = None,
    loss: Callable[[Any, Batch], Any] | None = None,
    metrics: Callable[[Any, Batch], dict[str, Any]] | None = None,
    regularizer: Regularizer | None = None,
    inner: int = 200,
    evaluate_every: int | None = None,
    flow_every: int | None = None,
    stop_when_solved: bool = True,
    directory: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1000,
    resume: bool = False,
    progress: bool | str = True,
) -> Fit:
    """Train a cell with a linear readout, by any optimizer of Optax.

    `params <- params + update(d (loss + regularizer) / d params)`, many steps in one compiled loop.
    Step n draws its batch from the key and n alone, with `fold_in(fold_in(key, 2**31), n)`, so that
    the same arguments give the same bits on the same machine, also when the run was stopped and
    resumed in between.

    With several devices whose number divides the batch, the batch is spread over all of them, also
    across the processes of `jax.distributed`; losses are the same to rounding. Each process then
    makes the same call, with a `directory` that all of them see.

    Args:
      cell: a `Cell`, or a `rx.train.network` of one, which batches of your own need.
      task: a `Task`; or an iterable of `rx.tasks.Batch`, all of one shape, together with `loss`.
        It ends the run where it ends. To resume it must begin again where it first began: the
        batches of the steps that are done are drawn once more, and dropped.
      optimizer: an `optax.GradientTransformation`. Where it holds a clip of `rx.cures`, the
        history tells how often it clipped.
      key: for the initial params and for the batches.
      steps: training steps in all, those before a resumption included.
      batch_size: B of a task's batches.
      params: where to start; by default `network.init` of the key. They are left as they are. A
        run that goes on from a checkpoint does not look at them.
      loss: `loss(outputs [T, B, O], batch) -> scalar` for batches of your own.
      metrics: `metrics(outputs, batch) -> {name: scalar}` for batches of your own.
      regularizer: `regularizer(cell, params, state, xs) -> scalar` of the cell's params and
        initial state, added to the loss; in the history it is the "penalty".
      inner: training steps between two reports.
      evaluate_every: training steps between two evaluations on a data task's test split, for the
        history; by default there is one, at the end. Only that one tells whether it is solved.
      flow_every: training steps between two measurements by `rx.flow.watch`, if any.
      stop_when_solved: end an endless task at the first report at which `task.solved` is true, of
        the mean metrics since the report before. It may rise again in a run that goes on. A task
        made of data is trained for all steps: to end where the test split is good would be to
        choose by it, so it is judged once, at the end.
      directory: for `history.jsonl` and `checkpoints/`; nothing is written without.
      checkpoint_every: training steps between two checkpoints, the most that a kill can cost.
      resume: go on from the newest checkpoint in the directory that is right, or begin if there
        is none. A checkpoint also knows the rows of `history.jsonl` up to it: a file that is cut,
        edited, reordered or gone is told in one warning and kept aside, the rows that can be found
        in it are used, and those that are lost are NaN in every column but "step". What it cannot
        see is up to you: the optimizer's numbers, such as its learning rate, and what a loss or
        regularizer computes.
      progress: True for a bar on a terminal, `"lines"` for lines of text anywhere, False for
        neither.

    Returns:
      A `Fit`. Its history holds, by name, an array with an entry a report: "step"; means since the
      report before of "loss", each metric, "gradient_norm" and "clip_fraction";
      "gradient_norm_max"; "steps_per_second"; "test_loss" and such, NaN where there was no
      evaluation; under "flow" a `rx.flow.Watched`, which `rx.plot.history` draws.

    Raises:
      ValueError, TypeError: if an argument is not as described, the cell does not fit the task, or
        the directory holds another run. Nothing is written over.
      ImportError: if a directory is given and orbax is not installed.
      Interrupted: a `KeyboardInterrupt`, after Ctrl-C; a checkpoint is saved before, and its
        `fit` is the `Fit` so far.

    Example:
      >>> import jax, optax, recurrax as rx
      >>> optimizer = optax.chain(rx.cures.clip_by_global_norm(1.0), optax.adam(0.01))
      >>> cell, task = rx.cells.gru(2, 16), rx.tasks.adding(4)
      >>> found = rx.train.fit(cell, task, optimizer, key=jax.random.key(0), steps=600)
      >>> found.solved, bool(found.history["mse"][-1] < 0.01)
      (True, True)
    """
    checks.check_key(key)
    _check_optimizer(optimizer)
    judges = _judges(task, loss, metrics)
    checks.check_positive_int("batch_size", batch_size)
    if progress not in (True, False, "lines"):
        raise ValueError(f'progress must be True, False or "lines", got {progress!r}')
    schedule = Schedule(steps, inner, evaluate_every, flow_every, checkpoint_every)
    net = _network(cell, task)
    given = material(task, net, batch_size)
    program = Program(
        network=net,
        draw=given.draw,
        loss=judges[0],
        metrics=judges[1],
        optimizer=optimizer,
        regularizer=regularizer,
        flow_every=flow_every,
        placement=placement(given.batch_size),
    )
    if evaluate_every is not None and given.test is None:
        raise ValueError(
            "evaluate_every needs a task made of data, with a test split; of an endless task every "
            "batch is new, and its metrics are in each report"
        )
    params = _start(net, params, key)
    penalised = regularizer is not None
    who = identity(params.cell, given.task, given.batch_size, penalised)
    store = _store(directory, resume, who)
    start = Loaded(Snapshot(params, optimizer.init(params), key, jnp.int32(0)), False, [])
    loaded = store.newest(start.snapshot) if resume and store else None
    if loaded is not None and int(loaded.snapshot.step) > steps:
        raise ValueError(
            f"steps must be at least the {int(loaded.snapshot.step)} that are done in {directory}, "
            f"got {steps}; they count from the beginning"
        )
    run = starting(program, schedule, given, store, loaded or start, stop_when_solved)
    metric = given.task.goal[0] if given.task else None
    with shown(progress, steps, run.step, metric) as show, listening() as heard:
        run.go(show, heard)
    carry, history = run.carry, run.history.arrays()
    result = Fit(carry.params, carry.opt_state, key, run.step, history, run.solved)
    if heard.stop:
        raise Interrupted(_interrupted(result, steps, directory), result)
    return result


def _network(cell: Any, task: Any) -> Network:
    own = not isinstance(task, Task)
    if isinstance(cell, Network):
        if not own and (cell.input_size, cell.output_size) != (task.input_size, task.output_size):
            raise ValueError(
                f"the network takes {cell.input_size} features and gives {cell.output_size}, but "
                f"the task {task.name!r} has {task.input_size} and asks for {task.output_size}: "
                "pass the cell alone, and the readout will fit"
            )
        return cell
    if own:
        raise TypeError(
            "cell must be a rx.train.network(cell, output_size) for batches of your own, which do "
            f"not tell the output size; got {type(cell).__name__}"
        )
    return network(cell, task.output_size, task.input_size)


def _judges(task: Any, loss: Any, metrics: Any) -> tuple[Any, Any]:
    """Loss and metrics: the task's, or the user's."""
    if isinstance(task, Task):
        if loss is not None or metrics is not None:
            raise ValueError(
                f"loss and metrics come with the task {task.name!r}: leave them out, or change the "
                "task with dataclasses.replace(task, loss=...)"
            )
        return task.loss, task.metrics
    if not isinstance(task, Iterable):
        raise TypeError(
            "task must be a rx.tasks.Task, such as rx.tasks.adding(100), or an iterable of "
            f"rx.tasks.Batch, got {type(task).__name__}"
        )
    if loss is None:
        raise ValueError(
            "loss must be given for batches of your own: loss(outputs, batch), such as "
            "rx.tasks.cross_entropy"
        )
    return loss, metrics


def _check_optimizer(optimizer: Any) -> None:
    if not (
        callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))
    ):
        raise TypeError(
            "optimizer must be an optax.GradientTransformation, such as optax.adam(1e-3), got "
            f"{type(optimizer).__name__}"
        )


def _start(net: Network, params: Any, key: Any) -> NetworkParams:
    """The user's params, which must be those of the network; or new ones."""
    if params is None:
        return net.init(key)
    expected, got = checks.show(jax.eval_shape(net.init, key)), checks.show(params)
    if got != expected:
        raise ValueError(f"params must be those of the network, {expected}, got {got}")
    return params  # type: ignore[no-any-return]


def _store(directory: Any, resume: bool, who: Identity) -> Store | None:
    if directory is None:
        if resume:
            raise ValueError("resume=True needs the directory in which the checkpoints are")
        return None
    path = Path(directory).absolute()
    check_directory(path)
    store = Store(path, who)
    if not resume and store.used():
        raise ValueError(
            f"directory {directory} holds a run already. resume=True goes on with it; another "
            "directory begins anew. Nothing was written over."
        )
    return store


def _interrupted(fit: Fit, steps: int, directory: Any) -> str:
    text = f"training was stopped after {fit.step} of {steps} steps. "
    if directory is None:
        return text + "Its params are in the fit of this exception: catch rx.train.Interrupted."
    return text + f"They are saved in {directory}: the same call with resume=True goes on."
