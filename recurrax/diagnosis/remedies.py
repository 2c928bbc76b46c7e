"""What to do about a cause: each cure is tried on a copy of the layer and measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from recurrax.cells import CELLS
from recurrax.cures import init
from recurrax.diagnosis import records
from recurrax.diagnosis.causes import FAST, explodes, saturated
from recurrax.diagnosis.measure import Layer, Measured, measure
from recurrax.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recurrax.diagnosis.records import GradientFlow


# What can be said where no cure is tried, or none helps that was.
NO_CURE = {
    records.GAIN_LARGE: "clip gradients while training: rx.cures.clip_by_global_norm(1.0)",
    records.LARGE_INPUTS: "standardise the inputs",
    records.LARGE_WEIGHTS: "begin with smaller weights, and decay them while training",
    records.GAIN_SMALL: "begin with larger recurrent weights",
}


class Cure(NamedTuple):
    """Something to do, and the layer after it."""

    words: str  # an imperative, such as "raise their bias by 3.1"
    code: str | None  # Python, of `params` or `xs`
    layer: Layer  # a copy, with it


class Tried(NamedTuple):
    """A cure and what it does."""

    cure: Cure
    after: GradientFlow


def best_cure(cause: str, layer: Layer, found: Measured) -> Tried | None:
    """The first cure of a cause that helps when it is measured; None if none does."""
    if getattr(layer.params, "w_rec", None) is None and cause != records.LARGE_INPUTS:
        return None
    for cure in CURES[cause](layer, found):
        try:
            after = measure(cure.layer)
        except ValueError:  # it overflows at once
            continue
        if helps(cause, found, after):
            return Tried(cure, after.flow)
    return None


def without_cure(cause: str, layer: Layer) -> str | None:
    """What to say where none was measured to help."""
    if cause == records.HEALTHY or cause in NO_CURE:
        return NO_CURE.get(cause)
    known = getattr(layer.params, "w_rec", None) is not None
    return "no usual cure helped when it was tried on a copy" if known else None


def helps(cause: str, before: Measured, after: Measured) -> bool:
    """Whether a cure does what it is for: the gradient lives longer, explodes less, or units move.

    A fifth more, since a measurement on few examples has errors of some percent.
    """
    if after.overflow is not None or (explodes(after) and not explodes(before)):
        return False
    if explodes(before):
        return not explodes(after)
    if cause == records.DEAD_RELUS:
        return after.activity.dead < 0.5 * before.activity.dead
    if cause == records.BIAS_PINS:
        return sum(after.activity.harmful.values()) < 0.5 * sum(before.activity.harmful.values())
    if saturated(before):
        return after.flow.saturated < 0.8 * before.flow.saturated
    return after.flow.horizon > 1.2 * before.flow.horizon


def _with(layer: Layer, **weights: Any) -> Layer:
    old = layer.params
    new = {name: jnp.asarray(leaf, getattr(old, name).dtype) for name, leaf in weights.items()}
    return layer._replace(params=old._replace(**new))


def _scale(layer: Layer, **factors: float) -> Layer:
    return _with(layer, **{name: k * getattr(layer.params, name) for name, k in factors.items()})


def _scaling(layer: Layer, words: str, **factors: float) -> Cure:
    """Weights multiplied by factors, rounded as they are printed."""
    factors = {name: float(f"{factor:.2g}") for name, factor in factors.items()}
    terms = ", ".join(f"{name}={short(f)} * params.{name}" for name, f in factors.items())
    says = " and ".join(f"{name} by {short(f)}" for name, f in factors.items())
    code = f"params = params._replace({terms})"
    return Cure(words.format(says), code, _scale(layer, **factors))


# --- biases --------------------------------------------------------------------------------------


def _gates_open(layer: Layer, found: Measured) -> Iterator[Cure]:
    """A memory gate is raised until half of the units remember half of the sequence, as chrono.

    Or half as far, in logits, since what goes round by w_rec adds to what a gate keeps.
    """
    gates, gate = CELLS[layer.kind].gates, found.activity.gate(found.activity.memory)
    if gates is None or gate is None:
        return
    hidden, steps = layer.params.b.shape[0] // gates.number, max(found.steps, 2)
    median = min(max(gate.median, 1e-6), 1 - 1e-6)
    most = min(max(math.log(steps / 2), 1.0), 5.0)  # the logit; 5 keeps 150 steps
    start, stop = gates.forget * hidden, (gates.forget + 1) * hidden
    for wanted in (most, most / 2):
        by = round(wanted - math.log(median / (1 - median)), 1)
        if by > 0:
            yield Cure(
                f"raise the bias of {gate.name} by {by:g}, or use rx.cures.init.chrono({steps})",
                f"params = params._replace(b=params.b.at[{start}:{stop}].add({by:g}))",
                _with(layer, b=jnp.asarray(layer.params.b).at[start:stop].add(by)),
            )
    options: dict[str, Any] = {
        "gates": gates.number,
        "forget_gate": gates.forget,
        "input_gate": gates.input,
    }
    row = init.chrono(steps, **options)
    b = jnp.concatenate([each(None, (hidden,), layer.params.b.dtype) for each in row])
    called = ", ".join(f"{name}={value}" for name, value in options.items())
    yield Cure(
        f"use rx.cures.init.chrono({steps})",
        f"row = rx.cures.init.chrono({steps}, {called})\n"
        f"b = [each(None, ({hidden},), params.b.dtype) for each in row]\n"
        "params = params._replace(b=jnp.concatenate(b))",
        _with(layer, b=b),
    )


def _bias_centred(layer: Layer, found: Measured) -> Iterator[Cure]:
    """The biases that pin are taken out; a memory gate among them gets the usual 1."""
    seen, names = found.activity, list(found.activity.parts)
    b = np.array(layer.params.b)
    hidden = b.size // len(names)
    pinned = [name for name in names if seen.parts[name].shares[1] > 0.5]
    code = ["b = params.b"]
    for name in pinned:
        place = slice(names.index(name) * hidden, (names.index(name) + 1) * hidden)
        value = 1.0 if name == seen.memory else 0.0
        b[place] = value
        code.append(f"b = b.at[{place.start}:{place.stop}].set({value:g})")
    words = f"set the bias of {', '.join(pinned)} to 0"
    if seen.memory in pinned:
        words += f" ({seen.memory}: 1)"
    cured = _with(layer, b=b)
    code.append("params = params._replace(b=b)")
    if getattr(getattr(layer.params, "unit", None), "b_n", None) is not None:
        unit = layer.params.unit._replace(b_n=jnp.zeros_like(layer.params.unit.b_n))
        cured = cured._replace(params=cured.params._replace(unit=unit))
        code[-1] = (
            "params = params._replace(b=b, unit=params.unit._replace(b_n=0 * params.unit.b_n))"
        )
    yield Cure(words, "\n".join(code), cured)


# --- inputs and weights --------------------------------------------------------------------------


def _inputs_standardised(layer: Layer, found: Measured) -> Iterator[Cure]:
    mean, std = layer.xs.mean((0, 1)), layer.xs.std((0, 1))
    xs = (layer.xs - mean) / jnp.where(std > 0, std, 1)
    yield Cure(
        "standardise the inputs, feature by feature",
        "xs = (xs - xs.mean((0, 1))) / xs.std((0, 1))",
        layer._replace(xs=xs.astype(layer.xs.dtype)),
    )


def _inputs_shrunk(layer: Layer, found: Measured) -> Iterator[Cure]:
    """Input weights such that the inputs add a pre-activation of unit size."""
    scale = found.activity.input_gain * found.activity.input_scale
    yield _scaling(
        layer, "scale {}, so that inputs add about 1 to a pre-activation", w_in=1 / scale
    )


def _weights_shrunk(layer: Layer, found: Measured) -> Iterator[Cure]:
    """Both weights at the size of a usual initialisation, where they are above it."""
    seen = found.activity
    factors = {}
    if seen.input_gain * seen.input_scale > 1.2:
        factors["w_in"] = 1 / (seen.input_gain * seen.input_scale)
    if seen.recurrent_gain > 1.2:
        factors["w_rec"] = 1 / seen.recurrent_gain
    yield _scaling(layer, "scale {} (and decay weights while training)", **factors)


def _relus_revived(layer: Layer, found: Measured) -> Iterator[Cure]:
    """Without the biases, with centred inputs, or as a network of relus begins."""
    zero = jnp.zeros_like(layer.params.b)
    yield Cure("set b to 0", "params = params._replace(b=0 * params.b)", _with(layer, b=zero))
    if found.activity.input_offset > 1:
        yield from _inputs_standardised(layer, found)
    w_in = layer.params.w_in - layer.params.w_in.mean()
    eye = jnp.eye(layer.params.w_rec.shape[0], dtype=layer.params.w_rec.dtype)
    yield Cure(
        "begin anew from recurrent weights of identity, centred input weights and b = 0",
        "params = params._replace(w_rec=jnp.eye(len(params.w_rec)), "
        "w_in=params.w_in - params.w_in.mean(), b=0 * params.b)",
        _with(layer, w_rec=eye, w_in=w_in, b=zero),
    )


# --- the recurrent gain --------------------------------------------------------------------------


def _gain_raised(layer: Layer, found: Measured) -> Iterator[Cure]:
    """Recurrent weights at which the gradient holds; a gated cell's at the usual size."""
    seen = found.activity
    if seen.memory is not None:
        yield _scaling(
            layer, "scale {}, to the size of a new cell's", w_rec=1 / seen.recurrent_gain
        )
        return
    factor = gain_that_holds(layer, found)
    if factor is not None:
        words = "scale {}, where the gradient neither shrinks nor grows"
        if layer.kind == "elman":
            words += " (to begin anew: rx.cures.init.critical)"
        yield _scaling(layer, words, w_rec=factor)


