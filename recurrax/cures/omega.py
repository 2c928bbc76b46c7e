"""A penalty on steps that shrink or stretch the error that passes through them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.flow.loss_gradients import gradients_of
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
      error is exactly zero, as after the last output that the loss looks at, counts nothing. Errors
      are followed in log scale, so one that has shrunk to `1e-500` still counts. The authors'
      released code differs: it takes the *squared* norms, leaves out steps with `||e||^2 < 1e-20`,
      and divides by the number of steps kept.

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
