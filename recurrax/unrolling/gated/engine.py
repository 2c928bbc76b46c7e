"""The fast engine: a gated cell with everything hoisted out of its loop; stacks layer by layer."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from recurrax.cells.combined import ResidualStep, StackStep
from recurrax.checks import named
from recurrax.gated.derivatives import traced_pointwise
from recurrax.gated.differentiable import Refusal
from recurrax.gated.step import GatedStep
from recurrax.unrolling.gated.backward import LinearizedRecurrence
from recurrax.unrolling.gated.forward import forward
from recurrax.unrolling.gated.layer import Chunks, LayerSpec, Operands, Plan, Switches, varying
from recurrax.unrolling.gated.linear_map import apply, axis_leaves
from recurrax.unrolling.scan import Inputs, blank, scan, scan_engine, zero_where_masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from recurrax.cell import StepFn


class LayerOptions(NamedTuple):
    """How a layer is run, beside what it is run on."""

    mask: Any  # bool [T, *batch] or None
    resets: Any  # bool [T, *batch] or None
    reverse: bool
    remat: int | None
    states: bool  # whether the states after every step are wanted
    strict: bool  # whether a layer that cannot be hoisted is an error, or run by scan
    kernel: Any  # chooses who runs a layer's loop: (spec, flags, operands) -> Kernel or None
    plan: Plan | None = None  # None where the shapes decide


class LayerResult(NamedTuple):
    """What a layer gives."""

    final: Any
    ys: Any  # [T, *batch, ...], anything where masked
    states: Any  # [T, *batch, ...], or None where they are not wanted


def hoisted_engine(
    step: StepFn,
    want_states: bool,
    params: Any,
    state: Any,
    start: Any,
    inputs: Inputs,
    *,
    reverse: bool,
    remat: int | None,
    strict: bool = True,
    kernel: Callable[..., Any] | None = None,
    plan: Plan | None = None,
) -> tuple[Any, Any]:
    """Unroll a gated step over time, or a stack or residual of such, layer by layer.

    Takes and returns what `scan_engine` does. If not `strict`, a layer that is not gated, or whose
    pointwise function is an unusual one, is run by that engine. `kernel` may hand a layer's loop
    to a GPU kernel: a function of the layer's spec, flags and operands that gives one, or None.
    `plan` says what is worked on at once and kept, in place of the rules by shape.
    """
    xs, mask, resets = inputs
    if mask is not None and not all(isinstance(s, GatedStep) for _, s in layers_of(step)):
        # A plain layer may divide by what it is given, so it is given what scan would.
        return scan_engine(
            step, want_states, params, state, start, inputs, reverse=reverse, remat=remat
        )
    if mask is not None:
        xs = blank(mask, xs, (True,))  # of gated layers alone: one array [T, *batch, I]
    options = LayerOptions(mask, resets, reverse, remat, want_states, strict, kernel, plan)
    final, ys, states = _layer(step, params, state, start, xs, options)
    if want_states or mask is None:
        return final, states if want_states else ys
    return final, zero_where_masked(ys, mask)


def layers_of(step: StepFn, name: str = "the cell") -> list[tuple[str, StepFn]]:
    """The steps that a stack or a residual is made of, each with what to call it."""
    if isinstance(step, StackStep):
        parts = [layers_of(s, f"cell {i} of the stack") for i, s in enumerate(step.steps)]
        return [layer for part in parts for layer in part]
    if isinstance(step, ResidualStep):
        return layers_of(step.step, name)
    return [(name, step)]


def check_gated(step: StepFn, engine: str = "hoisted") -> None:
    """Raise if some layer is not gated."""
    for name, layer in layers_of(step):
        if hasattr(layer, "not_hoisted"):  # a wrapped step that knows why
            raise TypeError(
                f'engine="{engine}" cannot run {name}: {layer.not_hoisted}. Use engine="auto", '
                "which runs gated layers fast and any other by scan."
            )
        if not isinstance(layer, GatedStep):
            raise TypeError(
                f'engine="{engine}" runs gated cells, but {name} is not one: nothing is known of '
                f'{named(layer)} but what it returns. Use engine="auto", which runs gated layers '
                "fast and any other by scan, or write the cell's update for rx.gated_cell."
            )


def reason_not_hoisted(step: GatedStep, params: Any, state: Any, xs: Any) -> str | None:
    """Why a gated layer cannot be hoisted, in words; None if it can."""
    hidden = params.w_rec.shape[0]
    leaves = [*jax.tree.leaves(params.unit), *state]
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        return "a field of the state or a unit parameter is not floating point"
    if any(jnp.shape(leaf) not in ((), (hidden,)) for leaf in jax.tree.leaves(params.unit)):
        return f"a unit parameter is not [H] = ({hidden},)"
    if not all(isinstance(n, int) for n in xs.shape):
        return "a size of xs is not known yet"
    arrays = jax.tree.leaves((params, state, xs))
    kinds = {kind for leaf in arrays for kind in jax.typeof(leaf).sharding.mesh.axis_types}
    if jax.sharding.AxisType.Explicit in kinds:
        return "arrays are sharded over an explicit mesh"
    try:
        spec = LayerSpec(step, False, None, False)
        traced_pointwise(step, *spec.instant(one_batch_axis(params, state, None, xs)))
    except Refusal as error:
        return f"its pointwise function cannot be taken apart: {error}"
    return None


def one_batch_axis(params: Any, state: Any, start: Any, xs: Any) -> Operands:
    """What the engine is given, with one batch axis, whatever there was."""
    hidden, size = state.h.shape[-1], math.prod(state.h.shape[:-1])

    def one_axis(fields: Any) -> Any:
        return None if fields is None else tuple(a.reshape(size, hidden) for a in fields)

    return Operands(
        w_in=params.w_in,
        w_rec=params.w_rec,
        b=params.b,
        unit=params.unit,
        state=one_axis(state),
        start=one_axis(start),
        xs=xs.reshape(xs.shape[0], size, xs.shape[-1]),
    )


def _layer(
    step: StepFn, params: Any, state: Any, start: Any, xs: Any, options: LayerOptions
) -> LayerResult:
    if isinstance(step, StackStep):
        starts = (None,) * len(step.steps) if start is None else start
        layers = []
        for each in zip(step.steps, params, state, starts, strict=True):
            layers.append(_layer(*each, xs, options))
            xs = layers[-1].ys
        states = tuple(layer.states for layer in layers) if options.states else None
        return LayerResult(tuple(layer.final for layer in layers), xs, states)
    if isinstance(step, ResidualStep):
        found = _layer(step.step, params, state, start, xs, options)
        return found._replace(ys=xs + found.ys)
    if isinstance(step, GatedStep):
        reason = reason_not_hoisted(step, params, state, xs)
        if reason is None:
            return _gated(step, params, state, start, xs, options)
        if options.strict:
            engine = "hoisted" if options.kernel is None else "kernel"
            raise TypeError(
                f'engine="{engine}" cannot run {named(step)}: {reason}. Use engine="auto" or '
                '"scan".'
            )

    def collect(state: Any, y: Any, mask: Any) -> Any:
        return y, state if options.states else None

    inputs = Inputs(xs, options.mask, options.resets)
    final, (ys, states) = scan(
        step, collect, params, state, start, inputs, reverse=options.reverse, remat=options.remat
    )
    return LayerResult(final, ys, states)


def _gated(
    step: GatedStep, params: Any, state: Any, start: Any, xs: Any, options: LayerOptions
) -> LayerResult:
    batch, hidden = state.h.shape[:-1], state.h.shape[-1]
    length = xs.shape[0]
    ops = one_batch_axis(params, state, start, xs)
    flat = [
        None if flags is None else flags.reshape(length, math.prod(batch))
        for flags in (options.mask, options.resets)
    ]
    switches = Switches(*flat)
    ops = varying(ops, (ops, switches))
    spec = LayerSpec(step, options.reverse, options.remat, options.states, plan=options.plan)
    kernel = None if options.kernel is None else options.kernel(spec, switches, ops)
    spec = dataclasses.replace(spec, kernel=kernel)
    if kernel is None or options.remat is None:
        final, stacks = recurrence(spec, switches, ops)
    else:
        final, stacks = _kernel_in_chunks(spec, switches, ops, options.remat)
    final = step.state(*(a.reshape(*batch, hidden) for a in final))
    stacks = [None if a is None else a.reshape(length, *batch, hidden) for a in stacks]
    return LayerResult(final, stacks[spec.h], step.state(*stacks) if options.states else None)


def _kernel_in_chunks(
    spec: LayerSpec, flags: Switches, ops: Operands, size: int
) -> tuple[Any, Any]:
    """One kernel for each chunk, whose states are computed again for the backward pass."""
    spec = dataclasses.replace(spec, remat=None)

    @jax.checkpoint
    def run(state: Any, flags: Switches, xs: Any) -> Any:
        return recurrence(spec, flags, ops._replace(state=state, xs=xs))

    chunks = Chunks(ops.xs.shape[0], size, spec.reverse)
    return chunks.run(lambda state, _, part, __: run(state, *part), ops.state, (flags, ops.xs))


# --- the recurrence as one differentiable function -----------------------------------------------

# Its forward-mode rule runs the forward pass, keeps what is needed, and binds a linear map whose
# transpose is the hand-written backward pass. So `jax.grad` runs that one, and no transformation is
# lost; derivatives of derivatives are those of the code of both passes.


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(spec: LayerSpec, flags: Switches, ops: Operands) -> tuple[Any, Any]:
    """The last state's fields, and the fields after every step (None where not wanted)."""
    final, stacks, _ = _forward(spec, flags, ops, remember=False)
    return final, stacks


