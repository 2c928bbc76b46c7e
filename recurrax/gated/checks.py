"""What is checked of a gated cell: its params, its state and its inputs, at one instant or all."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from recurrax.checks import kind, named


def check_gated_inputs(
    step: Any, params: Any, state: Any, xs: Any, *, name: str, timed: bool
) -> None:
    """`xs [T, *batch, I]` (timed) or `x [*batch, I]`, the state `[*batch, H]`, and the params."""
    size, hidden = check_gated_params(step, params)
    if not isinstance(state, step.state):
        raise TypeError(
            f"state must be a {step.state.__name__}, as cell.initial_state(params, batch_shape) "
            f"returns; got {kind(state)}"
        )
    batch = jnp.shape(state.h)[:-1]
    for field, leaf in zip(state._fields, state, strict=True):
        if jnp.shape(leaf) != (*batch, hidden):
            raise ValueError(
                f"state.{field} has shape {jnp.shape(leaf)}, expected {(*batch, hidden)}: the "
                f"last axis is H = {hidden}, and all fields share one batch shape"
            )
    _check_inputs_shape(xs, size, batch, name=name, timed=timed)


def check_has_weights(params: Any) -> None:
    weights = (getattr(params, name, None) for name in ("w_in", "w_rec"))
    if any(getattr(leaf, "ndim", None) != 2 for leaf in weights):
        raise TypeError(
            f"params must be the NamedTuple that cell.init(key) returns, with w_in, w_rec, b and "
            f"unit; got {type(params).__name__}"
        )


def check_gated_params(step: Any, params: Any) -> tuple[int, int]:
    """The params of a gated cell fit together; returns I and H."""
    gates = step.gates
    check_has_weights(params)
    size, hidden = params.w_in.shape[0], params.w_rec.shape[0]
    for field, shape in (
        ("w_in", (size, gates * hidden)),
        ("w_rec", (hidden, gates * hidden)),
        ("b", (gates * hidden,)),
    ):
        leaf = getattr(params, field)
        got = jnp.shape(leaf)
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"params.{field} has dtype {jnp.result_type(leaf)}, expected floating point, since "
                "a gradient is to flow through it: params come from cell.init(key)"
            )
        if got != shape:
            raise ValueError(
                f"params.{field} has shape {got}, expected {shape} for I = {size}, H = {hidden} "
                f"and {gates} gate{'s' if gates > 1 else ''}. Are these the params of another cell?"
            )
    return size, hidden


def _check_inputs_shape(
    xs: Any, size: int, batch: tuple[int, ...], *, name: str, timed: bool
) -> None:
    if not hasattr(xs, "shape") or not hasattr(xs, "dtype"):
        raise TypeError(f"{name} must be one array, got {type(xs).__name__}: use jnp.asarray")
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(
            f"{name} has dtype {xs.dtype}, expected floating point, since it is multiplied by "
            f"w_in. Cast numbers with {name}.astype(jnp.float32); turn token ids into rows with "
            f"jax.nn.one_hot({name}, {size})."
        )
    shape = tuple(xs.shape)
    want = (shape[:1] if timed else ()) + (*batch, size)
    if shape == want:
        return
    layout = f"[{'T, ' if timed else ''}{'B, ' * len(batch)}I]"
    head = f"{name} has shape {shape}, expected {layout} with "
    if size == 1 and shape[-1:] != (1,):
        raise ValueError(
            f"{head}I = 1 feature on the last axis. If that axis is missing, add it: "
            f"{name}[..., None]."
        )
    if shape[-1:] != (size,):
        raise ValueError(
            f"{head}I = {size} features on the last axis. Was the cell built for another "
            f"input_size? params.w_in has {size} rows."
        )
    if timed and len(shape) == len(batch) + 2 == 3 and shape[0] == batch[0]:
        raise ValueError(
            f"{head}B = {batch[0]} from the state. {name} has its batch axis first? recurrax "
            f"wants [T, B, I]: use jnp.swapaxes({name}, 0, 1)."
        )
    came = shape[1:-1] if timed else shape[:-1]
    raise ValueError(
        f"{head}batch shape {batch} from the state, but it has batch shape {came}. Make the "
        f"state with cell.initial_state(params, {came})."
    )


def check_pointwise_result(pointwise: Any, cls: type, state: Any) -> None:
    if not isinstance(state, cls):
        raise TypeError(
            f"{named(pointwise)} must return the new state, a {cls.__name__}; it returned "
            f"{type(state).__name__}"
        )


def check_view(names: Any, kinds: Any) -> None:
    """One kind for each name of a `GateView`, both tuples, since a step compares by value."""
    for argument, row in (("names", names), ("kinds", kinds)):
        if not isinstance(row, tuple) or not all(isinstance(word, str) for word in row):
            raise TypeError(f"{argument} must be a tuple of strings, got {row!r}")
    if len(names) != len(kinds):
        raise ValueError(f"kinds must be one for each of the names {names}, got {kinds}")
    unknown = [kind for kind in kinds if kind not in ("sigmoid", "tanh")]
    if unknown:
        raise ValueError(f'kinds must be "sigmoid" or "tanh", got {unknown[0]!r}')


def check_view_values(step: Any, hidden: int, unit_def: Any) -> None:
    """The view of a cell returns one row of activations for each of its names."""
    view, leaf = step.view, jax.ShapeDtypeStruct((hidden,), jnp.float32)
    if not hasattr(view, "values") or not hasattr(view, "names"):
        raise TypeError(f"view must be a rx.GateView or None, got {type(view).__name__}")
    z = jax.ShapeDtypeStruct((step.gates, hidden), jnp.float32)
    unit = jax.tree.unflatten(unit_def, [leaf] * unit_def.num_leaves)
    rows = jax.eval_shape(lambda *args: tuple(view.values(*args)), unit, z, z)
    shapes = [tuple(row.shape) for row in rows]
    if shapes != [(hidden,)] * len(view.names):
        raise ValueError(
            f"the view's values must be one activation {(hidden,)} for each of its names "
            f"{view.names}, got shapes {shapes}"
        )
