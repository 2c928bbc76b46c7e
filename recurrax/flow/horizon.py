"""How fast a gradient decays, how far back it is felt, and where it may be cut off.

Of several results by name, as questions of layers in both directions give, each is answered by
name.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.decay import Decay
    from recurrax.flow.lag_profile import LagProfile


class Horizon(NamedTuple):
    """How many steps back a gradient is felt."""

    steps: chex.Array  # [*batch], in steps; inf where the gradient does not shrink
    reached: chex.Array  # bool [*batch], seen within T; else extrapolated at the measured rate

    def __repr__(self) -> str:
        return summary(self, "steps", ..., "of steps")


_Function = TypeVar("_Function", bound="Callable[..., Any]")


def _of_each(function: _Function) -> _Function:
    """What the function says of each, by name, of several results by name."""

    @functools.wraps(function)
    def either(*args: Any, **options: Any) -> Any:
        if args and isinstance(args[0], dict):
            found = args[0].items()
            return {name: function(result, *args[1:], **options) for name, result in found}
        return function(*args, **options)

    return cast("_Function", either)


@_of_each
def rate(decay: Decay | chex.Array) -> chex.Array:
    """The growth of the log norm per step, over the second half of the sequence.

    `(log_norm[T] - log_norm[T/2]) / (T - T/2)`: the first half holds the transient growth of a
    non-normal matrix. Of a decay with a mask only the steps that count are counted, in each row.

    Args:
      decay: a `Decay`, or its `log_norm` `[T, *batch]`, every step of which counts.

    Returns:
      The rate `[*batch]`, in nats a step: negative where the gradient vanishes, -inf where it is
      zero at the last step that counts, as after a reset.

    Raises:
      ValueError: if there are no time steps, or a row's concrete mask lets no step count; a traced
        one gives NaN.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> round(float(rx.flow.rate(-0.1 * jnp.arange(1.0, 101.0))), 3)
      -0.1
    """
    log_norm, counted = _logs_and_times(decay)
    length = log_norm.shape[0] if counted is None else counted[-1]
    middle = length // 2
    if counted is None:
        before = log_norm[middle - 1] if middle else jnp.zeros_like(log_norm[0])
    else:
        at = jnp.argmax(counted >= middle, axis=0)  # the first time of that many steps
        before = jnp.where(middle == 0, 0, jnp.take_along_axis(log_norm, at[None], 0)[0])
    change = (log_norm[-1] - before) / (length - middle)
    change = jnp.where(jnp.isneginf(log_norm[-1]), -jnp.inf, change)
    return change if counted is None else jnp.where(length > 0, change, jnp.nan)


@_of_each
def horizon(decay: Decay | chex.Array, *, below: float = 0.05) -> Horizon:
    """How far back a gradient is felt: the smallest t with `||d s_u / d s_0|| < below` for u >= t.

    For a steady rate it is `log(below) / rate`, at the default about 3 / |rate|.

    Args:
      decay: a `Decay`, whose masked steps do not count, or a `log_norm` `[T, *batch]`, as a column
        of a `GradientMap` is.
      below: the fraction of the gradient that no longer counts, between 0 and 1.

    Returns:
      A `Horizon`. Where the norm is not under the fraction at T, `reached` is False and the rate is
      carried on; one that does not shrink gives infinity. NaN gives NaN. A reset ends what is
      felt of s_0 there, and says nothing of the gradients between later steps.

    Raises:
      ValueError: if `below` is not between 0 and 1, there are no time steps, or a row's concrete
        mask lets no step count; a traced one gives NaN.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> h = rx.flow.horizon(-0.1 * jnp.arange(1.0, 101.0))
      >>> float(h.steps), bool(h.reached)
      (30.0, True)
    """
    checks.check_fraction("below", below)
    log_norm, counted = _logs_and_times(decay)
    length = log_norm.shape[0]
    times = jnp.arange(1, length + 1).reshape(-1, *(1,) * (log_norm.ndim - 1))
    if counted is not None:
        times, length = counted, counted[-1]
    last_felt = jnp.max(jnp.where(log_norm < math.log(below), 0, times), axis=0)
    reached = last_felt < length
    per_step = rate(decay)
    shrinking = per_step < 0
    missing = (math.log(below) - log_norm[-1]) / jnp.where(shrinking, per_step, -1.0)
    carried_on = jnp.where(shrinking, length + jnp.floor(missing) + 1, jnp.inf)
    steps = jnp.where(reached, last_felt + 1.0, carried_on)
    known = ~jnp.isnan(log_norm).any(axis=0) & (length > 0)
    return Horizon(jnp.where(known, steps, jnp.nan), reached & known)


@_of_each
def verdict(
    decay: Decay | chex.Array, *, factor: float = 20.0
) -> Literal["vanishes", "explodes", "holds"]:
    """One word for what happens to the gradient over the T steps that were measured.

    `vanishes` if the median norm over the batch has fallen by the factor at T, `explodes` if it
    has grown by it, else `holds`.

    Args:
      decay: a `Decay`, or its `log_norm` `[T, *batch]`, concrete.
      factor: above 1; the default 20 is the 0.05 of `flow.horizon`.

    Returns:
      `"vanishes"`, `"explodes"` or `"holds"`.

    Raises:
      ValueError: if the factor is not above 1, there is no step or example, a row's mask lets no
        step count, or values are NaN.
      TypeError: if the decay is traced.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> rx.flow.verdict(-0.1 * jnp.arange(1.0, 101.0))
      'vanishes'
    """
    checks.check_number("factor", factor)
    if factor <= 1:
        raise ValueError(f"factor must be above 1, got {factor}")
    log_norm = _logs_and_times(decay)[0]
    if isinstance(log_norm, jax.core.Tracer):
        raise TypeError("verdict returns a word, which depends on values: call it outside jit")
    if log_norm.size == 0:
        raise ValueError(
            f"decay holds no example, so there is no verdict: got shape {log_norm.shape}"
        )
    final = np.median(np.asarray(log_norm)[-1])
    if np.isnan(final):
        raise ValueError("decay holds NaN, so there is no verdict: was the trajectory finite?")
    if final < -math.log(factor):
        return "vanishes"
    return "explodes" if final > math.log(factor) else "holds"


@_of_each
def truncation(profile: LagProfile, *, keep: float = 0.95) -> chex.Array:
    """The number of steps an error must travel so that the gradient keeps this much of itself.

    The smallest K with `||G - C_k|| / ||G|| <= 1 - keep` for all k >= K: errors that travel k steps
    take part in k + 1 steps of truncated backpropagation. Where parts decay as `exp(lambda_1 k)`
    it is about `log(1 - keep) / lambda_1`, at the default 3 / |lambda_1|.

    Args:
      profile: what `flow.lag_profile` returns.
      keep: the fraction of the gradient to keep, between 0 and 1; the norm of the rest may be lost.

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
    checks.check_fraction("keep", keep)
    error = getattr(profile, "error", None)
    if error is None:
        raise TypeError(
            f"profile must be a rx.flow.LagProfile, got {type(profile).__name__}. "
            "flow.lag_profile(cell, params, state, xs, loss) returns one."
        )
    if not isinstance(error, jax.core.Tracer) and np.isnan(np.asarray(error)).any():
        raise ValueError("profile holds NaN, so nothing is kept: was the trajectory finite?")
    steps = jnp.arange(1, error.shape[0] + 1, dtype=jnp.int32)
    return jnp.max(jnp.where(error <= 1 - keep, 0, steps))  # NaN is too large


