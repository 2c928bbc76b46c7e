"""The loop that trains one seed or many: calls of the compiled loop, from report to report."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from recurrax import checks
from recurrax.train.step import Steps, advance_and_report, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recurrax.train.source import Feed
    from recurrax.train.step import Carry, Program

_SHORT, _LONG = 0.2, 0.8  # seconds of one call, between which Ctrl-C is heard and the bar moves


@dataclasses.dataclass(frozen=True)
class Schedule:
    """After how many training steps what is due, and when training ends."""

    steps: int
    report_every: int
    checkpoint_every: int
    evaluate_every: int | None = None
    flow_every: int | None = None
    stop_when_solved: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "report_every", "evaluate_every", "flow_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None or name not in ("evaluate_every", "flow_every"):
                checks.check_positive_int(name, value)

    def next_report(self, step: int) -> int:
        """Return where the next report is due: of the step alone, to survive an interruption."""
        every = (self.report_every, self.evaluate_every, self.flow_every, self.checkpoint_every)
        return min([self.steps, *(step + n - step % n for n in every if n)])


def check_old_spelling(inner: Any) -> None:
    """Raise if the training steps between two reports have the name that they had before."""
    if inner is not None:
        raise TypeError(f"inner is called report_every now: write report_every={inner!r}")


class Report(NamedTuple):
    """What was seen since the report before."""

    step: int  # training steps done in all
    taken: int  # of these, since the report before
    totals: dict[str, Any]  # [] or [S] by name, summed over these steps
    largest: Any  # [] or [S], the largest gradient norm of these steps
    seconds: float


class Loop:
    """Training that goes on from a carry, for one seed or, with a leading axis [S], for many."""

    def __init__(self, program: Program, key: Any, carry: Carry, feed: Feed) -> None:
        self.step = int(np.ravel(carry.step)[0])
        self.ended = False  # the user's batches
        self._program, self._feed = program, feed
        self._key = program.placement.place(key)
        feed.skip(self.step)
        self.carry, self.sums = start(program, carry, key, feed.example)
        self._pace = 1  # steps in one call
        # No step, so that compiling is no part of the time that steps take.
        self._call(True, feed.example, 0)

    def run(
        self,
        schedule: Schedule,
        ctrl_c: CtrlC | None = None,
        moved: Callable[[int], None] | None = None,
    ) -> Iterator[Report]:
        """Train to the end of the schedule or of the batches, or until Ctrl-C.

        Args:
          schedule: where reports are due.
          ctrl_c: whether to stop, looked at between two calls.
          moved: `moved(step)` after each call.

        Yields:
          A `Report` where one is due, and where training stops.
        """
        ctrl_c = ctrl_c or CtrlC()
        together = jax.process_count() > 1  # then each must cut its calls as the others do
        if together:
            self._pace = schedule.report_every
        while self.step < schedule.steps and not (self.ended or ctrl_c.pressed):
            begin, seconds, row = self.step, 0.0, None
            goal = schedule.next_report(begin)
            while self.step < goal and not ctrl_c.pressed:
                count, data = self._feed.take(min(goal - self.step, self._pace))
                if not count:
                    self.ended = True
                    break
                clock = time.perf_counter()
                row = self._call(self.step == begin, data, count)
                took = time.perf_counter() - clock
                seconds += took
                self.step += count
                if moved is not None:
                    moved(self.step)
                if not together:
                    self._adapt(count, took)
            if row is not None:
                totals = dict(zip(self.sums.totals, row, strict=False))
                yield Report(self.step, self.step - begin, totals, row[-1], seconds)

    def _call(self, fresh: bool, data: Any, count: int) -> np.ndarray:
        """Take `count` steps, and wait for what was seen."""
        steps = Steps(np.bool_(fresh), self._key, data, np.int32(count))
        self.carry, self.sums, row = advance_and_report(self._program, self.carry, self.sums, steps)
        return np.asarray(row)

    def _adapt(self, count: int, took: float) -> None:
        """Make calls shorter, or longer; what they compute does not depend on it."""
        if took < _SHORT and count == self._pace:
            self._pace *= 2
        elif took > _LONG:
            self._pace = max(1, self._pace // 2)


# --- Ctrl-C, heard between two calls of the compiled loop, when nothing is half done --------------


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C. Its `fit` is what was reached, a `rx.train.Fit`."""

    def __init__(self, message: str, fit: Any) -> None:
        super().__init__(message)
        self.fit = fit


class CtrlC:
    """Whether Ctrl-C was pressed."""

    pressed = False


@contextmanager
def catch() -> Iterator[CtrlC]:
    """While this lasts the first Ctrl-C sets `pressed`, and the second one interrupts at once.

    Only in the main thread, and where Python's own handler is in place; another's is not touched.
    """
    ctrl_c = CtrlC()
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield ctrl_c
        return

    def note(number: int, frame: Any) -> None:
        ctrl_c.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield ctrl_c
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
