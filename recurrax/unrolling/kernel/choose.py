"""Which layers the kernel runs, and why not."""

from __future__ import annotations

import dataclasses
import warnings
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.checks import named
from recurrax.gated.differentiable import Refusal
from recurrax.unrolling.kernel import placement as plans
from recurrax.unrolling.kernel.by_gate import backward_by_gate, forward_by_gate
from recurrax.words import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.gated.step import GatedStep
    from recurrax.unrolling.gated.layer import LayerSpec, Operands, Switches
    from recurrax.unrolling.kernel.device_passes import Kernel

    Make = Callable[..., Kernel]  # from a plan, and whether Pallas's interpreter is to run it


class Region(NamedTuple):
    """Where the kernel was measured to be right, and faster than the hoisted engine."""

    dtypes: tuple[str, ...]
    hidden: tuple[int, int]  # from, to
    batch: tuple[int, int]


# What `python -m tests.benchmarks.gpu` has shown on a device. Nothing yet: until it has been run,
# `engine="auto"` leaves the kernel alone.
MEASURED: tuple[Region, ...] = ()


def required(
    make: Make, spec: LayerSpec, flags: Switches, ops: Operands, *, interpret: bool
) -> Kernel | None:
    """The kernel, or an error that says why not; none where there is nothing to run."""
    if 0 in ops.xs.shape[:2]:
        return None
    device = plans.attached()
    chosen = _plan(spec.step, ops, device)
    reason = _unfit(spec.step, ops) or _unwritten(spec.step, ops)
    if reason is None and device is not None and not interpret:
        reason = _refused(make(chosen), spec, flags, ops, device)
    if reason is not None:
        raise ValueError(
            f'engine="kernel" cannot run {named(spec.step)}: {reason}. Use engine="auto" or '
            '"hoisted".'
        )
    if interpret:  # a CPU has no tf32
        chosen = dataclasses.replace(chosen, precision=jax.lax.Precision.HIGHEST)
    return make(chosen, interpret)


def where_faster(make: Make, spec: LayerSpec, flags: Switches, ops: Operands) -> Kernel | None:
    """The kernel where it is known to be right and faster."""
    device = plans.attached()
    if device is None or jax.device_count() > 1 or not _measured(ops):
        return None
    if 0 in ops.xs.shape[:2] or _unfit(spec.step, ops) is not None:
        return None
    chosen = _plan(spec.step, ops, device)
    reason = _unwritten(spec.step, ops) or _refused(make(chosen), spec, flags, ops, device)
    if reason is None:
        return make(chosen)
    _warn_once(
        f'engine="auto" runs {named(spec.step)} by engine="hoisted" and not by the GPU kernel: '
        f"{reason}. The results are the same."
    )
    return None


@lru_cache(maxsize=256)
def _warn_once(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)


def _measured(ops: Operands) -> bool:
    hidden, batch, dtype = ops.w_rec.shape[0], ops.xs.shape[1], str(ops.w_rec.dtype)
    return any(
        dtype in r.dtypes
        and r.hidden[0] <= hidden <= r.hidden[1]
        and r.batch[0] <= batch <= r.batch[1]
        for r in MEASURED
    )


def _plan(step: GatedStep, ops: Operands, device: plans.Device | None) -> plans.Plan:
    return plans.plan(step.gates, len(ops.state), ops.w_rec.shape[0], ops.w_rec.dtype, device)


def _unfit(step: GatedStep, ops: Operands) -> str | None:
    """What no device could run."""
    dtypes = {str(jnp.result_type(a)) for a in jax.tree.leaves(ops)}
    if len(dtypes) > 1:
        return f"params, state and xs must have one dtype, got {', '.join(sorted(dtypes))}"
    (dtype,) = dtypes
    if dtype not in plans.DTYPES:
        return f"it takes {', '.join(plans.DTYPES)}, got {dtype}"
    if any(jnp.shape(leaf) != (ops.w_rec.shape[0],) for leaf in jax.tree.leaves(ops.unit)):
        return f"a unit parameter is not [H] = ({ops.w_rec.shape[0]},)"
    return None


