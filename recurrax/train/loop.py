"""A run of training from where it is to its end: loops, reports, checkpoints."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax import checks
from recurrax.train.evaluate import evaluate
from recurrax.train.history import History, watched_row
from recurrax.train.snapshot import Snapshot
from recurrax.train.step import advance_told, begin, blank
from recurrax.train.user_functions import check_functions

if TYPE_CHECKING:
    from recurrax.tasks import Batch, Task
    from recurrax.train.checkpoint import Loaded, Store
    from recurrax.train.ctrl_c import Heard
    from recurrax.train.history import Row
    from recurrax.train.progress import Silent
    from recurrax.train.source import Material
    from recurrax.train.step import Carry, Program, Tally

_SHORT, _LONG = 0.2, 0.8  # seconds of one call, between which Ctrl-C is heard and the bar moves


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Numbers of steps."""

    steps: int
    inner: int
    evaluate_every: int | None
    flow_every: int | None
    checkpoint_every: int

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None or name in ("steps", "inner", "checkpoint_every"):
                checks.check_positive_int(name, value)

    def goal(self, step: int) -> int:
        """Where the next report is due. Of the step alone, so that it survives an interruption."""
        every = (self.inner, self.evaluate_every, self.flow_every, self.checkpoint_every)
        return min([self.steps, *(step + n - step % n for n in every if n)])


def starting(
    program: Program,
    schedule: Schedule,
    given: Material,
    store: Store | None,
    loaded: Loaded,
    stop_when_solved: bool,
) -> Run:
    """A run that begins, or goes on, from a snapshot."""
    (params, opt_state, key, step), solved, ledger = loaded
    done, where = int(step), program.placement
    given = given.placed(where)
    given.supply.skip(done)
    carry = begin(program, params, opt_state, step, key, given.supply.example)
    check_functions(program, carry, key, given.supply.example)
    zeros = blank(program, carry, key, given.supply.example)
    key = where.place(key)
    # No step, so that compiling is no part of the time that steps take.
    still = (np.bool_(True), key, given.supply.example, np.int32(0))
    carry, tally, _ = advance_told(program, carry, where.place(zeros), *still)
    path = None if store is None else store.directory / "history.jsonl"
    names = ["loss", *tally.totals, "gradient_norm_max", "steps_per_second"]
    history = History(path, ledger, names, write=jax.process_index() == 0)
    together = jax.process_count() > 1  # then each must cut its calls as the others do
    pace = schedule.inner if together else 1
    state = (history, carry, done, solved, pace, done)
    return Run(program, schedule, given, store, stop_when_solved, together, key, tally, *state)


@dataclasses.dataclass
class Run:
    """One run; what changes while it goes on stands below."""

    program: Program
    schedule: Schedule
    given: Material
    store: Store | None
    stop_when_solved: bool
    together: bool  # with other processes
    key: Any

    tally: Tally
    history: History
    carry: Carry
    step: int
    solved: bool
    pace: int  # steps in one call
    kept: int  # the step of the last checkpoint
    ended: bool = False  # the user's batches

    def go(self, show: Silent, heard: Heard) -> None:
        """To the end, or until Ctrl-C."""
        while not (self._finished() or heard.stop):
            begin = self.step
            sums, seconds = self._interval(show, heard)
            if self.step > begin:
                self._report(begin, sums, seconds, whole=not heard.stop)
                show.report(self.history.rows[-1])
            due = self.step % self.schedule.checkpoint_every == 0
            if self._finished() or heard.stop or due:
                self._save()

    def _finished(self) -> bool:
        over = self.ended or self.step >= self.schedule.steps
        # Of data it would be the test split that chose the end.
        return over or (self.solved and self.stop_when_solved and self.given.test is None)

    def _interval(self, show: Silent, heard: Heard) -> tuple[Any, float]:
        """Steps up to the next report, in calls that each take less than a second."""
        goal, seconds, fresh, sums = self.schedule.goal(self.step), 0.0, True, None
        while self.step < goal and not heard.stop:
            count, data = self.given.supply.take(min(goal - self.step, self.pace))
            if not count:
                self.ended = True
                break
            begin = time.perf_counter()
            now = (np.bool_(fresh), self.key, data, np.int32(count))
            self.carry, self.tally, row = advance_told(self.program, self.carry, self.tally, *now)
            sums = np.asarray(row)  # waits
            took = time.perf_counter() - begin
            seconds, fresh = seconds + took, False
            self.step += count
            show.moved(self.step)
            if not self.together:
                self._adapt(count, took)
        return sums, seconds

    def _adapt(self, count: int, took: float) -> None:
        """Shorter calls, or longer ones; what they compute does not depend on it."""
        if took < _SHORT and count == self.pace:
            self.pace *= 2
        elif took > _LONG:
            self.pace = max(1, self.pace // 2)

    def _report(self, begin: int, sums: Any, seconds: float, whole: bool) -> None:
        count = self.step - begin
        *totals, largest = sums.tolist()
        row: Row = {"step": self.step}
        named = zip(self.tally.totals, totals, strict=True)
        means = {name: total / count for name, total in named}
        row |= {"loss": means["loss"]} | means
        row |= {"gradient_norm_max": largest, "steps_per_second": count / seconds}
        watched = self.carry.watched
        if watched is not None and int(watched.step) >= begin:
            row["flow"] = watched_row(jax.device_get(watched))
        task, test = self.given.task, self.given.test
        if task is not None and test is None and whole:
            self.solved = self.solved or bool(task.solved(row))
        elif task is not None and test is not None:
            found = self._evaluated(task, test)
            row |= {f"test_{name}": value for name, value in found.items()}
            self.solved = self._finished() and bool(task.solved(found))
        self.history.append(row)

    def _evaluated(self, task: Task, test: Batch) -> dict[str, float]:
        """Loss and metrics of the test data, where they are due."""
        every = self.schedule.evaluate_every
        if not (self._finished() or (every and self.step % every == 0)):
            return {}
        where, network = self.program.placement, self.program.network
        return evaluate(network, task, where, self.carry.params, test, self.given.batch_size)

    def _save(self) -> None:
        if self.store is None or self.kept == self.step:
            return
        self.kept = self.step
        if jax.process_index() == 0:
            params, opt_state, step, _ = self.carry
            snapshot = Snapshot(params, opt_state, self.key, step)
            self.store.save(snapshot, self.solved, self.history.ledger)
