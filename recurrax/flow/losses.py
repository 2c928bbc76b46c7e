"""A loss of the outputs, and its gradient by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


def check_loss(loss: Any) -> None:
    """Raise if a loss is not a function; called first, since it is the first argument."""
    if not callable(loss):
        raise TypeError(f"loss must be a function of the outputs ys, got {loss!r}; it comes first")


def by_outputs(loss: Callable[[Any], Any], ys: Any) -> tuple[chex.Array, list[chex.Array]]:
    """The loss, and its gradient by each leaf of the outputs that has one.

    Raises:
      TypeError: if the loss does not return a real scalar.
      ValueError: if the gradient is concrete and not finite.
    """
    shape = jax.eval_shape(loss, ys)
    if not hasattr(shape, "shape") or shape.shape or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(
            f"loss must take the outputs ys and return a real scalar, got {shape}. Take a mean or "
            "a sum over time and batch."
        )
    value, ys_bar = jax.value_and_grad(loss, allow_int=True)(ys)
    ys_bar = [leaf for leaf in jax.tree.leaves(ys_bar) if leaf.dtype != jax.dtypes.float0]
    checks.check_finite(
        "the gradient of loss by ys", ys_bar, "Is the loss differentiable at these outputs?"
    )
    return value, ys_bar
