"""What `recurrax compare` says of its trials: a line for each, a table, numbers for JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.cli.console import print_table, spoken, terminal
from recurrax.plot import over_seeds as seeds

if TYPE_CHECKING:
    from recurrax.train.compare import Comparison, Trial


def print_comparison(found: Comparison, question: str | None) -> None:
    """Print the task, and a table with a row for each pair."""
    console = terminal()
    metric, relation, goal = found.goal
    if question is not None:
        console.print(question)
    console.print(
        f"{found.task}: T = {found.length}; a guess without memory has {spoken(metric)} "
        f"{found.baseline[metric]:.4g} and loss {found.baseline['loss']:.4g}; solved at "
        f"{metric} {relation} {goal:g}"
    )
    judged = [f"{spoken(metric)}\nrange"] + ["loss"] * (metric != "mse")
    flow = ("rate / step\nstart, end", "horizon\nstart, end")
    print_table(
        "who solves the task, and the gradient flow",
        ("cell\ncure", "solved", *judged, *flow),
        [line(trial, found.goal) for trial in found.trials],
        left=("cell\ncure",),
        show_lines=True,
    )
    if any(np.any(trial.diverged) for trial in found.trials):
        console.print("A seed that has diverged counts as the worst.")


def line(trial: Trial, goal: tuple[str, str, float]) -> tuple[str, ...]:
    """Return a row of the table; the loss is left out where it is the metric."""
    metric, relation, _ = goal
    loss = reading(np.median(seeds.final(trial, "loss", "<")), ".4g")
    flows = trial.start, trial.end
    return (
        f"{trial.cell}\n{trial.cure}",
        seeds.outcome(trial).replace(", ", "\n"),
        _range(seeds.final(trial, metric, relation)).replace(" (", "\n").rstrip(")"),
        *([loss] if metric != "mse" else []),
        "\n".join(_known(flow.rate, "+.3f") for flow in flows),
        "\n".join(_known(flow.horizon, ".0f").replace("inf", "no end") for flow in flows),
    )


def sentence(trial: Trial, goal: tuple[str, str, float]) -> str:
    """Return what became of a pair, while others still train."""
    metric, relation, _ = goal
    return (
        f"{trial.cell}, {trial.cure}: {spoken(metric)} "
        f"{_range(seeds.final(trial, metric, relation))} after "
        f"{trial.step[-1]} steps, {trial.seconds:.0f} s; solved by {seeds.outcome(trial)}"
    )


def reading(value: Any, digits: str) -> str:
    """Return a number that seeds reached; the worst, which is not finite, by its name."""
    return f"{value:{digits}}" if math.isfinite(value) else "diverged"


def _range(values: Any) -> str:
    three = np.min(values), np.median(values), np.max(values)
    low, middle, high = (reading(value, ".3g") for value in three)
    return f"{middle} ({low} to {high})" if low != high else middle


def _known(values: Any, digits: str) -> str:
    """Return the median of the seeds of which it is known; how many they are, if not all."""
    median, count = seeds.known(values)
    if not count:
        return "unknown"
    return f"{median:{digits}}" + f" ({count} of {np.size(values)})" * (count < np.size(values))


def summary(trial: Trial, goal: tuple[str, str, float]) -> dict[str, Any]:
    """Return the numbers of the table: how many seeds are where, medians and ranges over them.

    A seed that has diverged counts as the worst: infinite, or -inf where large is good. The median
    of the gradient flow is over the seeds of which it is known; None if there is none.
    """
    reached = {}
    for name, relation in {"loss": "<", goal[0]: goal[1]}.items():
        values = seeds.final(trial, name, relation)
        reached[name] = {"median": np.median(values), "range": [np.min(values), np.max(values)]}
    numbers: dict[str, Any] = {
        "seeds": len(trial.solved_at),
        "solved": int(np.sum(~np.isnan(trial.solved_at))),
        "solved_at_end": int(np.sum(trial.solved_at_end)),
        "diverged": int(np.sum(trial.diverged)),
        "final": reached,
    }
    for when, flow in (("start", trial.start), ("end", trial.end)):
        numbers[when] = {}
        for field in ("rate", "horizon"):
            median, count = seeds.known(getattr(flow, field))
            numbers[when][field] = {"median": median if count else None, "seeds": count}
    return numbers
