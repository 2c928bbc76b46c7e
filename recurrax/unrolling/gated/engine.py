"""The fast engine: a gated cell with everything hoisted out of its loop; stacks layer by layer."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.cells.stack import ResidualStep, StackStep
from recurrax.checks import named
from recurrax.gated.cell import GatedStep
from recurrax.gated.differentiable import Refusal
from recurrax.gated.local import pointwise_at
from recurrax.unrolling.gated.chunks import Chunks
from recurrax.unrolling.gated.operands import LayerSpec, Operands, Plan, Switches
from recurrax.unrolling.gated.recurrence import recurrence
from recurrax.unrolling.gated.shard_map import varying
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
    return final, states if want_states else zero_where_masked(ys, mask)


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


def reason_not_gated(step: GatedStep, params: Any, state: Any, xs: Any) -> str | None:
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
        pointwise_at(step, *spec.instant(_operands(params, state, None, xs)))
    except Refusal as error:
        return f"its pointwise function cannot be taken apart: {error}"
    return None


def _layer(
    step: StepFn, params: Any, state: Any, start: Any, xs: Any, options: LayerOptions
) -> LayerResult:
    if isinstance(step, StackStep):
        return _stack(step, params, state, start, xs, options)
    if isinstance(step, ResidualStep):
        found = _layer(step.step, params, state, start, xs, options)
        return found._replace(ys=xs + found.ys)
    if isinstance(step, GatedStep):
        reason = reason_not_gated(step, params, state, xs)
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


def _stack(
    step: StackStep, params: Any, state: Any, start: Any, xs: Any, options: LayerOptions
) -> LayerResult:
    starts = (None,) * len(step.steps) if start is None else start
    layers = []
    for each in zip(step.steps, params, state, starts, strict=True):
        layers.append(_layer(*each, xs, options))
        xs = layers[-1].ys
    states = tuple(layer.states for layer in layers) if options.states else None
    return LayerResult(tuple(layer.final for layer in layers), xs, states)


def _operands(params: Any, state: Any, start: Any, xs: Any) -> Operands:
    """With one batch axis, whatever there was."""
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


def _in_chunks(spec: LayerSpec, flags: Switches, ops: Operands, size: int) -> tuple[Any, Any]:
    """One kernel for each chunk, whose states are computed again for the backward pass."""

    def chunk(state: Any, first: Any, part: Any, _: Any) -> Any:
        run = jax.checkpoint(lambda state, part: _run_part(spec, ops, state, *part))
        return run(state, part)

    chunks = Chunks(ops.xs.shape[0], size, spec.reverse)
    found: tuple[Any, Any] = chunks.run(chunk, ops.state, (flags, ops.xs))
    return found


def _run_part(
    spec: LayerSpec, ops: Operands, state: Any, flags: Switches, xs: Any
) -> tuple[Any, Any]:
    found: tuple[Any, Any] = recurrence(spec, flags, ops._replace(state=state, xs=xs))
    return found


def _gated(
    step: GatedStep, params: Any, state: Any, start: Any, xs: Any, options: LayerOptions
) -> LayerResult:
    batch, hidden = state.h.shape[:-1], state.h.shape[-1]
    length = xs.shape[0]

    def flags(given: Any) -> Any:
        return None if given is None else given.reshape(length, math.prod(batch))

    ops = _operands(params, state, start, xs)
    spec = LayerSpec(step, options.reverse, options.remat, options.states, plan=options.plan)
    switches = Switches(flags(options.mask), flags(options.resets))
    ops = varying(ops, (ops, switches))
    kernel = None if options.kernel is None else options.kernel(spec, switches, ops)
    if kernel is None or options.remat is None:
        final, stacks = recurrence(dataclasses.replace(spec, kernel=kernel), switches, ops)
    else:
        plain = dataclasses.replace(spec, remat=None, kernel=kernel)
        final, stacks = _in_chunks(plain, switches, ops, options.remat)
    final = step.state(*(a.reshape(*batch, hidden) for a in final))
    stacks = [None if a is None else a.reshape(length, *batch, hidden) for a in stacks]
    return LayerResult(final, stacks[spec.h], step.state(*stacks) if options.states else None)
