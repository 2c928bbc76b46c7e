"""What is checked of a gated cell: what it is made of, and the arrays that it is run on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.checks import kind, named

if TYPE_CHECKING:
    from recurrax.gated.cell import GatedStep


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


def check_pointwise(step: GatedStep, hidden: int, unit_def: Any) -> None:
    """Raise if `pointwise` returns another structure or shape, or mixes hidden units.

    A function that mixes them (a norm over the layer, a softmax) would run, and its Jacobian and
    fast engines would be silently wrong. So it is tried: some units' arguments move, and no other
    unit's result may. The moved units are those with a given bit of their index set, or not set,
    bit by bit; any two units differ in some bit, so no pair is missed.
    """
    draw = np.random.default_rng(0)
    fields = len(step.state._fields)  # type: ignore[attr-defined]
    unit = [np.full(hidden, 0.5, np.float32)] * unit_def.num_leaves
    # Positive numbers, at which a root or a logarithm is finite.
    rows = draw.uniform(0.2, 0.8, (2 * step.gates + fields, 1, hidden)).astype(np.float32)
    bits = (np.arange(hidden) >> np.arange(hidden.bit_length())[:, None]) & 1
    moved = np.concatenate([np.zeros((1, hidden), bool), bits == 1, bits == 0])
    with jax.ensure_compile_time_eval():
        results = np.asarray(_try(step, unit_def, unit, rows + np.float32(0.1) * moved))
    still = results[:1]
    changed = (results != still) & np.isfinite(still)
    if (changed & ~moved[:, None]).any():
        raise ValueError(
            f"pointwise must be elementwise over hidden units, but "
            f"{named(step)} lets one unit change another's state. "
            "Write such a cell as an ordinary step function and wrap it in rx.Cell."
        )


@partial(jax.jit, static_argnums=(0, 1))
def _try(step: GatedStep, unit_def: Any, unit: Any, rows: jax.Array) -> jax.Array:
    """The new state `[batch, S, H]` for pre-activations and old state `[2 G + S, batch, H]`."""
    gates, (batch, hidden) = step.gates, rows.shape[1:]
    state = step.state(*rows[2 * gates :])
    unit = jax.tree.unflatten(unit_def, unit)
    new = step.pointwise(unit, rows[:gates], rows[gates : 2 * gates], state)
    check_pointwise_result(step.pointwise, step.state, new)
    for field, leaf in zip(step.state._fields, new, strict=True):  # type: ignore[attr-defined]
        if jnp.shape(leaf) != (batch, hidden):
            raise ValueError(
                f"pointwise returned {field} of shape {jnp.shape(leaf)} for pre-activations of "
                f"shape {(gates, batch, hidden)}, expected {(batch, hidden)}: each field of the "
                "state has one number a unit. Unpack the gates on the first axis, as in "
                "r, z, n = z_in + z_rec."
            )
    return jnp.stack(list(new), 1)


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
