"""The gradient of a loss with respect to the state at every t, in one backward pass."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.numbers.scaled import add, frobenius, log_of
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.loss import any_step_maps, backpropagated, by_outputs, by_step, check_loss
from recurrax.flow.steps.problem import Problem, unflatten
from recurrax.flow.steps.trajectory import (
    Trajectory,
    per_example,
    pose,
    refuse_overflow,
    walk_together,
)
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import Cell, StepFn


class LossGradients(NamedTuple):
    """A loss and its gradient by each state, as a size in log scale and a direction."""

    loss: chex.Array  # []
    log_norm: chex.Array  # [T, *batch], log || d L / d s_t || over the whole state
    direction: Any  # the state's structure, leaves [T, *batch, ...], of norm 1 over the whole state

    def gradients(self) -> Any:
        """`d L / d s_t` itself: norm times direction, which may under- or overflow."""

        def scale(leaf: chex.Array) -> chex.Array:
            size = jnp.exp(self.log_norm)
            return (
                size.reshape(size.shape + (1,) * (leaf.ndim - size.ndim)).astype(leaf.dtype) * leaf
            )

        return jax.tree.map(scale, self.direction)

    def __repr__(self) -> str:
        return summary(self, "log_norm", 0, "at t = 1")


@by_layer
def loss_gradients(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    loss: Callable[[Any], chex.Array],
    *,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> LossGradients:
    """The gradient of a loss with respect to the state after every step, `d L / d s_t`.

    `d L / d s_t = dL/ds_t|direct + A_{t+1}^T d L / d s_{t+1}`, the total derivative through all
    later steps, in one backward pass and in log scale: it is right where `jax.grad` gives zero or
    infinity.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`).
        Where its output is a leaf of its new state, as in all shipped cells, the loss's own view of
        that leaf counts as the direct part; an output computed otherwise counts towards the state
        before the step.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      loss: `loss(ys) -> scalar`, of the outputs `[T, *batch, ...]` of `rx.unroll`.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is the identity,
        and its output zero, whatever the loss makes of it.
      resets: bool `[T, *batch]`, as in `rx.unroll`; no error travels back through one.

    Returns:
      A `LossGradients`; row 0 belongs to s_1. Where a gradient is exactly zero its log norm is
      -inf and its direction zero. An entry below e^-87 (float32) of the largest of its own s_t is
      lost, even if it would be the largest further back, as where gates shut in turn.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite, or the state
        overflows on the way; if the loss is not a real scalar.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):
      ...     h = w * h + x
      ...     return h, h
      >>> last = lambda ys: ys[-1].sum()
      >>> g = rx.flow.loss_gradients(linear, 0.5, jnp.zeros(1), jnp.ones((4, 1)), last)
      >>> [round(float(v), 3) for v in g.gradients()[:, 0]]
      [0.125, 0.25, 0.5, 1.0]

    Source: equations (3) to (5) of Pascanu, Mikolov and Bengio (2013).
    """
    check_loss(loss)
    problem = pose(cell, params, state, xs, mask, resets)
    return gradients_of(problem, loss)[0]


def gradients_of(
    problem: Problem, loss: Callable[[Any], chex.Array]
) -> tuple[LossGradients, Trajectory]:
    """Return the gradients of a problem, and the trajectory that they belong to."""
    path = walk_together(problem)
    refuse_overflow(problem, path.finite)
    value, ys_bar = by_outputs(loss, path.ys)
    has = (*problem.batch.state, *problem.batch.xs, *problem.outputs(path.ys))
    rows = problem.along((path.befores, problem.xs, ys_bar), has)
    return LossGradients(value, *_backward(rows)), path


@jax.jit
def _backward(problem: Problem) -> tuple[chex.Array, Any]:
    """`log_norm` and direction; xs are states before each step, inputs and gradients by y."""

    def one(own: Problem) -> tuple[chex.Array, Any]:
        befores, xs, ys_bar = own.xs
        posed = dataclasses.replace(own, xs=xs)
        maps, found = any_step_maps(posed, befores, (), ys_bar)
        in_state = np.arange(found.shape[1]) < own.size
        errors = by_step(jnp.where(in_state, found, 0))
        if not in_state.all():  # other outputs put theirs on the state before
            earlier = maps.at(maps.rows)[0](jnp.where(in_state, 0, found))[0]
            earlier = jnp.append(earlier[1:], jnp.zeros_like(earlier[:1]), 0)
            errors = add(errors, by_step(earlier))
        found, exponents = backpropagated(maps, errors)
        errors = found[:, : own.size]
        norms = jax.vmap(frobenius)(errors)
        units = errors / jnp.where(norms == 0, 1, norms)[:, None]
        # Leaves that carry no gradient have a direction of zero.
        like = jax.tree.map(jnp.zeros_like, own.state)
        directions = jax.vmap(lambda unit: unflatten(unit, like))(units)
        return log_of(norms, exponents[:, 0]), directions

    log_norm, direction = per_example(one, problem)
    return log_norm, direction
