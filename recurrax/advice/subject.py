"""What is to be advised on: a cell, its layers and gates, and what a cure makes of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.advice.outcome import Candidate
from recurrax.cells import CELLS
from recurrax.cells.combined import StackInit, StackStep
from recurrax.gated.step import GatedStep
from recurrax.interop.describe import describe
from recurrax.train.presets import Cure

if TYPE_CHECKING:
    from recurrax.cell import Cell

_OPEN = 8.0  # a pre-activation at which a gate is as good as open; shut at minus that


class DoesNotFit(Exception):
    """Why a cure does not fit the cell."""


class Memory(NamedTuple):
    """Which of the G gates of a layer keeps its state, and which lets in."""

    gates: int
    forget: int
    input: int | None  # None if no gate is known to do only that
    sign: int  # 1 if the gate keeps where it is open, -1 if where it is shut


class Layer(NamedTuple):
    """One cell of a stack, or the cell itself."""

    init: Any
    params: Any  # of one seed
    family: str | None  # its name in `recurrax.cells.CELLS`
    memory: Memory | None  # None if no gate is known to keep the state


class Subject(NamedTuple):
    """What is to be cured, and on what."""

    cell: Cell
    params: Any  # of one seed
    xs: Any  # [T, B, I]
    mask: Any  # bool [T, B], or None
    wanted: float  # the horizon, in steps
    layers: tuple[Layer, ...]

    @property
    def family(self) -> str | None:
        """The name of the cell, of all layers of a stack, in `recurrax.cells.CELLS`."""
        names = {layer.family for layer in self.layers}
        return names.pop() if len(names) == 1 else None

    @property
    def memory(self) -> Memory:
        """The gate that keeps the state, in all layers the same."""
        found = {layer.memory for layer in self.layers}
        if None in found:
            raise DoesNotFit("the cell has no gate that is known to keep or to forget its state")
        if len(found) > 1:
            raise DoesNotFit("the layers have different gates: begin each of them by itself")
        return found.pop()  # type: ignore[return-value]


def subject_of(cell: Cell, params: Any, xs: Any, wanted: float, mask: Any = None) -> Subject:
    """A cell with what is known of its layers."""
    init, step = cell.init, cell.step
    if isinstance(step, StackStep) and isinstance(init, StackInit):
        rows = zip(init.inits, step.steps, params, strict=True)
    else:
        rows = zip((init,), (step,), (params,), strict=True)
    layers = tuple(_layer(*row) for row in rows)
    return Subject(cell, params, xs, mask, wanted, layers)


def _layer(init: Any, step: Any, params: Any) -> Layer:
    family = (describe(params) or {}).get("family")
    family = family if family in CELLS else None
    gates = None if family is None else CELLS[family].gates
    if gates is not None:
        return Layer(init, params, family, Memory(gates.number, gates.forget, gates.input, 1))
    while not isinstance(step, GatedStep) and hasattr(step, "step"):  # a residual, or detached
        step = step.step
    own = family is None and isinstance(step, GatedStep)
    return Layer(init, params, family, _memory(step, params) if own else None)


def _memory(step: GatedStep, params: Any) -> Memory | None:
    """The gate on which alone it depends whether a unit keeps its state, found by derivatives.

    With all else at 0 a unit keeps `d s_k / d s_k` of its own state, about 1 where such a gate is
    at one of its ends, and about 0 at the other.
    """
    unit = jax.tree.map(lambda leaf: leaf[:1].astype("float32"), params.unit)
    fields = step.state._fields  # type: ignore[attr-defined]

    def kept(gate: int, value: float) -> float:
        z_in = jnp.zeros((step.gates, 1)).at[gate].set(value)
        state = step.state(*(jnp.zeros(1) for _ in fields))
        found = jax.jacfwd(lambda s: step.pointwise(unit, z_in, jnp.zeros_like(z_in), s))(state)
        return max(float(getattr(getattr(found, name), name)[0, 0]) for name in fields)

    for gate in range(step.gates):
        shut, opened = kept(gate, -_OPEN), kept(gate, _OPEN)
        if min(shut, opened) < 0.05 and max(shut, opened) > 0.95:
            return Memory(step.gates, gate, None, 1 if opened > shut else -1)
    return None


# --- another initialiser --------------------------------------------------------------------------


def begun(subject: Subject, name: str, words: str, field: str, value: Any, call: str) -> Candidate:
    """A candidate with another initialiser of every gate of every layer.

    Args:
      subject: what is to be cured.
      name: of the candidate.
      words: what is done.
      field: of the `init` of a cell, such as `"bias_init"`.
      value: an initialiser for each gate, or one for all.
      call: what makes the value, as it is written after `rx.cures.init.`.
    """
    inits = [layer.init for layer in subject.layers]
    rows: list[Any] = [getattr(init, field, None) for init in inits]
    if not all(isinstance(row, tuple) for row in rows):
        raise DoesNotFit(f"the cell is none of the library's making, so it has no {field} to give")
    count = len(rows[0])
    row = (value,) * count if callable(value) else value
    written = f"rx.cures.init.{call}"
    written = f"({written},) * {count}" if callable(value) else written
    new = tuple(dataclasses.replace(init, **{field: row}, call="") for init in inits)
    stacked = isinstance(subject.cell.init, StackInit)
    code = ["import dataclasses"]
    if stacked:
        one = f"dataclasses.replace(one, {field}={written})"
        code.append(f"inits = tuple({one} for one in cell.init.inits)")
        code.append("cell = dataclasses.replace(cell, init=type(cell.init)(inits))")
    else:
        code.append(f"init = dataclasses.replace(cell.init, {field}={written})")
        code.append("cell = dataclasses.replace(cell, init=init)")
    init: Any = StackInit(new) if stacked else new[0]
    cell = dataclasses.replace(subject.cell, init=init)
    return Candidate(name, words, cell, Cure(), "\n".join(code))
