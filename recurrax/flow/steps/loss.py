"""A loss of the outputs, its gradient by them, and which of them are leaves of the new state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import StepFn


def check_loss(loss: Any) -> None:
    """Raise if a loss is not a function, which another order of arguments would make of it."""
    if not callable(loss):
        came = repr(loss) if isinstance(loss, (str, int, float)) else checks.kind(loss)
        raise TypeError(
            f"loss must be a function of the outputs ys, got {came}; it comes fifth, after "
            "(cell, params, state, xs), and no longer first"
        )


def by_outputs(loss: Callable[[Any], Any], ys: Any) -> tuple[chex.Array, list[chex.Array]]:
    """Return the loss, and its gradient by each leaf of the outputs that has one.

    Raises:
      TypeError: if the loss does not return a real scalar.
      ValueError: if the gradient is concrete and not finite.
    """
    shape = jax.eval_shape(loss, ys)
    if not hasattr(shape, "shape") or shape.shape or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(
            "loss must take the outputs ys and return a real scalar, got "
            f"{checks.show(shape)}. Take a mean or a sum over time and batch."
        )
    value, ys_bar = jax.value_and_grad(loss, allow_int=True)(ys)
    ys_bar = [leaf for leaf in jax.tree.leaves(ys_bar) if leaf.dtype != jax.dtypes.float0]
    checks.check_finite(
        "the gradient of loss by ys", ys_bar, "Is the loss differentiable at these outputs?"
    )
    return value, ys_bar


def shared_leaves(step: StepFn, params: Any, state: Any, x: Any) -> tuple[int | None, ...]:
    """Return, for each floating-point leaf of y, the very same leaf of the new state, or None.

    Read off the traced step: the same variable comes out twice.
    """
    _, shapes = jax.eval_shape(step, params, state, x)
    jaxpr = jax.make_jaxpr(lambda p, s, x: step(p, s, x))(params, state, x).jaxpr
    outputs = _inlined_outputs(jaxpr)
    count = len(jax.tree.leaves(state))
    states, ys = outputs[:count], outputs[count:]
    pairs = zip(ys, jax.tree.leaves(shapes), strict=True)
    return tuple(states.index(y) if y in states else None for y, leaf in pairs if smooth(leaf))


def _inlined_outputs(jaxpr: Any) -> list[Any]:
    """Return the identity of each output, seen through a jit or checkpoint around the step."""
    made_by = {id(var): eqn for eqn in jaxpr.eqns for var in eqn.outvars}
    names = []
    for var in jaxpr.outvars:
        eqn = made_by.get(id(var))
        name: Any = id(var)
        if eqn is not None and eqn.primitive.name in ("jit", "pjit", "checkpoint", "remat2"):
            inside = eqn.params["jaxpr"]  # closed in a jit, open in a checkpoint
            inner = _inlined_outputs(getattr(inside, "jaxpr", inside))
            name = (id(eqn), inner[[id(v) for v in eqn.outvars].index(id(var))])
        names.append(name)
    return names


def smooth(leaf: Any) -> bool:
    """Return whether a leaf of the outputs has a gradient."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))
