"""What a diagnosis is made of, and how it prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from recurrax.cell import Cell
    from recurrax.flow.decay import Decay

# What may be wrong with a layer: `Finding.cause` is one of these words.
FORGET_SHUT = "forget gates shut"
UPDATE_OPEN = "update gates open"
LARGE_INPUTS = "saturated by large inputs"
LARGE_WEIGHTS = "saturated by large weights"
GAIN_SMALL = "recurrent gain too small"
GAIN_LARGE = "recurrent gain too large"
DEAD_RELUS = "dead relus"
INPUTS_DWARF = "inputs dwarf the state"
BIAS_PINS = "bias pins the units"
HEALTHY = "healthy"
CAUSES = (
    FORGET_SHUT,
    UPDATE_OPEN,
    LARGE_INPUTS,
    LARGE_WEIGHTS,
    GAIN_SMALL,
    GAIN_LARGE,
    DEAD_RELUS,
    INPUTS_DWARF,
    BIAS_PINS,
    HEALTHY,
)


class GateSummary(NamedTuple):
    """Where one gate of a layer stands, over units, steps and examples."""

    name: str  # as the cell calls it: "f"; "h" for the units of a vanilla network
    kind: str  # "sigmoid", "tanh" or "relu"
    median: float  # of its value; of a tanh's size, which is 1 at both ends
    open: float  # fraction above 0.9; of a relu, above 0
    closed: float  # fraction below 0.1 (tanh: -0.9); of a relu, at 0
    saturated: float  # fraction at either end; 0 for a relu


class GradientFlow(NamedTuple):
    """How a gradient travels through a layer: medians over the examples."""

    horizon: float  # steps back to where 5 % of it is left; inf where it does not shrink
    rate: float  # growth of its log norm, nats a step, over the second half of the steps
    saturated: float = float("nan")  # fraction of activations with a tenth of their greatest slope


class Finding(NamedTuple):
    """One thing that is wrong, why, and what to do."""

    cause: str  # one of `recurrax.diagnosis.records.CAUSES`
    sentence: str  # what was measured and why it is so, with numbers
    cure: str | None  # what to do, in words; None where nothing need be done
    code: str | None  # lines of Python that do it to `params`, or `xs`; None where there is none
    before: GradientFlow | None  # measured as the layer is; None where it cannot be
    after: GradientFlow | None  # measured on a copy with the cure; None where none was tried

    def __str__(self) -> str:
        """The sentence, the cure, and what that was measured to do."""
        return finding_text(self)


class LayerDiagnosis(NamedTuple):
    """All that was measured of one layer in one direction, and what follows."""

    name: str  # "layer0/forward"; with the prefix of its weights where a source holds several
    kind: str  # "lstm", "gru", "elman", ...: a name of `rx.cells.CELLS`; else "own"
    cell: Cell
    params: Any  # of this layer alone: what `Finding.code` is about
    input_size: int  # I
    hidden_size: int  # H
    verdict: str  # "vanishes", "explodes" or "holds", over the T steps; "overflows"
    decay: Decay  # log norms of d s_t / d s_0, `[T, examples]`
    horizon: float  # steps, median over the examples; inf where the gradient does not shrink
    rate: float  # nats a step, median over the examples
    exponent: float  # the leading Lyapunov exponent on this data: mean log growth a step after T/10
    gates: tuple[GateSummary, ...]  # empty where the cell does not tell its gates
    spectral_radius: dict[str, float]  # of each gate's block of w_rec, `[H, H]`
    largest_singular_value: dict[str, float]  # likewise
    jacobian_radius: float  # of d s_t / d s_{t-1}, median over some steps
    jacobian_norm: float  # its largest singular value, likewise
    loss_gradients: np.ndarray  # [T, examples], log || d sum(y_T) / d s_t ||
    input_share: float  # of the pre-activations' mean square, 0 to 1; NaN where there are none
    bias_share: float  # likewise; what is left is the state's own
    findings: tuple[Finding, ...]  # most to blame first; one "healthy" where nothing is wrong

    @property
    def cause(self) -> str:
        """What is most to blame."""
        return self.findings[0].cause

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return self.cause == HEALTHY

    def __str__(self) -> str:
        """Numbers as a table, then what is wrong, why, and what to do."""
        return layer_text(self)

    def __repr__(self) -> str:
        return f"LayerDiagnosis({self.name!r}, {self.kind!r}, cause={self.cause!r})"


class Diagnosis(NamedTuple):
    """What is wrong with a model, layer by layer; `print` shows it as tables and sentences."""

    layers: tuple[LayerDiagnosis, ...]  # in the order of the computation, forward before backward
    data: str  # what was fed, such as "unit normal noise [50, 8, 3]: no data was given"
    seconds: float  # that it took

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong with any layer."""
        return all(layer.healthy for layer in self.layers)

    def layer(self, name: str) -> LayerDiagnosis:
        """The layer of that name."""
        found = [layer for layer in self.layers if layer.name == name]
        if not found:
            names = ", ".join(repr(layer.name) for layer in self.layers)
            raise ValueError(f"name must be one of the layers ({names}), got {name!r}")
        return found[0]

    def table(self) -> str:
        """All layers as plain text: one table each, and its findings."""
        return "\n\n".join([f"fed: {self.data}", *map(str, self.layers)])

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        causes = ", ".join(f"{layer.name}: {layer.cause}" for layer in self.layers)
        return f"Diagnosis({causes}; print it for the tables)"


