"""Clipping of the state's gradient inside the backward recurrence, step by step."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import check_cell
from recurrax.cures.clipping.global_norm import above_zero
from recurrax.flow.numbers.scaled import power_of_two, scale_of

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, InitialState, Params, State, StepFn


def clip_state_gradient(
    cell: Cell, *, max_norm: float | None = None, max_value: float | None = None
) -> Cell:
    """Bound what each step sends back through time: the same cell, with another gradient.

    Forward nothing changes, to the last bit. Backward, the gradient by the state that step t
    read, `delta_{t-1} = A_t^T (delta_t + dL/ds_t)`, is clipped before it goes on to step t - 1:
    to a 2-norm over all floating-point fields of one example's state, or entry by entry. So an
    exploding product is cut where it explodes and the near past keeps its share, where clipping
    the gradient of the weights would shrink near and far alike. A vanishing one stays as it is.

    **This changes the gradient on purpose**: the result is the derivative of no function. It is
    clipped for each example on its own, also under `jax.vmap` and before it reaches the first
    state; not clipped is what a step adds to the gradient of the weights and of its input.

    Args:
      cell: any `Cell`, also a stack (whose whole state has one norm) or a cell wrapped before.
      max_norm: the largest 2-norm of one example's gradient, above 0; the norm does not overflow.
        An example whose gradient holds a NaN or an infinity sends back zeros: it has no direction.
      max_value: instead of max_norm: the largest size of an entry, above 0. An infinite entry
        becomes that with its sign, a NaN becomes 0.

    Returns:
      A `Cell` with the same params and state, not a gated one any more. Equal wraps of equal cells
      are equal. `rx.unroll` runs it by scan, beside gated layers of a stack that are run fast, and
      `engine="hoisted"` refuses it; so it is `engine="scan"` that gives the cell inside the very
      same bits. Forward-mode differentiation through it (`jax.jvp`, and the diagnostics of
      `rx.flow` that push forward) raises JAX's error of a `custom_vjp`: measure the cell inside.

    Raises:
      TypeError: if `cell` is not a `Cell` or the maximum not a number.
      ValueError: if not exactly one maximum is given, or it is not above 0; when traced, if the
        fields of the state do not share one batch shape.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> def double(w, h, x):
      ...     return 2 * h, 2 * h
      >>> cell = rx.Cell(lambda key: (), lambda w, batch_shape=(): jnp.zeros(batch_shape), double)
      >>> clipped = rx.cures.clip_state_gradient(cell, max_value=5.0)
      >>> def last(cell, h):
      ...     return rx.unroll(cell, (), h, jnp.zeros((10, 0)))[0]
      >>> [float(jax.grad(last, 1)(c, 1.0)) for c in (cell, clipped)]
      [1024.0, 5.0]

    Source: the truncation of derivatives inside the backward pass is that of Graves (2013),
    "Generating Sequences With Recurrent Neural Networks".
    """
    check_cell("clip_state_gradient", cell)
    maxima = {"max_norm": max_norm, "max_value": max_value}
    chosen = {name: value for name, value in maxima.items() if value is not None}
    if len(chosen) != 1:
        raise ValueError(
            "clip_state_gradient takes exactly one of max_norm and max_value, got "
            + ("both" if chosen else "neither")
        )
    [(name, value)] = chosen.items()
    step = ClippedStep(cell.step, cell.initial_state, name == "max_norm", above_zero(name, value))
    return dataclasses.replace(cell, step=step)


def without_clip(cell: Cell) -> Cell:
    """Return the cell inside, which has forward derivatives; one that is not clipped as it is."""
    while isinstance(cell.step, ClippedStep):
        cell = dataclasses.replace(cell, step=cell.step.step)
    return cell


@dataclasses.dataclass(frozen=True)
class ClippedStep:
    """`step(params, s, x)`, the gradient that it sends back to s clipped."""

    step: StepFn
    initial_state: InitialState  # its shapes tell which axes of a state are a batch
    by_norm: bool  # or entry by entry
    most: float

    not_hoisted = "it clips the gradient of its state, and the engine takes gradients to be linear"

    def __call__(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        # The leading axes of the state that one example's has not are a batch.
        one = jax.eval_shape(self.initial_state, params)
        structures: list[Any] = [jax.tree.structure(one), jax.tree.structure(state)]
        if structures[0] != structures[1]:
            raise TypeError(
                f"state must look like what cell.initial_state(params, batch_shape) returns, "
                f"{checks.show(one)}, got {checks.show(state)}"
            )
        pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(one), strict=True)
        batches = {
            checks.leaf_name("state", path): jnp.shape(leaf)[: max(jnp.ndim(leaf) - own.ndim, 0)]
            for (path, leaf), own in pairs
            if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)  # a counter may be shared
        }
        if len(set(batches.values())) > 1:
            raise ValueError(
                "clip_state_gradient clips each example on its own, so the leaves of a state must "
                f"share one batch shape, got {batches}"
            )
        batch = len(next(iter(batches.values()), ()))
        return self.step(params, _clip_backward(self.by_norm, self.most, batch, state), x)

    def check_inputs(self, params: Params, state: State, xs: Any) -> None:
        """The wrapped cell sees the inputs as they are."""
        if hasattr(self.step, "check_inputs"):
            self.step.check_inputs(params, state, xs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _clip_backward(by_norm: bool, most: float, batch: int, state: Any) -> Any:
    """Return the state as it is; the gradient that comes back by its floating leaves is clipped."""
    return state


def _forward(by_norm: bool, most: float, batch: int, state: Any) -> tuple[Any, None]:
    return state, None


def _backward(by_norm: bool, most: float, batch: int, _: None, gradient: Any) -> tuple[Any]:
    leaves, tree = jax.tree.flatten(gradient)
    places = [i for i, g in enumerate(leaves) if jnp.issubdtype(g.dtype, jnp.floating)]
    grads = [leaves[i] for i in places]
    if by_norm:
        clipped = _clip_norms(grads, most, batch)
    else:  # entry by entry; one that is NaN becomes zero
        clipped = [jnp.where(jnp.isnan(g), 0, jnp.clip(g, -most, most)) for g in grads]
    for i, leaf in zip(places, clipped, strict=True):
        leaves[i] = leaf
    return (jax.tree.unflatten(tree, leaves),)


_clip_backward.defvjp(_forward, _backward)


def _clip_norms(grads: list[chex.Array], most: float, batch: int) -> list[chex.Array]:
    """Return each example's gradient by all leaves shortened to a norm; zeros if not finite."""
    if not grads:
        return []
    wide = jnp.result_type(jnp.float32, *(g.dtype for g in grads))
    sizes = [math.prod(g.shape[batch:]) for g in grads]
    flat = [g.astype(wide).reshape(*g.shape[:batch], n) for g, n in zip(grads, sizes, strict=True)]
    rows = jnp.concatenate(flat, -1)
    rows = jnp.where(jnp.all(jnp.isfinite(rows), -1, keepdims=True), rows, 0)
    # Scaled by a power of two, which rounds nothing, so that no square over- or underflows.
    unit = power_of_two(-scale_of(rows, (-1,)), wide)[..., None]
    scaled = rows * unit
    square = jnp.sum(scaled * scaled, -1, keepdims=True)
    length = jnp.sqrt(jnp.where(square > 0, square, 1))  # a zero gradient stays zero below
    ratio = jnp.minimum(most / length, jnp.finfo(wide).max)
    rows = jnp.where(length > most * unit, scaled * ratio, rows)
    parts = jnp.split(rows, list(itertools.accumulate(sizes))[:-1], -1)
    return [part.reshape(g.shape).astype(g.dtype) for part, g in zip(parts, grads, strict=True)]