def _forward(
    spec: LayerSpec, flags: Switches, ops: Operands, *, remember: bool
) -> tuple[Any, Any, Any]:
    run = forward if spec.kernel is None else spec.kernel.forward
    found: tuple[Any, Any, Any] = run(spec, flags, ops, remember=remember)
    return found


@partial(recurrence.defjvp, symbolic_zeros=True)
def _recurrence_jvp(spec: LayerSpec, primals: Any, tangents: Any) -> tuple[Any, Any]:
    flags, ops = primals
    final, stacks, residuals = _forward(spec, flags, ops, remember=True)
    at = (flags, ops, residuals)
    leaves, tree = jax.tree.flatten(at)
    ops_tree: Any = jax.tree.structure(ops)
    moved = ops_tree.flatten_up_to(tangents[1])
    axes = _batch_axes(spec, at)
    linear = LinearizedRecurrence(
        spec, tree, ops_tree, axis_leaves(at, axes), axis_leaves(ops, axes[1]), len(final)
    )
    absent = [None if isinstance(t, SymbolicZero) else t for t in moved]
    out = apply(linear, leaves, absent, [*final, *stacks])
    return (final, stacks), (tuple(out[: len(final)]), tuple(out[len(final) :]))


def _batch_axes(spec: LayerSpec, at: tuple[Switches, Operands, Any]) -> Any:
    """Where the batch axis is in each part; -1 where there is none."""
    flags, ops, residuals = at

    def kept(a: Any) -> int:
        # What is kept of an instant is shaped like a gate; where that cannot be told, no fold.
        batch, gates = ops.state[0].shape[0], spec.step.gates
        plain = a.shape[-2:] == ops.state[0].shape and batch not in (*a.shape[1:-2], gates)
        return a.ndim - 2 if plain else -1

    none: Any = None  # both stand where the types say arrays
    zero: Any = 0
    return (
        Switches(*(none if a is None else 1 for a in flags)),
        Operands(-1, -1, -1, -1, zero, zero if ops.start else none, 1),
        residuals._replace(
            states=residuals.states and 1,
            kept=residuals.kept and tuple(kept(a) for a in residuals.kept),
            chunk_starts=residuals.chunk_starts and 1,
        ),
    )
