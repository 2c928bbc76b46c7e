"""Penalties on gradients that shrink or stretch on their way, and on weights that make them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.flow.loss_gradients import gradients_of
from recurrax.flow.lyapunov import lyapunov
from recurrax.flow.numbers.scaled import frobenius
from recurrax.flow.steps.loss import check_loss
from recurrax.flow.steps.problem import Problem, flatten, unflatten
from recurrax.flow.steps.trajectory import per_example, pose

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import Cell, StepFn


def omega(
    cell: Cell | StepFn, params: Any, state: Any, xs: Any, loss: Callable[[Any], chex.Array]
) -> chex.Array:
    """The regulariser that asks every step to preserve the size of the error it passes back.

    `Omega = sum_k ( ||e_{k+1} A_{k+1}|| / ||e_{k+1}|| - 1 )^2`, k = 0 ... T - 1, where
    `e_k = d L / d s_k` is the error at the whole state and `A_{k+1} = d s_{k+1} / d s_k` the
    Jacobian of one step. The states s_k and the errors e_{k+1} are held constant: derivatives go
    through A alone, as the paper has it, so they cost as much as one more backward pass.

    Args:
      cell: a `Cell` or a step function.
      params: the cell's params, by which this is differentiable.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      loss: `loss(ys) -> scalar`, of the outputs `[T, *batch, ...]` of `rx.unroll`; it says which
        errors there are. It is not part of the result: add `strength * omega(...)` to it.

    Returns:
      A scalar, float32 at least: the sum over the steps, and the mean over the batch. A step whose
      error is exactly zero, as after the last output that the loss looks at, counts nothing; one
      that has shrunk to `1e-500` does: errors are followed in log scale. The authors' released code
      takes the *squared* norms, leaves out steps with `||e||^2 < 1e-20`, and divides by the number
      of steps kept.

    Raises:
      ValueError, TypeError: as `rx.flow.loss_gradients` does.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):
      ...     h = w * h + x
      ...     return h, h
      >>> def penalty(w):  # every step shrinks the error to w of itself: 4 (w - 1)^2
      ...     return rx.cures.omega(linear, w, jnp.zeros(1), jnp.ones((4, 1)), lambda ys: ys[-1, 0])
      >>> value, slope = jax.value_and_grad(penalty)(0.5)
      >>> round(float(value), 3), round(float(slope), 3)
      (1.0, -4.0)

    Source: equations (9) and (10) of Pascanu, Mikolov and Bengio (2013).
    """
    check_loss(loss)
    constant = pose(cell, *jax.lax.stop_gradient((params, state, xs)))
    gradients, path = gradients_of(constant, loss)
    problem = dataclasses.replace(constant, params=params, xs=jax.tree.map(jnp.asarray, xs))
    batch = constant.batch
    each = (True,) * len(batch.state)  # an error is one example's, at a shared leaf too
    has = (*batch.state, *batch.xs, *each)
    terms = _terms(problem.along((path.befores, problem.xs, gradients.direction), has))
    return jnp.mean(jnp.sum(terms, 0))


@jax.jit
def _terms(problem: Problem) -> chex.Array:
    """Each step's share, `[T, *batch]`: all steps at once, since each stands by itself."""

    def one(own: Problem) -> chex.Array:
        def term(before: Any, x: Any, error: Any) -> chex.Array:
            def after(vector: chex.Array) -> chex.Array:
                return flatten(own.step(own.params, unflatten(vector, before), x)[0])

            unit = flatten(error)  # of norm 1, or zero
            _, pull = jax.vjp(after, flatten(before))
            share = (frobenius(pull(unit)[0]) - 1) ** 2
            return jnp.where(jnp.any(unit != 0), share, 0.0)

        return jax.vmap(term)(*own.xs)

    terms: chex.Array = per_example(one, problem)
    return terms


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
    mask: chex.Array | None = None,
) -> chex.Array:
    """Gradient flossing: the k largest Lyapunov exponents pushed to zero.

    `mean_i (lambda_i - target)^2`, i = 1 ... k, over the sequence given: with exponents of zero a
    gradient keeps its size along k directions for as long as that sequence. Used before training,
    and now and then in the middle of it.

    Args:
      cell, params, state, xs: as for `rx.cures.omega`; the state may be any pytree.
      k: how many exponents, at most N, the size of the whole state; the work is in proportion, and
        as many directions keep their gradient.
      target: of each exponent, in nats a step; a little below 0 forgets slowly.
      burn_in, every, mask: as in `rx.flow.lyapunov`; no step is left out by default, since a
        gradient travels through all of them.

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
    options: dict[str, Any] = {"burn_in": burn_in, "every": every, "mask": mask}
    exponents = lyapunov(cell, params, state, xs, k=k, **options).exponents
    least = jnp.log(jnp.finfo(exponents.dtype).tiny)
    # Not left out of the mean, or a network that has died would look cured.
    exponents = jnp.where(jnp.isfinite(exponents), exponents, least.astype(exponents.dtype))
    return jnp.mean((exponents - target) ** 2)


def orthogonality(params: Any) -> chex.Array:
    """How far recurrent weights are from orthogonal, gate by gate.

    `sum_g || W_g^T W_g - 1 ||_F^2`, which is `sum_g sum_i (sigma_i^2 - 1)^2` over the singular
    values of each gate's block, and zero where every block keeps the length of every vector.

    Args:
      params: the params of a gated cell, whose `w_rec [H, G*H]` is looked at; or such a matrix; or
        a tuple of params, as a stack has, for the sum over its cells.

    Returns:
      A scalar, float32 at least.

    Raises:
      TypeError: if it is neither.
      ValueError: if a matrix does not consist of square blocks.

    Example:
      >>> import jax, recurrax as rx
      >>> params = rx.cells.lstm(3, 8).init(jax.random.key(0))  # orthogonal, gate by gate
      >>> round(abs(float(rx.cures.orthogonality(params))), 6)
      0.0
      >>> doubled = params._replace(w_rec=2 * params.w_rec)  # 4 gates, 8 units, (4 - 1)^2 each
      >>> round(float(rx.cures.orthogonality(doubled)), 3)
      288.0

    Source: Vorontsov et al. (2017).
    """
    if isinstance(params, (tuple, list)) and params and not hasattr(params, "_fields"):
        return jnp.sum(jnp.stack([orthogonality(each) for each in params]))
    own = hasattr(params, "w_rec")
    name, matrix = ("params.w_rec", params.w_rec) if own else ("params", params)
    dtype = getattr(matrix, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} must be a floating-point matrix [H, G*H], or params with one as w_rec, got "
            f"{type(matrix).__name__ if dtype is None else dtype}"
        )
    shape = tuple(matrix.shape)
    if hasattr(params, "w_proj"):
        raise ValueError(
            f"{name} {shape} of a cell with a projection has no square blocks that could be "
            "orthogonal"
        )
    if len(shape) != 2 or 0 in shape or shape[1] % shape[0]:
        raise ValueError(
            f"{name} must be square blocks side by side, [H, G*H], got shape {shape}. It is "
            "for recurrent weights: w_rec, not w_in."
        )
    hidden = shape[0]
    wide = matrix.astype(jnp.promote_types(dtype, jnp.float32))
    blocks = wide.reshape(hidden, -1, hidden)
    grams = jnp.einsum("agb,agc->gbc", blocks, blocks, precision="highest")
    return jnp.sum((grams - jnp.eye(hidden, dtype=wide.dtype)) ** 2)
