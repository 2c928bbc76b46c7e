"""A penalty on Lyapunov exponents that are not near zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from recurrax import checks
from recurrax.flow.lyapunov import lyapunov

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn


def flossing(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    k: int,
    target: float = 0.0,
    burn_in: int = 0,
    every: int | None = None,
) -> chex.Array:
    """Gradient flossing: the k largest Lyapunov exponents pushed to zero.

    `mean_i (lambda_i - target)^2`, i = 1 ... k, over the sequence given: with exponents of zero a
    gradient keeps its size along k directions for as long as that sequence. Used before training,
    and now and then in the middle of it.

    Args:
      cell: a `Cell` or a step function; the state may be any pytree.
      params: the cell's params, by which this is differentiable.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      k: how many exponents, at most N, the size of the whole state; the work is in proportion, and
        as many directions keep their gradient.
      target: of each exponent, in nats a step; a little below 0 forgets slowly.
      burn_in: steps that are left out of the exponents, as in `rx.flow.lyapunov`; none by default,
        since a gradient travels through all of them.
      every: steps between two eliminations, as in `rx.flow.lyapunov`; None chooses.

    Returns:
      A scalar: the mean over the k exponents and the batch. An exponent of -inf, where a Jacobian
      is singular, counts as the log of the smallest normal number (float32: -87) and has no
      derivative.

    Raises:
      ValueError, TypeError: as `rx.flow.lyapunov` does; if target is not a finite number.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):  # one exponent, log w
      ...     h = w * h + x
      ...     return h, h
      >>> def penalty(w):
      ...     return rx.cures.flossing(linear, w, jnp.zeros(1), jnp.ones((20, 1)), k=1)
      >>> value, slope = jax.value_and_grad(penalty)(0.5)  # log(w)^2 and 2 log(w) / w
      >>> round(float(value), 3), round(float(slope), 3)
      (0.48, -2.773)

    Source: Engelken (2023), "Gradient flossing".
    """
    checks.check_number("target", target)
    exponents = lyapunov(cell, params, state, xs, k=k, burn_in=burn_in, every=every).exponents
    least = jnp.log(jnp.finfo(exponents.dtype).tiny)
    # Not left out of the mean, or a network that has died would look cured.
    exponents = jnp.where(jnp.isfinite(exponents), exponents, least.astype(exponents.dtype))
    return jnp.mean((exponents - target) ** 2)
