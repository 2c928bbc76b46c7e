"""What `recurrax compare` says of its trials: a line for each, a table, strict JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.table import Table

import recurrax
from recurrax.cli.console import print_written
from recurrax.cli.terminal import console as terminal
from recurrax.cli.to_json import plain
from recurrax.plot import over_seeds as seeds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recurrax.train import Comparison, Trial


def print_comparison(found: Comparison, question: str | None, files: Sequence[Path]) -> None:
    """The task, a table with a row for each pair, and what was written."""
    console = terminal()
    metric, relation, goal = found.goal
    if question is not None:
        console.print(question)
    console.print(
        f"{found.task}: T = {found.length}; a guess without memory has {spoken(metric)} "
        f"{found.baseline[metric]:.4g} and loss {found.baseline['loss']:.4g}; solved at "
        f"{metric} {relation} {goal:g}"
    )
    console.print(_table(found))
    if any(np.any(trial.diverged) for trial in found.trials):
        console.print("A seed that has diverged counts as the worst.")
    print_written(console, files)


def _table(found: Comparison) -> Table:
    metric = found.goal[0]
    title = "who solves the task, and the gradient flow"
    table = Table(title=title, title_justify="left", show_lines=True)
    judged = [f"{spoken(metric)}\nrange"] + ["loss"] * (metric != "mse")
    table.add_column("cell\ncure")
    for heading in ("solved", *judged, "rate / step\nstart, end", "horizon\nstart, end"):
        table.add_column(heading, justify="right")
    for trial in found.trials:
        table.add_row(*line(trial, found.goal))
    return table


def line(trial: Trial, goal: tuple[str, str, float]) -> tuple[str, ...]:
    """A row of the table; the loss is left out where it is the metric."""
    metric, relation, _ = goal
    loss = reading(np.median(seeds.final(trial, "loss", "<")), ".4g")
    return (
        f"{trial.cell}\n{trial.cure}",
        seeds.outcome(trial).replace(", ", "\n"),
        _range(seeds.final(trial, metric, relation)).replace(" (", "\n").rstrip(")"),
        *([loss] if metric != "mse" else []),
        f"{_rate(trial.start.rate)}\n{_rate(trial.end.rate)}",
        f"{_horizon(trial.start.horizon)}\n{_horizon(trial.end.horizon)}",
    )


def sentence(trial: Trial, goal: tuple[str, str, float]) -> str:
    """What became of a pair, while others still train."""
    metric, relation, _ = goal
    return (
        f"{trial.cell}, {trial.cure}: {spoken(metric)} "
        f"{_range(seeds.final(trial, metric, relation))} after "
        f"{trial.step[-1]} steps, {trial.seconds:.0f} s; solved by {seeds.outcome(trial)}"
    )


def reading(value: Any, digits: str) -> str:
    """A number that seeds reached; the worst, which is not finite, by its name."""
    return f"{value:{digits}}" if math.isfinite(value) else "diverged"


def _range(values: Any) -> str:
    low, middle, high = (
        reading(v, ".3g") for v in (np.min(values), np.median(values), np.max(values))
    )
    return f"{middle} ({low} to {high})" if low != high else middle


def _rate(values: Any) -> str:
    """The median of the seeds of which it is known, and how many they are where some are not."""
    rate, count = seeds.known(values)
    return f"{rate:+.3f}{_of(count, values)}" if count else "unknown"


def _horizon(values: Any) -> str:
    steps, count = seeds.known(values)
    if not count:
        return "unknown"
    return (f"{steps:.0f}" if math.isfinite(steps) else "no end") + _of(count, values)


def _of(count: int, values: Any) -> str:
    return f" ({count} of {np.size(values)})" if count < np.size(values) else ""


def spoken(metric: str) -> str:
    """A metric's name as it is said."""
    return metric.replace("_", " ")


def as_json(asked: dict[str, Any], found: Comparison) -> str:
    """Versions, what was asked, the task, each pair with its arrays and what they come to."""
    document = {
        "recurrax": recurrax.__version__,
        "jax": jax.__version__,
        "options": {name: plain(value) for name, value in asked.items() if name != "json"},
        **plain(found),
    }
    for trial, words in zip(found.trials, document["trials"], strict=True):
        words["summary"] = plain(summary(trial, found.goal))
    return json.dumps(document, indent=1, allow_nan=False)


def summary(trial: Trial, goal: tuple[str, str, float]) -> dict[str, Any]:
    """The numbers of the table: how many seeds are where, and medians and ranges over them.

    A seed that has diverged counts as the worst: infinite, or -inf where large is good. Of the
    gradient flow it is the median of the seeds of which it is known, and how many they are; None
    and 0 if there is none.
    """
    reached = {}
    for name, relation in {"loss": "<", goal[0]: goal[1]}.items():
        values = seeds.final(trial, name, relation)
        reached[name] = {"median": np.median(values), "range": [np.min(values), np.max(values)]}
    flow = {
        when: {field: _known(getattr(seen, field)) for field in ("rate", "horizon")}
        for when, seen in (("start", trial.start), ("end", trial.end))
    }
    return {
        "seeds": len(trial.solved_at),
        "solved": int(np.sum(~np.isnan(trial.solved_at))),
        "solved_at_end": int(np.sum(trial.solved_at_end)),
        "diverged": int(np.sum(trial.diverged)),
        "final": reached,
        **flow,
    }


def _known(values: Any) -> dict[str, Any]:
    median, count = seeds.known(values)
    return {"median": median if count else None, "seeds": count}
