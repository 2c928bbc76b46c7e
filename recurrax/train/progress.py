"""What training shows while it runs: a bar on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import math
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recurrax.literal import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.train.history import Row

_REFRESH = 0.3  # seconds between two looks of the bar
_LINES = 1.0  # seconds between two lines


class Silent:
    """Shows nothing."""

    def moved(self, step: int) -> None:
        """So many steps are done."""

    def report(self, row: Row) -> None:
        """A row of the history is new."""

    def close(self) -> None:
        """Nothing comes after this."""


class Lines(Silent):
    """A line of text on stderr for a row of the history, at most one a second."""

    def __init__(self, steps: int, metric: str | None) -> None:
        self._steps, self._metric = steps, metric
        self._last = -math.inf
        self._waiting: Row | None = None

    def report(self, row: Row) -> None:
        self._waiting = row
        if time.monotonic() - self._last > _LINES:
            self.close()

    def close(self) -> None:
        if self._waiting is not None:
            seen = words(self._waiting, self._metric)
            print(f"step {self._waiting['step']}/{self._steps}  {seen}", file=sys.stderr)
            self._waiting, self._last = None, time.monotonic()


class Bar(Silent):
    """A bar of rich's. It is drawn by this thread, now and then, and by no other."""

    def __init__(self, bar: Any, task: Any, start: int, metric: str | None) -> None:
        self._bar, self._task, self._metric = bar, task, metric
        self._last = -math.inf
        self._step = start
        self._row: Row | None = None

    def moved(self, step: int) -> None:
        self._step = step
        if time.monotonic() - self._last > _REFRESH:
            self.close()

    def report(self, row: Row) -> None:
        self._row = row

    def close(self) -> None:
        seen = {} if self._row is None else {"words": words(self._row, self._metric)}
        self._bar.update(self._task, completed=self._step, refresh=True, **seen)
        self._last = time.monotonic()


@contextmanager
def shown(progress: bool | str, steps: int, start: int, metric: str | None) -> Iterator[Silent]:
    """What `progress` of `fit` asks for.

    Args:
      progress: True for a bar on a terminal (lines if rich is not installed, nothing if stderr is
        no terminal), `"lines"` for lines anywhere, False for nothing.
      steps: how many there are in all.
      start: how many are done.
      metric: the one to show beside the loss.
    """
    rich = _rich() if progress is True and sys.stderr.isatty() else None
    if progress == "lines" or (progress is True and sys.stderr.isatty() and rich is None):
        lines = Lines(steps, metric)
        yield lines
        lines.close()
    elif rich is None:
        yield Silent()
    else:
        # A metric's name is its author's: [bold] in it is no order.
        seen = rich.TextColumn("{task.fields[words]}", markup=False)
        columns = ("{task.completed}/{task.total}", rich.BarColumn(), seen)
        clock = rich.TimeRemainingColumn()
        console = rich.get_console().__class__(stderr=True)
        with rich.Progress(*columns, clock, console=console, auto_refresh=False) as bar:
            task = bar.add_task("", total=steps, completed=start, words="compiling")
            bar.refresh()
            show = Bar(bar, task, start, metric)
            yield show
            show.close()


def words(row: Row, metric: str | None) -> str:
    """Loss, metric, gradient norm, clip fraction and steps a second, in one line."""
    parts = [f"loss {row['loss']:.4g}"]
    for name in (metric, f"test_{metric}"):
        if name in row and name != "loss":
            parts.append(f"{str(name).replace('_', ' ')} {row[name]:.4g}")
    parts.append(f"gradient norm {row['gradient_norm']:.3g}")
    if "clip_fraction" in row:
        parts.append(f"clipped {row['clip_fraction']:.0%}")
    parts.append(f"{row['steps_per_second']:.3g} steps/s")
    return visible("  ".join(parts))


def _rich() -> Any:
    try:
        import rich.progress
    except ImportError:
        return None
    return rich.progress
