"""What `advise` returns, and what is measured of each way to begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell
    from recurrax.train.compare import Comparison, Trial
    from recurrax.train.presets import Cure


class Candidate(NamedTuple):
    """A way to begin or to train."""

    name: str  # such as "chrono", "critical gain"; "default" is the cell as it is given
    words: str  # what is done, as an imperative: "begin with ..."
    cell: Cell  # with the initialiser that it gives
    cure: Cure  # what it does during training; none by default
    code: str  # Python that applies it, at most three lines; "" for the default


class Start(NamedTuple):
    """How the gradient travels at the start, over S seeds, in the cell before any training."""

    rate: chex.Array  # [S], in nats a step
    horizon: chex.Array  # [S], in steps, inf where the gradient does not shrink
    growth: chex.Array  # [S], log || d s_T / d s_0 ||
    spread: chex.Array  # [S], log of its largest singular value over their root mean square
    gradient_norm: chex.Array  # [S], of the task's loss; of data, of the mean square output


class Option(NamedTuple):
    """A candidate with what was measured of it."""

    candidate: Candidate
    start: Start
    distance: float  # what is ranked by: how far from what was asked, 0 is best
    trial: Trial | None  # its training, where it was proven


class Advice(NamedTuple):
    """All that was tried for a cell."""

    subject: str  # the cell, as it prints
    data: str  # the task or data, in words
    length: int  # T
    wanted: float  # the horizon that was asked for, in steps
    seeds: int  # S
    options: tuple[Option, ...]  # best first
    default: Option  # the cell as it was given; among the options too
    clip: float  # above nine in ten of the gradient norms at the start: a level of clipping
    verdict: str  # what was measured, in a sentence or two, and no more than that
    skipped: dict[str, str]  # cures that do not fit, by name, with the reason
    seconds: float
    proof: Comparison | None = None  # of the options that were trained, in their order

    @property
    def best(self) -> Option:
        """The first choice."""
        return self.options[0]
