"""The engines by name, and `auto`, which takes the fastest one for each layer of a cell.

Every engine takes and returns what `recurrax.unrolling.scan.scan_engine` does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax

from recurrax.gated.cell import GatedStep
from recurrax.unrolling.gated.engine import hoisted_engine, layers_of
from recurrax.unrolling.kernel import choose
from recurrax.unrolling.scan import scan_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.cell import StepFn

# Below this many steps there is little to hoist, and the plain scan compiles faster.
SHORT = 4


def auto_engine(
    step: StepFn,
    want_states: bool,
    params: Any,
    state: Any,
    start: Any,
    inputs: Any,
    **options: Any,
) -> tuple[Any, Any]:
    """The fastest engine that is known to be right, for each layer."""
    arguments = (step, want_states, params, state, start, inputs)
    if not prefers_hoisted(step, jax.tree.leaves(inputs.xs)[0].shape[0]):
        return scan_engine(*arguments, **options)
    kernel = choose.where_faster if choose.MEASURED else None
    return hoisted_engine(*arguments, **options, strict=False, kernel=kernel)


def kernel_engine(*args: Any, interpret: bool = False, **options: Any) -> tuple[Any, Any]:
    """Every layer by the GPU kernel; `interpret` runs it by Pallas's interpreter on any device."""
    return hoisted_engine(*args, **options, kernel=partial(choose.required, interpret=interpret))


def prefers_hoisted(step: StepFn, length: int) -> bool:
    """Whether the hoisted engine is the faster one: where a layer is gated and there is a loop."""
    long = not isinstance(length, int) or length >= SHORT
    return long and any(isinstance(layer, GatedStep) for _, layer in layers_of(step))


ENGINES: dict[str, Callable[..., tuple[Any, Any]]] = {
    "auto": auto_engine,
    "scan": scan_engine,
    "hoisted": hoisted_engine,
    "kernel": kernel_engine,
}
