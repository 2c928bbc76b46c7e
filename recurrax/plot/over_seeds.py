"""What several seeds came to; one that has diverged does not hide what the others reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from recurrax.train.compare import Trial


def ranked(values: Any, lost: Any, relation: str) -> np.ndarray:
    """Values `[..., S]` in which a seed that is lost, or NaN, counts as the worst there can be.

    The worst is inf where the relation of the goal is `"<"`, and -inf where it is `">"`.
    """
    values = np.asarray(values, np.float64)
    worst = np.inf if relation.startswith("<") else -np.inf
    return np.where(np.asarray(lost) | np.isnan(values), worst, values)


def final(trial: Trial, name: str, relation: str) -> np.ndarray:
    """`[S]`, what each seed reached; one that has diverged counts as the worst."""
    return ranked(trial.final[name], trial.diverged, relation)


def known(values: Any) -> tuple[float, int]:
    """The median of those that are not NaN, and how many they are; NaN if there is none."""
    rows = np.sort(np.ravel(np.asarray(values, np.float64)))
    rows = rows[~np.isnan(rows)]
    if not rows.size:
        return np.nan, 0
    low, high = rows[(rows.size - 1) // 2], rows[rows.size // 2]
    # From -inf to inf there is no middle.
    return float(low if np.isinf(low) else (low + high) / 2), int(rows.size)


def outcome(trial: Trial) -> str:
    """`2 of 3, 1 at the end, 1 diverged`: who reached the goal, who is there still, who is lost."""
    reached = int(np.sum(~np.isnan(trial.solved_at)))
    words = f"{reached} of {len(trial.solved_at)}, {int(np.sum(trial.solved_at_end))} at the end"
    lost = int(np.sum(trial.diverged))
    return words + (f", {lost} diverged" if lost else "")
