"""What both kernels are given. Every array leads with N, the groups: examples with other weights.

z        [N, T, B, G*H]    pre-activations, one array or (input's share, state's share)
w_rec    [N, H, G*H]       unit  [N, H] each         a field of a state  [N, B, H]
mask, resets  bool [N, T, B]
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from recurrax.gated.step import GatedStep
    from recurrax.unrolling.kernel.placement import Plan


@dataclasses.dataclass(frozen=True)
class KernelSpec:
    """What is static.

    Args:
      step: the gated step.
      reverse: whether time runs from the end to the start.
      fields: for each field of the state, whether it is wanted after every step.
      plan: how the work is laid on the device.
      interpret: whether to run the kernel by Pallas's interpreter, on any device.
    """

    step: GatedStep
    reverse: bool
    fields: tuple[bool, ...]
    plan: Plan
    interpret: bool = False

    @property
    def h(self) -> int:
        """Which field of the state is h."""
        return self.step.h_field


class Forward(NamedTuple):
    """What the forward kernel is given."""

    mask: Any  # or None
    resets: Any  # or None
    z: Any  # the input's share
    w_rec: Any
    unit: Any  # a pytree
    columns: Any  # arrays [N, H] that the pointwise function closes over
    state: tuple[Any, ...]
    start: tuple[Any, ...] | None


class Backward(NamedTuple):
    """What the backward kernel is given."""

    mask: Any
    resets: Any
    z: tuple[Any, ...]  # (the sum,) or (the input's share, the state's)
    w_rec: Any
    unit: Any
    columns: Any
    old: tuple[Any, ...]  # the fields before every step, after its reset, [N, T, B, H]
    errors: tuple[Any, ...]  # gradients of the fields after every step, [N, T, B, H], or None
    final: tuple[Any, ...]  # gradients of the last state's fields


class ForwardOutputs(NamedTuple):
    """What the forward kernel gives."""

    final: tuple[Any, ...]
    stacks: tuple[Any, ...]  # the fields after every step, [N, T, B, H], or None


class Gradients(NamedTuple):
    """What the backward kernel gives."""

    z: tuple[Any, ...]  # gradients, as z was given
    unit: Any  # for each example, [N, B, H]
    state: tuple[Any, ...]
    start: tuple[Any, ...] | None  # what went to the state that resets return to


# Which axis of each array is that of examples; -1 for none.
FORWARD_AXES: Any = Forward._make((2, 2, 2, -1, -1, -1, 1, 1))
BACKWARD_AXES: Any = Backward._make((2, 2, 2, -1, -1, -1, 2, 2, 1))
FORWARD_OUTPUT_AXES: Any = ForwardOutputs._make((1, 2))
GRADIENT_AXES: Any = Gradients._make((2, 1, 1, 1))
