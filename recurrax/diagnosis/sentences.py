"""What is wrong, and why, in sentences with the numbers that were measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from recurrax.diagnosis import records
from recurrax.diagnosis.causes import GROWS, SLOW
from recurrax.diagnosis.records import count_text, pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.diagnosis.measure import Measured


def sentence(cause: str, name: str, found: Measured) -> str:
    """Say what is wrong with the layer of this name."""
    return SENTENCES[cause](name, found)


def _gradient(found: Measured) -> str:
    return f"the gradient {pace(found.flow.rate)}"


def _stuck(found: Measured) -> str:
    """How many units are flat, and what follows."""
    share = f"{found.activity.flat_mean:.0%} of its activations lie where they are flat"
    if SLOW < found.flow.rate < GROWS:
        return f"{share}, and hardly any gradient gets through them"
    return f"{share}, and {_gradient(found)}"


def _forget_shut(name: str, found: Measured) -> str:
    gate = found.activity.gate(found.activity.memory)
    median = f" (median {gate.median:.2g})" if gate else ""
    return f"the forget gates of {name} are shut{median}: {_gradient(found)}"


def _update_open(name: str, found: Measured) -> str:
    gate = found.activity.gate(found.activity.memory)
    median = f" (z, what is kept of it, has median {gate.median:.2g})" if gate else ""
    return (
        f"the update gates of {name} are open all along: each step writes over the state"
        f"{median}, and {_gradient(found)}"
    )


def _large_inputs(name: str, found: Measured) -> str:
    seen = found.activity
    offset = f", {seen.input_offset:.2g} times their spread off 0" if seen.input_offset > 1 else ""
    return (
        f"the inputs of {name} are large (root mean square {seen.input_scale:.3g}{offset}): "
        f"{_stuck(found)}"
    )


def _large_weights(name: str, found: Measured) -> str:
    seen = found.activity
    gains = f" (gain {seen.input_gain:.2g} of w_in, {seen.recurrent_gain:.2g} of w_rec; about 1 "
    gains = "" if math.isnan(seen.input_gain) else f"{gains}in a new cell)"
    return f"the weights of {name} are large{gains}: {_stuck(found)}"


def _inputs_dwarf(name: str, found: Measured) -> str:
    seen = found.activity
    inputs, _, state = seen.shares
    return (
        f"the input weights of {name} dwarf the state (gain {seen.input_gain:.2g}; {inputs:.0%} of "
        f"the pre-activations come from the inputs, {state:.1%} from the state): {_stuck(found)}"
    )


def _bias_pins(name: str, found: Measured) -> str:
    seen = found.activity
    worst = max(seen.harmful, key=lambda gate: seen.harmful[gate])
    share = seen.parts[worst].shares[1]
    gates = "units" if len(seen.gates) == 1 else f"gates {worst}"
    return (
        f"a bias pins {seen.harmful[worst]:.0%} of the {gates} of {name} where nothing passes "
        f"({share:.0%} of their pre-activations come from b); {_gradient(found)}"
    )


def _dead_relus(name: str, found: Measured) -> str:
    inputs, bias, state = found.activity.shares
    part = max((inputs, "the inputs"), (bias, "the bias"), (state, "the recurrent weights"))[1]
    return (
        f"{found.activity.dead:.0%} of the relus of {name} are dead, 0 at every step of every "
        f"example, held there by {part}; {_gradient(found)}"
    )


def _gain_small(name: str, found: Measured) -> str:
    gain = found.activity.recurrent_gain
    what = f" (gain {gain:.2g}; about 1 in a new cell)" if not math.isnan(gain) else ""
    return f"the recurrent gain of {name} is too small{what}: {_gradient(found)}"


def _gain_large(name: str, found: Measured) -> str:
    gain = found.activity.recurrent_gain
    what = f" (gain {gain:.2g})" if not math.isnan(gain) else ""
    after = _gradient(found)
    if found.overflow is not None:
        after = f"the state overflows at step {found.overflow}, and before that {after}"
    return f"the recurrent gain of {name} is too large{what}: {after}"


def _healthy(name: str, found: Measured) -> str:
    steps = found.flow.horizon
    felt = "at every step" if steps == float("inf") else f"{count_text(steps)} steps back"
    return f"nothing is wrong with {name}: its gradient is felt {felt}"


SENTENCES: dict[str, Callable[[str, Measured], str]] = {
    records.FORGET_SHUT: _forget_shut,
    records.UPDATE_OPEN: _update_open,
    records.LARGE_INPUTS: _large_inputs,
    records.LARGE_WEIGHTS: _large_weights,
    records.GAIN_SMALL: _gain_small,
    records.GAIN_LARGE: _gain_large,
    records.DEAD_RELUS: _dead_relus,
    records.INPUTS_DWARF: _inputs_dwarf,
    records.BIAS_PINS: _bias_pins,
    records.HEALTHY: _healthy,
}
