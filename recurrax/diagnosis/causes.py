"""From what was measured to what is to blame: one rule a cause, most specific first.

The numbers that rules compare with are gathered at the top, each with its reason. A rule that holds
names a cause; the first one is what the layer's numbers all follow from, the others what is wrong
besides.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from recurrax.diagnosis import records

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.diagnosis.measure import Measured

# A gradient that falls faster than this, in nats a step, is gone (5 % left) within six steps, which
# no usual initialisation of a gated cell does to it; tanh(x + h) of unit normal inputs loses 0.4.
FAST = -0.5
SLOW = -0.25  # half of it: gone within twelve steps, a fault if there is a cause besides
# One that doubles within fourteen steps, or slower but twentyfold over the sequence. Networks at
# the edge of chaos wander within some hundredths of 0.
GROWS, GROWS_IN_THE_END = 0.05, 0.03
# A memory gate that keeps less than this leaves 5 % of a memory after three steps. Zero biases give
# 0.5; what is a little below is to blame if the gradient falls faster than with those.
SHUT, HALF_SHUT = 0.3, 0.45
# Half of the units of tanh(z) are flat where z has a standard deviation of 2.7, as inputs of
# three times unit scale give. A critical network of tanh, which is healthy, has 0.3. Where two in
# three are flat nothing is learned, even if a gradient finds its way along open gates.
FLAT, ALL_FLAT = 0.4, 0.65
PINNED = 0.7  # a bias that holds most units of a gate; noise of unit size frees one in six
DEAD = 0.4  # relus that never rise; symmetric weights and inputs leave fewer than one in ten
# How much larger or smaller than at a usual initialisation (1) inputs and weights are.
LARGE = 2.0
LARGE_GAIN = 2.5
SMALL_GAIN = 0.35  # of a gated cell; torch's default has 0.58
# Of a network without gates, whose rate is the log of gain times slope. Below 0.7 the weights are
# to blame where a gradient halves within two steps; others lose 0.4 to 0.5 by the slope alone.
LOW_GAIN, HALVES, BELOW_ALL = 0.7, -0.35, -0.6


def causes_of(found: Measured) -> tuple[str, ...]:
    """What is to blame, most first; `("healthy",)` if nothing is."""
    return tuple(cause for cause, holds in RULES if holds(found)) or (records.HEALTHY,)


def pace(found: Measured) -> float:
    """The rate, or that of the horizon where a gradient is exactly zero in the end."""
    flow = found.flow
    return flow.rate if flow.rate > float("-inf") else math.log(0.05) / flow.horizon


def saturated(found: Measured) -> bool:
    """Whether so many units are flat that little passes, or that all but noise is stuck."""
    flat = found.activity.flat_mean
    return flat > ALL_FLAT or (flat > FLAT and pace(found) < SLOW)


def explodes(found: Measured) -> bool:
    """Whether the gradient grows, by a factor of 2 at least in the half that is measured."""
    rate = found.flow.rate
    grown = rate * (found.steps - found.steps // 2)
    later = rate > GROWS_IN_THE_END and found.verdict == "explodes"
    return found.overflow is not None or (grown > math.log(2) and (rate > GROWS or later))


def driven_by(found: Measured) -> str:
    """Which part of the pre-activations is the largest; "unknown" of a cell that does not tell."""
    shares = found.activity.shares
    if math.isnan(shares[0]):
        return "unknown"
    return ("inputs", "bias", "state")[max(range(3), key=shares.__getitem__)]


def _large_everywhere(found: Measured) -> bool:
    """Whether input and recurrent weights are both too large for the units."""
    seen = found.activity
    return min(seen.input_gain, seen.recurrent_gain) > LARGE_GAIN


def dead_relus(found: Measured) -> bool:
    """Relus that are never above 0 have no slope: nothing passes, nor is learned."""
    return not explodes(found) and found.activity.dead > DEAD


def large_inputs(found: Measured) -> bool:
    """Inputs far above unit size, and not their weights, drive units to the flat."""
    seen, gain = found.activity, found.activity.input_gain
    of_data = seen.input_scale > (LARGE if math.isnan(gain) else max(LARGE, gain))
    return saturated(found) and driven_by(found) in ("inputs", "unknown") and of_data


def large_weights(found: Measured) -> bool:
    """Units flat by the weights: both too large, or the recurrent ones so that units latch."""
    if not saturated(found) or driven_by(found) == "bias" or large_inputs(found):
        return False
    by_state = driven_by(found) in ("state", "unknown") and not explodes(found)
    return by_state or _large_everywhere(found)


def inputs_dwarf(found: Measured) -> bool:
    """Units flat by input weights next to which the recurrent ones say nothing."""
    by_inputs = saturated(found) and driven_by(found) == "inputs"
    return by_inputs and not large_inputs(found) and not large_weights(found)


def gain_large(found: Measured) -> bool:
    """The gradient grows; where weights are large everywhere that is named before."""
    return explodes(found)


def bias_pins(found: Measured) -> bool:
    """A bias holds the units of a gate where they pass nothing, whatever comes.

    A memory gate that a bias holds open, and an input gate that is shut meanwhile, remember.
    """
    seen = found.activity
    least = FLAT if pace(found) < FAST else PINNED
    return any(
        harmful > least and name in seen.parts and seen.parts[name].shares[1] > 0.5
        for name, harmful in seen.harmful.items()
    ) and not (seen.dead > DEAD)


def memory_shut(found: Measured) -> bool:
    """Whether the gate that keeps the old state lets it go, and nothing else makes it do so."""
    gate = found.activity.gate(found.activity.memory)
    if gate is None or (saturated(found) and driven_by(found) != "bias"):
        return False
    fast = pace(found)
    return fast < FAST and gate.median < (HALF_SHUT if fast < BELOW_ALL else SHUT)


def forget_shut(found: Measured) -> bool:
    """An LSTM that drops its memory at every step."""
    return memory_shut(found) and found.activity.memory == "f"


def update_open(found: Measured) -> bool:
    """A GRU that writes over its state at every step."""
    return memory_shut(found) and found.activity.memory == "z"


def gain_small(found: Measured) -> bool:
    """The state of one step hardly reaches the next, and nothing holds the units elsewhere."""
    seen, rate = found.activity, pace(found)
    if seen.memory is not None:
        return seen.recurrent_gain < SMALL_GAIN and rate < SLOW and not memory_shut(found)
    held = saturated(found) or bias_pins(found) or seen.dead > DEAD
    if math.isnan(seen.recurrent_gain):  # of a cell whose weights are not known
        return rate < FAST and not held
    return rate < (HALVES if seen.recurrent_gain < LOW_GAIN else BELOW_ALL) and not held


RULES: tuple[tuple[str, Callable[[Measured], bool]], ...] = (
    (records.DEAD_RELUS, dead_relus),
    (records.BIAS_PINS, bias_pins),
    (records.LARGE_INPUTS, large_inputs),
    (records.LARGE_WEIGHTS, large_weights),
    (records.INPUTS_DWARF, inputs_dwarf),
    (records.GAIN_LARGE, gain_large),
    (records.FORGET_SHUT, forget_shut),
    (records.UPDATE_OPEN, update_open),
    (records.GAIN_SMALL, gain_small),
)
