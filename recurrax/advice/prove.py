"""Training of the best starts beside the default, at an equal budget, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.cures.clipping.global_norm import clip_by_global_norm
from recurrax.train.compare import compare
from recurrax.train.presets import Cure

if TYPE_CHECKING:
    import chex

    from recurrax.advice.outcome import Advice, Option
    from recurrax.tasks.task import Task
    from recurrax.train.compare import Trial

_BEST = 3


class Budget(NamedTuple):
    """What each option is trained with."""

    steps: int
    batch_size: int
    learning_rate: float


def proven(found: Advice, task: Any, budget: Budget, key: chex.PRNGKey, tell: Any) -> Advice:
    """The advice with the best options and the default trained."""
    chosen = list(found.options[:_BEST])
    if found.default.candidate.name not in [option.candidate.name for option in chosen]:
        chosen.append(found.default)
    proof, trials = None, []
    for number, option in enumerate(chosen):
        candidate, clip = option.candidate, clip_by_global_norm(found.clip)
        cure = Cure(clip, candidate.cure.cell, candidate.cure.regularizer)

        def told(name: str, _: str, step: int, seen: Any, done: int = number) -> None:
            tell(done * budget.steps + step, len(chosen) * budget.steps, f"training {name}")

        proof = compare(
            task,
            {candidate.name: candidate.cell},
            {"clip": cure},
            key=key,
            steps=budget.steps,
            seeds=found.seeds,
            batch_size=budget.batch_size,
            learning_rate=budget.learning_rate,
            report_every=min(100, budget.steps),
            tell=None if tell is None else told,
        )
        trials.append(proof.trials[0])
    by_name = {trial.cell: trial for trial in trials}
    options = tuple(
        option._replace(trial=by_name.get(option.candidate.name)) for option in found.options
    )
    default = next(o for o in options if o.candidate.name == found.default.candidate.name)
    found = found._replace(options=options, default=default)
    found = found._replace(proof=proof._replace(trials=tuple(trials)))
    return found._replace(verdict=sentence(found, task))


def sentence(found: Advice, task: Task) -> str:
    """Who learned; where the first choice did not do best, this says so."""
    trained = [option for option in found.options if option.trial is not None]
    parts = [f"{o.candidate.name} {_outcome(o, task)}" for o in trained]
    best = max(trained, key=lambda option: merit(option.trial, task))
    words = f"After training: {'; '.join(parts)}."
    first = found.options[0]
    if best is first or merit(first.trial, task) == merit(best.trial, task):
        return f"{words} No other did better than the first choice."
    return (
        f"{words} The first choice by its start did not train best here; {best.candidate.name} did."
    )


def merit(trial: Any, task: Task) -> tuple[int, float]:
    """How many seeds solved it, and then the median of the metric, larger being better."""
    metric, relation, _ = task.goal
    values = np.where(trial.diverged, np.inf if "<" in relation else -np.inf, trial.final[metric])
    middle = float(np.median(values))
    return int(np.sum(solved(trial))), -middle if "<" in relation else middle


def solved(trial: Trial) -> Any:
    """Which seeds reached the goal at some report or at the end, bool `[S]`."""
    return np.isfinite(trial.solved_at) | trial.solved_at_end


def _outcome(option: Option, task: Task) -> str:
    trial: Any = option.trial
    metric = task.goal[0]
    count = f"solved {int(np.sum(solved(trial)))} of {len(trial.diverged)} seeds"
    return f"{count} ({metric} {float(np.median(trial.final[metric])):.3g})"
