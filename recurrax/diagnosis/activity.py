"""What the units of a layer do: how open their gates are, and what drives them.

`z = x @ w_in + b + h @ w_rec`: the mean squares of the three parts say which of them a unit obeys,
and where an activation is flat (a tenth of its greatest slope or less) it lets no gradient through.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.cells import CELLS
from recurrax.cells.lstm import lstm_gates
from recurrax.diagnosis.records import GateSummary
from recurrax.flow.steps.trajectory import walk_together
from recurrax.gated.step import GatedStep, gate_activations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recurrax.flow.steps.problem import Problem

_STEPS = 256  # how many steps are looked at, spread over the sequence
# Of cells that have no `GateView`.
_TOLD: dict[str, Any] = {
    "gru-reset-before": ("rzn", ("sigmoid", "sigmoid", "tanh")),
    "lstm-projection": ("ifgo", ("sigmoid", "sigmoid", "tanh", "sigmoid")),
}
# Where a sigmoid and a tanh have a tenth of their greatest slope: 4 v (1 - v) and 1 - v^2.
_FLAT = {"sigmoid": 0.5 - 0.225**0.5, "tanh": 0.9**0.5}


class Parts(NamedTuple):
    """Mean squares of what the pre-activations of one gate are made of."""

    inputs: float
    bias: float
    state: float

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the inputs, of the bias and of the state, summing to 1."""
        whole = sum(self) or 1.0
        return self.inputs / whole, self.bias / whole, self.state / whole


class Activity(NamedTuple):
    """What the units of a layer do, over some steps and all examples."""

    gates: tuple[GateSummary, ...]
    flat: dict[str, float]  # fraction of a gate's values where its slope is below a tenth
    harmful: dict[str, float]  # of these, where no signal passes and no memory is kept
    parts: dict[str, Parts]  # empty for a cell without w_in, w_rec and b
    memory: str | None  # the gate that keeps the old state: f of an LSTM, z of a GRU
    input_gain: float  # root mean square of x @ w_in, by that of x; NaN where not known
    recurrent_gain: float  # of w_rec: 1 for orthogonal blocks
    dead: float  # fraction of relus that are never above 0
    input_scale: float  # root mean square of x
    input_offset: float  # of the mean of x over time and examples, by its spread

    @property
    def flat_mean(self) -> float:
        """Over the gates; NaN where they are not known, and of relus, which do not saturate."""
        values = [self.flat[gate.name] for gate in self.gates if gate.kind != "relu"]
        return float(np.mean(values)) if values else float("nan")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of inputs, bias and state in the pre-activations, mean over the gates."""
        rows = [part.shares for part in self.parts.values()]
        a, b, c = np.mean(rows, axis=0).tolist() if rows else [float("nan")] * 3
        return a, b, c

    def gate(self, name: str | None) -> GateSummary | None:
        """The gate of that name."""
        return next((gate for gate in self.gates if gate.name == name), None)


class Seen(NamedTuple):
    """What was seen at some steps, `[K, E, ...]`."""

    finite: Any  # bool [T], whether the states are, at all steps
    values: Any  # [G, K, E, H], of the gates; None for a step that does not tell them
    h: Any  # before each step; None where the state has no such field
    xs: Any
    ys: Any


@partial(jax.jit, static_argnums=1)
def look(problem: Problem, kind: str) -> Seen:
    """Run a layer of this kind, and look at some of its steps."""
    path = walk_together(problem)
    count = min(problem.length, _STEPS)
    places = np.unique(np.linspace(0, problem.length - 1, count).round().astype(int))
    befores, xs, ys = jax.tree.map(lambda a: a[places], (path.befores, problem.xs, path.ys))
    values = _values(kind, problem.step, problem.params, befores, xs)
    return Seen(path.finite, values, getattr(befores, "h", None), xs, jax.tree.leaves(ys)[0])


def _values(kind: str, step: Any, params: Any, befores: Any, xs: Any) -> Any:
    if isinstance(step, GatedStep) and step.view is not None:
        both = step.pre_activations(params, befores.h, xs)
        return jnp.stack(list(step.view.values(params.unit, *both)))
    if kind not in _TOLD:
        return None
    h, count = befores.h, len(_TOLD[kind][0])
    z = jnp.stack(jnp.split(xs @ params.w_in + params.b, count, -1))
    if kind == "lstm-projection":
        return lstm_gates(None, z, jnp.stack(jnp.split(h @ params.w_rec, count, -1)))
    w_r, w_z, w_n = jnp.split(params.w_rec, count, -1)
    z_gates = jnp.stack([z[0] + h @ w_r, z[1] + h @ w_z])
    gates: Any = gate_activations(z_gates, "sigmoid", "sigmoid")
    n = jnp.tanh(z[2] + (gates[0] * h) @ w_n)
    return jnp.concatenate([gates, n[None]])


def _gates(kind: str, step: Any, seen: Seen) -> tuple[Sequence[str], Sequence[str], np.ndarray]:
    """Names and kinds of the gates, and their values.

    Of a step that does not tell its gates, outputs that never leave [-1, 1], or never go below 0
    and are 0 somewhere, are taken for those of a tanh and of a relu.
    """
    if seen.values is not None:
        view = step.view if isinstance(step, GatedStep) else None
        names, kinds = (view.names, view.kinds) if view else _TOLD[kind]
        return names, kinds, np.asarray(seen.values, np.float64)
    outputs = np.asarray(seen.ys, np.float64)
    if (outputs >= 0).all() and (outputs == 0).any():
        return ("h",), ("relu",), outputs[None]
    if (np.abs(outputs) <= 1).all():
        return ("h",), ("tanh",), outputs[None]
    return (), (), outputs[None][:0]


def activity_of(kind: str, step: Any, params: Any, seen: Seen) -> Activity:
    """Summarise what was seen of a layer of this kind."""
    names, kinds, values = _gates(kind, step, seen)
    gates = tuple(_summary(*gate) for gate in zip(names, kinds, values, strict=True))
    row = CELLS.get(kind)
    memory = names[row.gates.forget] if row and row.gates and len(names) > 1 else None
    letting_in = None
    if row and row.gates and memory and row.gates.input is not None:
        letting_in = names[row.gates.input]
    by_name = dict(zip(names, values, strict=True))
    flat, harmful = {}, {}
    for name, kind_of_gate in zip(names, kinds, strict=True):
        low, high = _ends(kind_of_gate, by_name[name])
        flat[name] = float((low | high).mean())
        bad = low | high if kind_of_gate == "tanh" else low  # an open gate lets all through
        if memory and name == letting_in:  # shut, where the memory is kept instead
            bad = bad & ~_ends("sigmoid", by_name[memory])[1]
        harmful[name] = 0.0 if name == memory else float(bad.mean())
    outputs = np.asarray(seen.ys, np.float64)
    relu = "relu" in kinds
    return Activity(
        gates=gates,
        flat=flat,
        harmful=harmful,
        memory=memory,
        dead=float((outputs.max((0, 1)) <= 0).mean()) if relu else 0.0,
        **_drives(step, params, seen, names),
        **_of_inputs(seen.xs),
    )


def _ends(kind: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where an activation is flat, at its lower and at its upper end."""
    if kind == "relu":
        return values <= 0, np.zeros(values.shape, bool)
    if kind == "tanh":
        return values < -_FLAT["tanh"], values > _FLAT["tanh"]
    return values < _FLAT["sigmoid"], values > 1 - _FLAT["sigmoid"]


