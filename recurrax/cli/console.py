"""What the command prints: a table with its story; and a bar while one waits."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from recurrax.cli.terminal import console as terminal
from recurrax.cli.to_json import plain
from recurrax.literal import visible
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from recurrax.cli.data import Sequences
    from recurrax.flow import Bounds, Decay


COLUMNS: dict[str, Literal["left", "right"]] = {
    "cell": "left",
    "spectral\nradius": "right",
    "largest\nsing. val.": "right",
    "bounds\npromise": "left",
    "rate\n/ step": "right",
    "horizon\nsteps": "right",
    "verdict": "left",
}


class Row(NamedTuple):
    """What is said of one cell."""

    name: str
    state_size: int  # N
    bounds: Bounds | None  # None for a stack
    rate: np.ndarray  # [B], nats a step
    horizon: np.ndarray  # [B], steps
    horizon_reached: np.ndarray  # bool [B]
    verdict: str
    probes: int | None


class Difference(NamedTuple):
    """What changed from one set of weights to another; medians over the batch."""

    names: tuple[str, str]
    rates: tuple[float, float]  # nats a step
    horizons: tuple[float, float]  # steps
    words: str


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal's standard error, shown only once the work has taken a second."""
    bar = Progress(
        TextColumn(label, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=terminal(stderr=True),
        transient=True,
    )
    task = bar.add_task(label, total=total)
    timer = threading.Timer(1.0, bar.start)
    timer.daemon = True
    if bar.console.is_terminal:  # elsewhere an empty line would be left of it
        timer.start()
    try:
        yield lambda: bar.advance(task)
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        if bar.live.is_started:
            bar.stop()


def print_report(
    sequences: Sequences, rows: list[Row], written: list[Path], change: Difference | None = None
) -> None:
    """The table, a sentence for each cell or for two that are compared, and what was written."""
    console = terminal()
    length, batch, features = sequences.xs.shape
    chosen = "" if sequences.whole == length else f" of {sequences.whole}"
    unit = "step" if sequences.whole == 1 else "steps"
    console.print(f"{sequences.name}: T = {length}{chosen} {unit}, B = {batch}, I = {features}")
    console.print(_table(rows))
    for row in rows:
        console.print(story(row, length))
    if change is not None:
        console.print(change.words)
    if any(row.probes for row in rows):
        console.print(
            "Cells with a state above N = 512 were followed along 32 random directions: their "
            "norm is a close lower bound."
        )
    print_written(console, written)


def print_written(console: Console, written: Sequence[Path]) -> None:
    """The names of files, in one line however long it is."""
    console.print(visible(f"wrote {', '.join(map(str, written))}"), soft_wrap=True)


def _table(rows: list[Row]) -> Table:
    table = Table(title="d s_t / d s_0: where the gradient goes", title_justify="left")
    for heading, justify in COLUMNS.items():
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*line(row))
    return table


def line(row: Row) -> tuple[str, ...]:
    """A row of the table, one text for each of `COLUMNS`."""
    return (
        row.name,
        _most(row.bounds and row.bounds.spectral_radius),
        _most(row.bounds and row.bounds.largest_singular_value),
        promise(row.bounds),
        f"{np.median(row.rate):+.3f}",
        _horizon(row),
        row.verdict,
    )


def _most(values: Any) -> str:
    """The largest over the gates."""
    return "-" if values is None else f"{np.max(values):.3f}"


def promise(bounds: Bounds | None) -> str:
    """What follows from the weights alone."""
    if bounds is None or bounds.log_rate == math.inf:
        return "nothing"
    if bounds.vanishing_guaranteed:
        return "must vanish"
    return "may explode" if bounds.exploding_possible else "cannot explode"


def _horizon(row: Row) -> str:
    steps = float(np.median(row.horizon))
    if math.isinf(steps):
        return "no end"
    reached = bool(np.median(row.horizon_reached) == 1)
    return f"{steps:.0f}" if reached else f"~{steps:.0f}"


def story(row: Row, length: int) -> str:
    """One sentence on one cell."""
    rate = float(np.median(row.rate))
    steps = float(np.median(row.horizon))
    over = "this one step" if length == 1 else f"these {length} steps"
    per_step = f"a factor {math.exp(rate):.3g} a step" if rate < 700 else f"e^{rate:.0f} a step"
    if row.verdict == "vanishes":
        return (
            f"{row.name}: the gradient vanishes at {per_step}; what happened more than "
            f"{steps_of(steps)} ago is not felt (under 5 % is left)."
        )
    if row.verdict == "explodes":
        return f"{row.name}: the gradient explodes at {per_step}; clip it, or shrink the weights."
    return f"{row.name}: the gradient holds over {over} ({per_step})."


def difference(before: Row, after: Row) -> Difference:
    """What changed from one set of weights to another, and a sentence on it."""
    rates = float(np.median(before.rate)), float(np.median(after.rate))
    horizons = float(np.median(before.horizon)), float(np.median(after.horizon))
    change = rates[1] - rates[0]
    if not math.isfinite(change):
        words = "cannot be compared: one of them is not finite"
    elif abs(change) < 5e-4:
        words = f"did not change ({rates[0]:+.3f} a step)"
    else:
        to = "rose" if change > 0 else "fell"
        words = f"{to} from {rates[0]:+.3f} to {rates[1]:+.3f} a step"
    steps = f"{_horizon(before)} to {_horizon(after)}"
    words = f"from {before.name} to {after.name}: the rate {words}; the horizon went from {steps}."
    return Difference((before.name, after.name), rates, horizons, words)


def of_row(row: Row, decay: Decay) -> dict[str, Any]:
    """The row and the decay behind it, for JSON."""
    bounds = row.bounds
    return {
        "N": row.state_size,
        "spectral_radius": plain(None if bounds is None else bounds.spectral_radius),
        "largest_singular_value": plain(None if bounds is None else bounds.largest_singular_value),
        "bounds_promise": promise(bounds),
        "rate": plain(row.rate),
        "horizon": plain(row.horizon),
        "horizon_reached": row.horizon_reached.tolist(),
        "verdict": row.verdict,
        "probes": row.probes,
        "log_norm": plain(decay.log_norm),
        "log_frobenius": plain(decay.log_frobenius),
    }