def _gain_lowered(layer: Layer, found: Measured) -> Iterator[Cure]:
    factor = gain_that_holds(layer, found)
    clip = "clip gradients while training: rx.cures.clip_by_global_norm(1.0)"
    if factor is not None:
        # A little less, so that no rounding takes it over the edge.
        yield _scaling(layer, f"scale {{}}, and {clip}", w_rec=0.98 * factor)


def gain_that_holds(layer: Layer, found: Measured) -> float | None:
    """The factor of w_rec at which the measured rate is 0 or just below, by halving an interval.

    None if there is none between 1/64 and 64.
    """

    def grows(log_factor: float) -> bool:
        try:
            now = measure(_scale(layer, w_rec=math.exp(log_factor)))
        except ValueError:  # it overflows at once
            return True
        return now.overflow is not None or now.flow.rate > 0

    high = explodes(found)
    edge, step = 0.0, math.log(0.5 if high else 2.0)
    for _ in range(6):
        if grows(edge + step) != high:
            break
        edge += step
    else:
        return None
    low, top = sorted((edge, edge + step))
    for _ in range(5):
        middle = (low + top) / 2
        low, top = (low, middle) if grows(middle) else (middle, top)
    return math.exp(low)


def _advice(layer: Layer, found: Measured) -> Iterator[Cure]:
    """What lengthens the memory of a healthy layer that forgets long before the sequence ends."""
    if found.flow.horizon > found.steps / 4 or found.flow.rate > FAST / 10:
        return
    yield from _gates_open(layer, found) if found.activity.memory else _gain_raised(layer, found)


CURES: dict[str, Callable[[Layer, Measured], Iterator[Cure]]] = {
    records.FORGET_SHUT: _gates_open,
    records.UPDATE_OPEN: _gates_open,
    records.LARGE_INPUTS: _inputs_standardised,
    records.LARGE_WEIGHTS: _weights_shrunk,
    records.GAIN_SMALL: _gain_raised,
    records.GAIN_LARGE: _gain_lowered,
    records.DEAD_RELUS: _relus_revived,
    records.INPUTS_DWARF: _inputs_shrunk,
    records.BIAS_PINS: _bias_centred,
    records.HEALTHY: _advice,
}
