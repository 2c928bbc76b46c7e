"""What `recurrax compare` says of its trials: a line for each, a table, strict JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import recurrax
from recurrax.cli.numbers import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recurrax.train import Comparison, Trial


def print_comparison(found: Comparison, question: str | None, files: Sequence[Path]) -> None:
    """The task, a table with a row for each pair, and what was written."""
    console = Console(highlight=False)
    metric, relation, goal = found.goal
    if question is not None:
        console.print(question, markup=False)
    console.print(
        f"{found.task}: T = {found.length}; a guess without memory has {spoken(metric)} "
        f"{found.baseline[metric]:.4g} and loss {found.baseline['loss']:.4g}; solved at "
        f"{metric} {relation} {goal:g}",
        markup=False,
    )
    console.print(_table(found))
    console.print(f"wrote {', '.join(map(str, files))}", markup=False, soft_wrap=True)


def _table(found: Comparison) -> Table:
    metric = found.goal[0]
    title = "who solves the task, and the gradient flow"
    table = Table(title=title, title_justify="left", show_lines=True)
    judged = [f"{spoken(metric)}\nrange"] + ["loss"] * (metric != "mse")
    table.add_column("cell\ncure")
    for heading in ("solved", *judged, "rate / step\nstart, end", "horizon\nstart, end"):
        table.add_column(heading, justify="right")
    for trial in found.trials:
        table.add_row(*line(trial, metric))
    return table


def line(trial: Trial, metric: str) -> tuple[str, ...]:
    """A row of the table; the loss is left out where it is the metric."""
    return (
        f"{trial.cell}\n{trial.cure}",
        _solved(trial).replace(", ", "\n"),
        _range(trial.final[metric]).replace(" (", "\n").rstrip(")"),
        *([f"{np.median(trial.final['loss']):.4g}"] if metric != "mse" else []),
        f"{_rate(trial.start.rate)}\n{_rate(trial.end.rate)}",
        f"{_horizon(trial.start.horizon)}\n{_horizon(trial.end.horizon)}",
    )


def sentence(trial: Trial, metric: str) -> str:
    """What became of a pair, while others still train."""
    return (
        f"{trial.cell}, {trial.cure}: {spoken(metric)} {_range(trial.final[metric])} after "
        f"{trial.step[-1]} steps, {trial.seconds:.0f} s; solved by {_solved(trial)}"
    )


def _solved(trial: Trial) -> str:
    seeds = len(trial.solved_at)
    lost = int(np.sum(trial.diverged))
    words = f"{int(np.sum(~np.isnan(trial.solved_at)))} of {seeds}"
    return words + (f", {lost} diverged" if lost else "")


def _range(values: Any) -> str:
    low, middle, high = (f"{v:.3g}" for v in (np.min(values), np.median(values), np.max(values)))
    return f"{middle} ({low} to {high})" if low != high else middle


def _rate(values: Any) -> str:
    return f"{np.median(values):+.3f}"


def _horizon(values: Any) -> str:
    steps = float(np.median(values))
    return f"{steps:.0f}" if math.isfinite(steps) else "no end" if steps > 0 else "unknown"


def spoken(metric: str) -> str:
    """A metric's name as it is said."""
    return metric.replace("_", " ")


def as_json(asked: dict[str, Any], found: Comparison) -> str:
    """Versions, what was asked, the task, each pair with its arrays."""
    document = {
        "recurrax": recurrax.__version__,
        "jax": jax.__version__,
        "options": {name: plain(value) for name, value in asked.items() if name != "json"},
        **plain(found),
    }
    return json.dumps(document, indent=1, allow_nan=False)