def rows_of(layer: LayerDiagnosis) -> list[tuple[str, str]]:
    """The numbers of a layer as lines of a table: what, and its value in words."""
    rate, horizon = layer.rate, layer.horizon
    rows = [
        ("cell", f"{layer.kind}, {layer.input_size} inputs, {layer.hidden_size} units"),
        ("gradient", f"{layer.verdict}; it {pace(rate)}"),
        ("horizon", f"{steps_text(horizon)} (5 % of the gradient left)"),
        ("rate", f"{rate:+.3g} nats a step"),
        ("top exponent", f"{layer.exponent:+.3g} nats a step"),
        ("loss on the last y", f"felt at the first step {_felt(layer.loss_gradients)}"),
        ("jacobian", f"radius {layer.jacobian_radius:.3g}, norm {layer.jacobian_norm:.3g}"),
    ]
    for name, radius in layer.spectral_radius.items():
        norm = layer.largest_singular_value[name]
        rows.append((f"w_rec of {name}", f"radius {radius:.3g}, norm {norm:.3g}"))
    for gate in layer.gates:
        ends = f"open {gate.open:.0%}, closed {gate.closed:.0%}, saturated {gate.saturated:.0%}"
        if gate.kind == "relu":
            ends = f"above 0 {gate.open:.0%}, at 0 {gate.closed:.0%}"
        rows.append((f"gate {gate.name}", f"median {gate.median:.2g}; {ends}"))
    if not math.isnan(layer.input_share):
        own = 1 - layer.input_share - layer.bias_share
        shares = f"inputs {layer.input_share:.0%}, bias {layer.bias_share:.0%}, state {own:.0%}"
        rows.append(("pre-activations", shares))
    return rows


def layer_text(layer: LayerDiagnosis) -> str:
    rows = rows_of(layer)
    width = max(len(name) for name, _ in rows)
    lines = [layer.name, *(f"  {name:{width}}  {value}" for name, value in rows)]
    return "\n".join([*lines, *(f"  {finding}" for finding in layer.findings)])


def finding_text(finding: Finding) -> str:
    words = f"{finding.cause.upper()}: {finding.sentence}"
    if finding.cure:
        reason = "; if your task needs more: " if finding.cause == HEALTHY else "; "
        words += f"{reason}{finding.cure}"
    if finding.before and finding.after:
        words += f" (with it: {change_text(finding.before, finding.after)})"
    return f"{words}."


def change_text(before: GradientFlow, after: GradientFlow) -> str:
    """What a cure changes: `horizon 9 -> 140`; saturation too, where that falls, or the rate."""
    changes = []
    if before.saturated - after.saturated > 0.1:
        changes.append(f"saturated {before.saturated:.0%} -> {after.saturated:.0%}")
    if before.rate > 0 and before.horizon == float("inf"):
        changes.append(f"rate {before.rate:+.2g} -> {after.rate:+.2g} nats a step")
    else:
        changes.append(f"horizon {count_text(before.horizon)} -> {count_text(after.horizon)}")
    return ", ".join(changes)


def pace(rate: float) -> str:
    """How fast a gradient changes: `halves every 1.3 steps`."""
    if rate == float("-inf"):
        return "is erased"
    if abs(rate) < 1e-4 or math.isnan(rate):
        return "stays as large"
    steps = math.log(2) / abs(rate)
    if steps < 1.05:
        left = math.exp(rate)
        return (
            f"falls to {left:.2g} of itself a step" if rate < 0 else f"grows {left:.2g}-fold a step"
        )
    return f"{'halves' if rate < 0 else 'doubles'} every {count_text(steps)} steps"


def steps_text(steps: float) -> str:
    return "endless" if steps == float("inf") else f"{count_text(steps)} steps"


def count_text(steps: float) -> str:
    """A number of steps, with a decimal where it is small."""
    if steps == float("inf"):
        return "endless"
    return f"{steps:.1f}".removesuffix(".0") if steps < 10 else f"{steps:.0f}"


def _felt(log_norm: np.ndarray) -> str:
    """How strongly the first step feels what the last one does."""
    left = float(np.median(log_norm[0] - log_norm[-1]))
    return "not at all" if np.isneginf(left) else f"e^{left:.3g} times as strongly as at the last"
