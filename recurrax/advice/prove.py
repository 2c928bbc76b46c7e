"""Training of the best starts beside the default, at an equal budget, and what came of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax import checks
from recurrax.cures.clipping.global_norm import clip_by_global_norm
from recurrax.tasks.task import Task
from recurrax.train.compare import compare

if TYPE_CHECKING:
    import chex

    from recurrax.advice.outcome import Advice, Option
    from recurrax.train.compare import Trial

_BEST, _REPORT = 3, 100


class Budget(NamedTuple):
    """What each option is trained with."""

    steps: int
    batch_size: int
    learning_rate: float

    def checked(self, prove: bool, data: Any) -> Budget:
        """Itself, if it can be trained with: before anything is measured."""
        if not isinstance(prove, bool):
            raise TypeError(f"prove must be True or False, got {prove!r}")
        if prove and not isinstance(data, Task):
            raise ValueError(
                "prove=True trains on a task, but sequences alone do not say what is to be learnt: "
                "give a rx.tasks.Task, such as rx.tasks.adding(200)"
            )
        checks.check_positive_int("steps", self.steps)
        checks.check_positive_int("batch_size", self.batch_size)
        checks.check_number("learning_rate", self.learning_rate)
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        return self


def proven(found: Advice, task: Any, budget: Budget, key: chex.PRNGKey, tell: Any) -> Advice:
    """The advice with the best options and the default trained."""
    chosen = list(found.options[:_BEST])
    if found.default.candidate.name not in [option.candidate.name for option in chosen]:
        chosen.append(found.default)
    proofs = []
    for number, option in enumerate(chosen):
        candidate = option.candidate
        cure = dataclasses.replace(candidate.cure, optimizer=clip_by_global_norm(found.clip))

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
            report_every=min(_REPORT, budget.steps),
            tell=None if tell is None else told,
        )
        proofs.append(proof)
    by_name = {proof.trials[0].cell: proof.trials[0] for proof in proofs}
    options = tuple(
        option._replace(trial=by_name.get(option.candidate.name)) for option in found.options
    )
    default = next(o for o in options if o.candidate.name == found.default.candidate.name)
    found = found._replace(options=options, default=default)
    found = found._replace(proof=proofs[0]._replace(trials=tuple(by_name.values())))
    return found._replace(verdict=sentence(found, task))


def sentence(found: Advice, task: Task) -> str:
    """Who learned, and whether the first choice and the rate nearest to 0 did so best."""
    trained = [option for option in found.options if option.trial is not None]
    parts = [f"{option.candidate.name} {_outcome(option, task)}" for option in trained]
    merits = [merit(option.trial, task) for option in trained]
    words = f"After training: {'; '.join(parts)}."
    best = trained[merits.index(max(merits))]
    metric, relation, _ = task.goal
    sign, guess = (-1 if "<" in relation else 1), dict(task.baseline)[metric]
    if max(merits) <= (0, sign * guess):
        return f"{words} None did better than a guess without memory: more steps would tell."
    if merits[0] == max(merits):
        words = f"{words} No other did better than the first choice."
    else:
        words = (
            f"{words} The first choice by its start did not train best here; "
            f"{best.candidate.name} did."
        )
    rates = np.nan_to_num([abs(np.mean(o.start.rate)) for o in trained], nan=np.inf)
    nearest = int(np.argmin(rates))
    if np.isfinite(rates[nearest]) and merits[nearest] < max(merits):
        name = trained[nearest].candidate.name
        words = f"{words} Nor did the rate nearest to 0, that of {name}, train best."
    return words


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
