"""What `recurrax advise` says: a table of the starts, a verdict, the code, numbers for JSON."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.cli import console
from recurrax.plot import over_seeds

if TYPE_CHECKING:
    from recurrax.advice import Advice
    from recurrax.advice.outcome import Option

_HEADINGS = (
    *("start", "horizon\n(steps)", "rate\n(nats/step)", "spread\n(nats)", "gradient\nnorm"),
    "distance\n(nats)",
)


def print_advice(found: Advice) -> None:
    """Print a row a start, best first, and what follows from them."""
    screen = console.terminal()
    screen.print(
        f"{found.subject} on {found.data}; wanted: {found.wanted:g} steps; medians of "
        f"{found.seeds} seeds",
        soft_wrap=True,
    )
    headings = _HEADINGS if found.proof is None else (*_HEADINGS, "solved", _metric(found))
    console.print_table(
        "the starts by their distance, which a horizon that is too long does not add to",
        headings,
        [_row(found, option) for option in found.options],
        left=("start",),
    )
    for name, reason in found.skipped.items():
        screen.print(f"left out: {name}, {reason}", soft_wrap=True)
    screen.print(f"a level to clip gradients at: {found.clip:g}")
    screen.print(found.verdict, soft_wrap=True)
    best = found.best.candidate
    if best.code:
        screen.print(f"\n{best.name}: {best.words}", soft_wrap=True)
        screen.print(textwrap.indent(best.code, "    "), soft_wrap=True)


def _metric(found: Advice) -> str:
    assert found.proof is not None
    return f"final\n{console.spoken(found.proof.goal[0])}"


def _row(found: Advice, option: Option) -> list[str]:
    start = option.start
    cells = [
        option.candidate.name,
        _middle(start.horizon, ".0f").replace("inf", "no end"),
        _middle(start.rate, "+.4f"),
        _middle(start.spread, ".2f"),
        _middle(start.gradient_norm, ".3g"),
        f"{option.distance:.2f}",
    ]
    if found.proof is not None and option.trial is not None:
        metric, relation, _ = found.proof.goal
        value = float(np.median(over_seeds.final(option.trial, metric, relation)))
        cells += [over_seeds.outcome(option.trial), f"{value:.3g}"]
    elif found.proof is not None:
        cells += ["not trained", ""]
    return cells


def _middle(values: Any, digits: str) -> str:
    return f"{over_seeds.known(values)[0]:{digits}}"


def numbers_of(found: Advice) -> dict[str, Any]:
    """Return all that was measured but the cells, for JSON."""
    numbers = found._asdict()
    options = []
    for option in found.options:
        candidate = option.candidate
        options.append(
            {"name": candidate.name, "words": candidate.words, "code": candidate.code}
            | {"start": option.start, "distance": option.distance}
            | ({} if option.trial is None else {"trial": option.trial})
        )
    del numbers["options"]  # as the options of a command are called
    numbers |= {"starts": options, "default": found.default.candidate.name}
    if found.proof is not None:
        proof = found.proof
        numbers["proof"] = {"task": proof.task, "goal": proof.goal, "baseline": proof.baseline}
    return numbers
