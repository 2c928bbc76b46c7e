"""recurrax: see, predict and fix how gradients travel through recurrent networks, in JAX."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recurrax import cells, flow, unrolling
from recurrax.cell import Cell, StepFn
from recurrax.cells.bidirectional import bidirectional
from recurrax.cells.stack import residual, stack
from recurrax.gated.cell import GatedParams, GateView, gated_cell
from recurrax.gated.step import GatedStep, gate_activations
from recurrax.unrolling import length_mask, unroll, unroll_states
from recurrax.version import __version__ as __version__

if TYPE_CHECKING:
    from recurrax import cures, interop, plot, published, tasks, train
    from recurrax.advice import advise
    from recurrax.diagnosis import diagnose

__all__ = [
    "Cell",
    "GateView",
    "GatedParams",
    "GatedStep",
    "StepFn",
    "advise",
    "bidirectional",
    "cells",
    "cures",
    "diagnose",
    "flow",
    "gate_activations",
    "gated_cell",
    "interop",
    "length_mask",
    "plot",
    "published",
    "residual",
    "stack",
    "tasks",
    "train",
    "unroll",
    "unroll_states",
    "unrolling",
]

# Loaded when first named: they import optax, matplotlib or scikit-learn, which a measurement
# does not need.
_FUNCTIONS = {"advise": "advice", "diagnose": "diagnosis"}
_LAZY = ("cures", "interop", "plot", "published", "tasks", "train")


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"recurrax.{_FUNCTIONS[name]}"), name)
    if name in _LAZY:
        return importlib.import_module(f"recurrax.{name}")
    raise AttributeError(f"module 'recurrax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_FUNCTIONS])
