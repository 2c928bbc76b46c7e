"""The shortest truncation of backpropagation through time that loses next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks

if TYPE_CHECKING:
    import chex

    from recurrax.flow.lag_profile import LagProfile


def truncation(profile: LagProfile, *, keep: float = 0.95) -> chex.Array:
    """The number of steps an error must travel so that the gradient keeps this much of itself.

    The smallest K with `||G - C_k|| / ||G|| <= 1 - keep` for all k >= K. Errors that travel k
    steps take part in k + 1 steps of the network. At a steady decay `exp(lambda_1 k)` of the parts
    it is about `log(1 - keep) / lambda_1`, at the default 3 / |lambda_1|.

    Args:
      profile: what `flow.lag_profile` returns.
      keep: the fraction of the gradient to keep, between 0 and 1; `1 - keep` is the norm of what
        may be lost.

    Returns:
      K, int32, in steps, 0 to T - 1. T under `jax.jit` if the profile holds NaN.

    Raises:
      ValueError: if keep is not between 0 and 1, or a concrete profile holds NaN.
      TypeError: if profile is something else.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):
      ...     h = w * h + x
      ...     return h, h
      >>> last = lambda ys: ys[-1]
      >>> p = rx.flow.lag_profile(linear, 0.5, 0.0, jnp.ones(100), last, wrt=None)
      >>> int(rx.flow.truncation(p))
      4
    """
    checks.check_number("keep", keep)
    if not 0 < keep < 1:
        raise ValueError(f"keep must be between 0 and 1, got {keep}")
    error = getattr(profile, "error", None)
    if error is None:
        raise TypeError(
            f"profile must be a rx.flow.LagProfile, got {type(profile).__name__}. "
            "flow.lag_profile(cell, params, state, xs, loss) returns one."
        )
    if not isinstance(error, jax.core.Tracer) and np.isnan(np.asarray(error)).any():
        raise ValueError("profile holds NaN, so nothing is kept: was the trajectory finite?")
    too_large = ~(error <= 1 - keep)
    steps = jnp.arange(1, error.shape[0] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(too_large, steps, 0))