def _unwritten(step: GatedStep, ops: Operands) -> str | None:
    """Why the pointwise function cannot be written gate by gate."""
    hidden = ops.w_rec.shape[0]
    try:
        for by_gate, errors in ((forward_by_gate, 0), (backward_by_gate, 1)):
            made = by_gate(step, ops.unit, hidden)
            jax.eval_shape(partial(_on_tiles, made, step, ops.unit, hidden, errors))
    except Refusal as error:
        reason = first_line(error) or type(error).__name__
        return f"its pointwise function cannot be run gate by gate: {reason}"
    return None


def _on_tiles(made: Any, step: GatedStep, unit: Any, hidden: int, errors: int) -> Any:
    tile = jnp.zeros((16, hidden), jnp.float32)
    fields = (tile,) * len(step.state._fields)  # type: ignore[attr-defined]
    gates = (tile,) * step.gates
    columns = [tile] * len(made.columns)
    return made(
        columns, jax.tree.map(lambda _: tile, unit), gates, gates, fields, *[fields] * errors
    )


def _refused(
    kernel: Kernel, spec: LayerSpec, flags: Switches, ops: Operands, device: plans.Device
) -> str | None:
    """Why this device cannot."""
    gates, fields, dtype = spec.step.gates, len(ops.state), ops.w_rec.dtype
    if device.capability < plans.OLDEST:
        have, need = (".".join(map(str, c)) for c in (device.capability, plans.OLDEST))
        return f"the GPU has compute capability {have}, and the kernel needs {need} or newer"
    if not plans.fits(kernel.plan, gates, fields, dtype, device):
        return (
            f"w_rec of H = {ops.w_rec.shape[0]} and {gates} gates in {dtype} does not fit in a "
            f"block's {device.shared_memory} bytes of shared memory; the largest H that does is "
            f"{plans.largest(device, gates, fields, dtype)}"
        )
    length = min(spec.remat or ops.xs.shape[0], ops.xs.shape[0])
    batch, width = ops.xs.shape[1], ops.w_rec.shape[1]
    if not plans.addressable((length, batch, width)):
        return (
            f"T * B * G H = {length} * {batch} * {width} numbers are more than a kernel can count "
            "in 32 bits; remat=k runs k steps at a time"
        )

    def shaped(a: Any, *, timed: bool = False) -> Any:  # as the kernel is run: with remat, a chunk
        return jax.ShapeDtypeStruct((length, *a.shape[1:]) if timed else a.shape, a.dtype)

    some = jax.tree.map(shaped, ops)._replace(xs=shaped(ops.xs, timed=True))
    shapes = jax.tree.map(partial(shaped, timed=True), flags), some
    leaves, tree = jax.tree.flatten(shapes)
    return _trial(kernel, spec, tree, tuple(leaves))


@lru_cache(maxsize=256)
def _trial(kernel: Kernel, spec: LayerSpec, tree: Any, leaves: tuple[Any, ...]) -> str | None:
    """Why both passes cannot be compiled; compiled to see, once for each new problem."""
    flags, ops = jax.tree.unflatten(tree, leaves)
    whole = dataclasses.replace(spec, remat=None)

    def both(flags: Any, ops: Any) -> Any:
        final, stacks, residuals = kernel.forward(whole, flags, ops, remember=True)
        assert residuals is not None
        wanted: Any = jax.tree.map(lambda _: True, ops)
        grads = kernel.backward(whole, flags, ops, residuals, final, stacks, wanted)
        return final, stacks, grads

    traced = jax.jit(both).trace(flags, ops)
    try:
        compile_for_gpu(traced)
    except Exception as error:  # whatever the compiler of this version does; `auto` warns of it
        return f"it does not compile: {first_line(error) or type(error).__name__}"
    return None


def compile_for_gpu(traced: Any) -> None:
    """Compile what was traced for the GPU that is attached; where there is none, lower for one."""
    if jax.default_backend() == "gpu":
        traced.lower().compile()
    else:
        traced.lower(lowering_platforms=("cuda",))