def _summary(name: str, kind: str, values: np.ndarray) -> GateSummary:
    if kind == "relu":
        above = float((values > 0).mean())
        return GateSummary(name, kind, float(np.median(values)), above, 1 - above, 0.0)
    low, high = (values < (0.1 if kind == "sigmoid" else -0.9)).mean(), (values > 0.9).mean()
    middle = np.median(values if kind == "sigmoid" else np.abs(values))
    ends = float(high), float(low), float(low + high)
    return GateSummary(name, kind, float(middle), *ends)


def _drives(step: Any, params: Any, seen: Seen, names: Sequence[str]) -> dict[str, Any]:
    """What the pre-activations are made of, where a cell has `w_in`, `w_rec` and `b`."""
    h = seen.h
    weights = [getattr(params, name, None) for name in ("w_in", "w_rec", "b")]
    told = isinstance(step, GatedStep) or names
    if not told or h is None or any(leaf is None for leaf in weights):
        return {"parts": {}, "input_gain": float("nan"), "recurrent_gain": float("nan")}
    w_in, w_rec, b = (np.asarray(leaf, np.float64) for leaf in weights)
    xs, h = np.asarray(seen.xs, np.float64), np.asarray(h, np.float64)
    gates = len(gate_names(step, params, names))

    def by_gate(z: np.ndarray) -> np.ndarray:
        squares: np.ndarray = np.mean(z.reshape(-1, gates, z.shape[-1] // gates) ** 2, axis=(0, 2))
        return squares

    b_n = getattr(getattr(params, "unit", None), "b_n", None)
    if b_n is not None:  # inside the reset
        b = b + np.concatenate([np.zeros(b.size - b_n.size), np.asarray(b_n, np.float64)])
    rows = np.stack([by_gate(xs @ w_in), by_gate(b), by_gate(h @ w_rec)], 1).tolist()
    shape = w_rec.shape
    scale = np.sqrt(np.mean(xs**2))
    return {
        "parts": dict(zip(gate_names(step, params, names), (Parts(*r) for r in rows), strict=True)),
        "input_gain": float(np.sqrt(np.mean([r[0] for r in rows])) / scale) if scale else 0.0,
        "recurrent_gain": float(np.sqrt(np.sum(w_rec**2) / shape[1])),
    }


def gate_names(step: Any, params: Any, names: Sequence[str]) -> Sequence[str]:
    """The names of the blocks of w_rec: those of the gates, if there are as many."""
    count = getattr(step, "gates", 0) or max(len(names), 1)
    return names if len(names) == count else [f"gate {g}" for g in range(count)]


def _of_inputs(xs: Any) -> dict[str, Any]:
    values = np.asarray(xs, np.float64)
    flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values[:, None]
    spread = np.sqrt(np.mean(flat.var(axis=0)))
    offset = np.sqrt(np.mean(flat.mean(axis=0) ** 2))
    return {
        "input_scale": float(np.sqrt(np.mean(flat**2))),
        "input_offset": float(offset / spread) if spread else float("inf") if offset else 0.0,
    }
