"""What was measured of a cell, and how it is said: a row, a sentence, numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.words import steps_of

if TYPE_CHECKING:
    from recurrax import flow
    from recurrax.cell import Cell

COLUMNS = (
    "cell",
    "spectral\nradius",
    "largest\nsing. val.",
    "bounds\npromise",
    "rate\n/ step",
    "horizon\nsteps",
    "verdict",
)
WORDS = ("cell", "bounds\npromise", "verdict")  # the columns that hold no numbers


class Subject(NamedTuple):
    """A cell with weights, to be measured."""

    name: str
    cell: Cell
    params: Any


class Measurement(NamedTuple):
    """The gradient flow of one cell."""

    name: str
    state_size: int  # N
    bounds: flow.Bounds | None  # None for a stack
    decay: flow.Decay
    rate: np.ndarray  # [B], nats a step
    horizon: np.ndarray  # [B], steps
    horizon_reached: np.ndarray  # bool [B]
    verdict: str
    probes: int | None

    @property
    def spectral_radius(self) -> np.ndarray | None:
        return None if self.bounds is None else self.bounds.spectral_radius

    @property
    def largest_singular_value(self) -> np.ndarray | None:
        return None if self.bounds is None else self.bounds.largest_singular_value

    @property
    def median_rate(self) -> float:
        return float(np.median(self.rate))

    @property
    def median_horizon(self) -> float:
        return float(np.median(self.horizon))

    @property
    def horizon_words(self) -> str:
        """The median horizon, with `~` where the data end before it."""
        if math.isinf(self.median_horizon):
            return "no end"
        reached = bool(np.median(self.horizon_reached) == 1)
        return f"{'' if reached else '~'}{self.median_horizon:.0f}"

    @property
    def promise(self) -> str:
        """What follows from the weights alone."""
        if self.bounds is None or self.bounds.log_rate == math.inf:
            return "nothing"
        if self.bounds.vanishing_guaranteed:
            return "must vanish"
        return "may explode" if self.bounds.exploding_possible else "cannot explode"

    def row(self) -> tuple[str, ...]:
        """Return a row of the table, one text for each of `COLUMNS`."""
        radius, largest = (  # the largest over the gates
            "-" if values is None else f"{np.max(values):.3f}"
            for values in (self.spectral_radius, self.largest_singular_value)
        )
        rate = f"{self.median_rate:+.3f}"
        return (self.name, radius, largest, self.promise, rate, self.horizon_words, self.verdict)

    def numbers(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "N": self.state_size,
            "spectral_radius": self.spectral_radius,
            "largest_singular_value": self.largest_singular_value,
            "bounds_promise": self.promise,
            "rate": self.rate,
            "horizon": self.horizon,
            "horizon_reached": self.horizon_reached,
            "verdict": self.verdict,
            "probes": self.probes,
            "log_norm": self.decay.log_norm,
            "log_frobenius": self.decay.log_frobenius,
        }

    def story(self, length: int) -> str:
        """Return one sentence on the cell, measured over `length` steps."""
        name, rate = self.name, self.median_rate
        over = "this one step" if length == 1 else f"these {length} steps"
        per_step = f"a factor {math.exp(rate):.3g} a step" if rate < 700 else f"e^{rate:.0f} a step"
        if self.verdict == "vanishes":
            return (
                f"{name}: the gradient vanishes at {per_step}; what happened more than "
                f"{steps_of(self.median_horizon)} ago is not felt (under 5 % is left)."
            )
        if self.verdict == "explodes":
            return f"{name}: the gradient explodes at {per_step}; clip it, or shrink the weights."
        return f"{name}: the gradient holds over {over} ({per_step})."


class Difference(NamedTuple):
    """What changed from one set of weights to another; medians over the batch."""

    names: tuple[str, str]
    rates: tuple[float, float]  # nats a step
    horizons: tuple[float, float]  # steps
    words: str


def difference(before: Measurement, after: Measurement) -> Difference:
    """Return what changed from one set of weights to another, and a sentence on it."""
    names = before.name, after.name
    rates = before.median_rate, after.median_rate
    horizons = before.median_horizon, after.median_horizon
    change = rates[1] - rates[0]
    if not math.isfinite(change):
        words = "cannot be compared: one of them is not finite"
    elif abs(change) < 5e-4:
        words = f"did not change ({rates[0]:+.3f} a step)"
    else:
        to = "rose" if change > 0 else "fell"
        words = f"{to} from {rates[0]:+.3f} to {rates[1]:+.3f} a step"
    steps = f"{before.horizon_words} to {after.horizon_words}"
    words = f"from {names[0]} to {names[1]}: the rate {words}; the horizon went from {steps}."
    return Difference(names, rates, horizons, words)
