"""What a run shows while it trains (a bar on a terminal, lines, or nothing), and Ctrl-C."""

from __future__ import annotations

import importlib
import math
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from recurrax.literal import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recurrax.train.history import Row

    Draw = Callable[[int, Row | None], None]
    """`draw(step, row)`: the steps that are done, and the newest row of the history."""


class Display:
    """Shows where training stands: at most once in so many seconds, and at its end.

    It draws at new rows of the history, and between them too, if it is to draw `moves`.
    """

    def __init__(self, draw: Draw, pause: float, step: int, *, moves: bool) -> None:
        self._draw, self._pause, self._step, self._moves = draw, pause, step, moves
        self._row: Row | None = None
        self._last = -math.inf

    def moved(self, step: int) -> None:
        """Note that so many steps are done."""
        self._step = step
        if self._moves:
            self._draw_if_due()

    def report(self, row: Row) -> None:
        """Note a new row of the history."""
        self._row = row
        self._draw_if_due()

    def close(self) -> None:
        """Draw a last time."""
        self._draw(self._step, self._row)

    def _draw_if_due(self) -> None:
        if time.monotonic() - self._last > self._pause:
            self._draw(self._step, self._row)
            self._last = time.monotonic()


@contextmanager
def shown(progress: bool | str, steps: int, start: int, metric: str | None) -> Iterator[Display]:
    """Show what `progress` of `fit` asks for.

    Args:
      progress: True for a bar on a terminal (lines if rich is not installed, nothing if stderr is
        no terminal), `"lines"` for lines anywhere, False for nothing.
      steps: how many there are in all.
      start: how many are done.
      metric: the one to show beside the loss.
    """
    on_terminal = progress is True and sys.stderr.isatty()
    rich = None
    if on_terminal:
        with suppress(ImportError):
            rich = importlib.import_module("rich.progress")
    if rich is not None:
        with _bar(rich, steps, start, metric) as display:
            yield display
    elif progress == "lines" or on_terminal:
        display = Display(_lines(steps, metric), 1.0, start, moves=False)
        yield display
        display.close()
    else:
        yield Display(lambda step, row: None, math.inf, start, moves=False)


def _lines(steps: int, metric: str | None) -> Draw:
    """Print a line of text on stderr for a row that was not shown yet."""
    printed = None

    def draw(step: int, row: Row | None) -> None:
        nonlocal printed
        if row is not None and row is not printed:
            printed = row
            print(f"step {row['step']}/{steps}  {words(row, metric)}", file=sys.stderr)

    return draw


@contextmanager
def _bar(rich: Any, steps: int, start: int, metric: str | None) -> Iterator[Display]:
    """Show a bar of rich's, drawn by this thread and by no other."""
    # A metric's name is its author's: [bold] in it is no order.
    seen = rich.TextColumn("{task.fields[words]}", markup=False)
    columns = ("{task.completed}/{task.total}", rich.BarColumn(), seen, rich.TimeRemainingColumn())
    console = rich.get_console().__class__(stderr=True)
    with rich.Progress(*columns, console=console, auto_refresh=False) as bar:
        task = bar.add_task("", total=steps, completed=start, words="compiling")
        bar.refresh()

        def draw(step: int, row: Row | None) -> None:
            seen = {} if row is None else {"words": words(row, metric)}
            bar.update(task, completed=step, refresh=True, **seen)

        display = Display(draw, 0.3, start, moves=True)
        yield display
        display.close()


def words(row: Row, metric: str | None) -> str:
    """Return loss, metric, gradient norm, clip fraction and steps a second, in one line."""
    parts = [f"loss {row['loss']:.4g}"]
    for name in (metric, f"test_{metric}"):
        if name in row and name != "loss":
            parts.append(f"{str(name).replace('_', ' ')} {row[name]:.4g}")
    parts.append(f"gradient norm {row['gradient_norm']:.3g}")
    if "clip_fraction" in row:
        parts.append(f"clipped {row['clip_fraction']:.0%}")
    parts.append(f"{row['steps_per_second']:.3g} steps/s")
    return visible("  ".join(parts))


# --- Ctrl-C, heard between two calls of the compiled loop, when nothing is half done --------------


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C. Its `fit` is what was reached, a `rx.train.Fit`."""

    def __init__(self, message: str, fit: Any) -> None:
        super().__init__(message)
        self.fit = fit


def interrupted(reached: Any, steps: int, directory: Any) -> Interrupted:
    """Return what Ctrl-C raises: what was reached, and how to go on."""
    text = f"training was stopped after {reached.step} of {steps} steps. "
    if directory is None:
        text += "Its params are in the fit of this exception: catch rx.train.Interrupted."
    else:
        text += f"They are saved in {directory}: the same call with resume=True goes on."
    return Interrupted(text, reached)


@contextmanager
def catch_ctrl_c() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second one interrupts at once.

    Only in the main thread, and where Python's own handler is in place; another's is not touched.
    """
    pressed = threading.Event()
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def note(number: int, frame: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
