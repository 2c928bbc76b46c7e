"""The gradient of a loss with respect to the state at every t, in one backward pass."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.scaled import add_scaled, frobenius, log_of, rescale
from recurrax.flow.steps.loss import by_outputs, check_loss
from recurrax.flow.steps.problem import check_states, flatten, per_example, pose, unflatten
from recurrax.unrolling import unroll

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


def loss_gradients(
    loss: Callable[[Any], chex.Array], cell: Cell | StepFn, params: Any, state: Any, xs: Any
) -> LossGradients:
    """The gradient of a loss with respect to the state after every step, `d L / d s_t`.

    `d L / d s_t = dL/ds_t|direct + A_{t+1}^T d L / d s_{t+1}`, the total derivative through all
    later steps, in one backward pass and in log scale: it is right where `jax.grad` gives zero or
    infinity.

    Args:
      loss: `loss(ys) -> scalar`, of the outputs `[T, *batch, ...]` of `rx.unroll`.
      cell: a `Cell` or a step function. Where its output is a leaf of its new state, as in all
        shipped cells, the loss's own view of that leaf counts as the direct part; an output
        computed otherwise counts towards the state before the step.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.

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
      >>> g = rx.flow.loss_gradients(last, linear, 0.5, jnp.zeros(1), jnp.ones((4, 1)))
      >>> [round(float(v), 3) for v in g.gradients()[:, 0]]
      [0.125, 0.25, 0.5, 1.0]

    Source: equations (3) to (5) of Pascanu, Mikolov and Bengio (2013).
    """
    check_loss(loss)
    problem = pose(cell, params, state, xs)
    check_states(problem)
    step, params, state, xs, batch = problem
    _, ys = unroll(step, params, state, xs)
    value, ys_bar = by_outputs(loss, ys)
    seen = dataclasses.replace(batch, xs=(*batch.xs, *problem.outputs(ys)))
    log_norm, direction = _backward(step, seen, params, state, (xs, ys_bar))
    return LossGradients(value, log_norm, direction)


@partial(jax.jit, static_argnums=(0, 1))
def _backward(step: Any, batch: Any, params: Any, state: Any, seen: Any) -> tuple[Any, Any]:
    def one(params: Any, state: Any, seen: Any) -> tuple[chex.Array, Any]:
        xs, ys_bar = seen
        first = jax.tree.map(lambda leaf: leaf[0], xs)
        shared = shared_leaves(step, params, state, first)

        def walk(state: Any, x: Any) -> tuple[Any, Any]:
            return step(params, state, x)[0], state

        def body(later: Any, now: Any) -> tuple[Any, tuple[chex.Array, Any]]:
            before, x, y_bar = now
            direct, other = _split_direct(y_bar, state, shared)
            mantissa, exponent = add_scaled(later, rescale(direct))

            def forward(vector: chex.Array) -> Any:
                after, y = step(params, unflatten(vector, before), x)
                return flatten(after), [leaf for leaf in jax.tree.leaves(y) if _smooth(leaf)]

            _, pull = jax.vjp(forward, flatten(before))
            zeros = jax.tree.map(jnp.zeros_like, y_bar)
            through, shift = rescale(pull((mantissa, zeros))[0])
            earlier = (through, exponent + shift)
            earlier = add_scaled(earlier, rescale(pull((jnp.zeros_like(mantissa), other))[0]))
            norm = frobenius(mantissa)
            unit = mantissa / jnp.where(norm == 0, 1.0, norm)
            out = log_of(norm, exponent), _like_state(unit, before)
            return earlier, out

        befores = jax.lax.scan(walk, state, xs)[1]
        nothing = (jnp.zeros_like(flatten(state)), jnp.int32(0))
        return jax.lax.scan(body, nothing, (befores, xs, ys_bar), reverse=True)[1]

    log_norm, direction = per_example(one, batch)(params, state, seen)
    return log_norm, direction


def shared_leaves(step: StepFn, params: Any, state: Any, x: Any) -> tuple[int | None, ...]:
    """For each floating-point leaf of y, the very same leaf of the new state, or None.

    Read off the traced step: the same variable comes out twice.
    """
    _, shapes = jax.eval_shape(step, params, state, x)
    jaxpr = jax.make_jaxpr(lambda p, s, x: step(p, s, x))(params, state, x).jaxpr
    outputs = _inlined_outputs(jaxpr)
    count = len(jax.tree.leaves(state))
    states, ys = outputs[:count], outputs[count:]
    pairs = zip(ys, jax.tree.leaves(shapes), strict=True)
    return tuple(states.index(y) if y in states else None for y, leaf in pairs if _smooth(leaf))


def _inlined_outputs(jaxpr: Any) -> list[Any]:
    """The identity of each output, seen through a jit or checkpoint around the step."""
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


def _smooth(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _split_direct(y_bar: list[Any], state: Any, shared: tuple[int | None, ...]) -> tuple[Any, Any]:
    """The loss's gradient by y, as a part that lies on the new state and the rest."""
    state_leaves, state_def = jax.tree.flatten(state)
    direct = [jnp.zeros_like(leaf) for leaf in state_leaves]
    rest = []
    for leaf, index in zip(y_bar, shared, strict=True):
        if index is not None:
            direct[index] = direct[index] + leaf
        rest.append(leaf if index is None else jnp.zeros_like(leaf))
    return flatten(jax.tree.unflatten(state_def, direct)), rest


def _like_state(vector: chex.Array, state: Any) -> Any:
    """The vector in the structure of the state, zero in leaves that carry no gradient."""
    return unflatten(vector, jax.tree.map(jnp.zeros_like, state))
