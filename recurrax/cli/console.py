"""How the command speaks: sentences, tables, JSON, a bar while one waits, its user's mistakes."""

from __future__ import annotations

import json
import math
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from recurrax.literal import readable, visible
from recurrax.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import JustifyMethod

NO_PICTURE = 1  # the exit code where the numbers are there and a picture is not


class Mistake(Exception):
    """Bad input, explained in one sentence."""


@contextmanager
def as_mistakes(*errors: type[Exception], prefix: str = "") -> Iterator[None]:
    """Turn errors of these kinds, whose messages say how to mend them, into mistakes."""
    try:
        yield
    except errors as error:
        raise Mistake(f"{prefix}{error}") from None


def terminal(*, stderr: bool = False) -> Console:
    """Return a console that takes `[bold]` and `:smile:` for what they are."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def say(words: str) -> None:
    """Print a sentence on standard error, in one line."""
    print(f"recurrax: {visible(words)}", file=sys.stderr)


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Iterable[str]],
    *,
    left: Sequence[str],
    show_lines: bool = False,
) -> None:
    """Print a table; columns whose headings are in `left` begin there, the others end right."""
    table = Table(title=title, title_justify="left", show_lines=show_lines)
    for heading in headings:
        justify: JustifyMethod = "left" if heading in left else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    terminal().print(table)


def print_written(written: Iterable[Path]) -> None:
    """Print the names of files, in one line however long it is."""
    terminal().print(visible(f"wrote {', '.join(map(str, written))}"), soft_wrap=True)


def picture_failures(name: object, draw: Callable[[], None]) -> list[str]:
    """Draw and write a picture of that name; return a sentence for each that fails, one or none."""
    try:
        draw()
    except Exception as error:  # fonts, layouts, disks: whatever it is, the numbers go on
        words = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return [f"the picture {name} cannot be made ({words}); the numbers are not touched by it"]
    return []


def deliver(
    text: str,
    numbers: Path,
    picture: Path,
    draw: Callable[[], None],
    show: Callable[[], None] | None,
) -> int:
    """Write the numbers and the picture, show what was found, and return the exit code.

    Args:
      text: the numbers as JSON, which are printed where nothing is shown.
      numbers: the file that they go to.
      picture: the file that `draw` writes.
      draw: makes the picture.
      show: prints the table; None prints the JSON.
    """
    with as_mistakes(OSError, prefix=f"--out {numbers.parent}: "):
        numbers.write_text(text + "\n", encoding="utf-8")
    failed = picture_failures(picture, draw)
    if show is None:
        print(text)
    else:
        show()
        print_written([numbers] if failed else [picture, numbers])
    for words in failed:
        say(words)
    return NO_PICTURE if failed else 0


@contextmanager
def progress(label: str, total: int, *, show: bool = True) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal's standard error, but only once the work has taken a second.

    Yields:
      A function of `advance` or `completed`, and of `description` and `words` if they change.
    """
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[words]}", markup=False),
        TimeElapsedColumn(),
        console=terminal(stderr=True),
        transient=True,
    )
    task = bar.add_task(label, total=total, words="")
    timer = threading.Timer(1.0, bar.start)
    timer.daemon = True
    if show and bar.console.is_terminal:  # elsewhere an empty line would be left of it
        timer.start()
    try:
        yield partial(bar.update, task)
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        if bar.live.is_started:
            bar.stop()


def document(options: Mapping[str, Any], **content: Any) -> str:
    """Return strict JSON: the versions, the options but `json`, and the content by name.

    What is not finite is the string "inf", "-inf" or "nan", which `float` turns back.
    """
    versions = {"recurrax": __version__, "jax": jax.__version__}
    asked = {name: value for name, value in options.items() if name != "json"}
    return json.dumps(plain(versions | {"options": asked} | content), indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a result as dicts, lists, strings and numbers, of seven digits."""
    if isinstance(value, str):
        return readable(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {readable(str(name)): plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = np.asarray(value)
        exact = value.dtype.kind in "iub"
        return value.tolist() if exact else plain(np.asarray(value, np.float64).tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return readable(str(value))


def spoken(name: str) -> str:
    """Return the name of a metric as it is said."""
    return name.replace("_", " ")


def listed(words: list[str], most: int = 4) -> str:
    """Return `a`, `a and b`, `a, b and c`; of many the first few."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
