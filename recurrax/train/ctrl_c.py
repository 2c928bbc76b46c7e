"""Ctrl-C, heard between two calls of the compiled loop, when nothing is half done."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C. Its `fit` is what was reached, a `rx.train.Fit`."""

    def __init__(self, message: str, fit: Any) -> None:
        super().__init__(message)
        self.fit = fit


class Heard:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.stop = False


@contextmanager
def listening() -> Iterator[Heard]:
    """While this lasts the first Ctrl-C sets `stop`, and the second one interrupts at once.

    Only in the main thread, and where Python's own handler is in place; another's is not touched.
    """
    heard = Heard()
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield heard
        return

    def hear(number: int, frame: Any) -> None:
        heard.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