def _logs_and_times(decay: Any) -> tuple[chex.Array, chex.Array | None]:
    """Return log_norm and, under a mask, how many steps count so far."""
    # By its fields, since other results have a log_norm too, of other times.
    is_decay = getattr(decay, "_fields", None) == ("log_norm", "log_frobenius", "steps")
    log_norm, counted = (decay.log_norm, decay.steps) if is_decay else (decay, None)
    if not isinstance(log_norm, (jax.Array, np.ndarray, list)):
        raise TypeError(
            f"decay must be a rx.flow.Decay or its log_norm [T, *batch], got a "
            f"{type(decay).__name__}. rx.flow.decay(cell, params, state, xs) gives one."
        )
    log_norm = jnp.asarray(log_norm)
    if log_norm.ndim == 0 or len(log_norm) == 0:
        raise ValueError(
            f"decay must be a rx.flow.Decay or its log_norm [T, *batch] with T >= 1, got shape "
            f"{log_norm.shape}"
        )
    if counted is not None and not isinstance(counted, jax.core.Tracer):
        empty = np.argwhere(np.asarray(counted)[-1] == 0)
        if len(empty):
            where = f" at {tuple(map(int, empty[0]))} of the batch" if empty.shape[1] else ""
            raise ValueError(
                f"decay has no step that counts{where}, since the mask is False throughout: "
                "without time there is no rate and no horizon. Leave such rows out."
            )
    if counted is None:
        return log_norm, None
    # What follows a row's last step that counts is no part of it, a reset there included.
    end = jnp.argmax(counted == counted[-1], axis=0)[None]
    within = jnp.arange(len(counted)).reshape(-1, *(1,) * (counted.ndim - 1)) <= end
    return jnp.where(within, log_norm, jnp.take_along_axis(log_norm, end, 0)), counted
