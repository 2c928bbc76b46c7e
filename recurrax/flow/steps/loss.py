"""A loss of the outputs, the error that it puts on each step, and how errors travel back.

The error of a step is the gradient by its new state and outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.flow.numbers.scaled import Scaled, add, rescale
from recurrax.flow.steps.problem import flatten, step_of_vector
from recurrax.unrolling.scan import zero_where_masked

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import StepFn
    from recurrax.flow.steps.problem import Problem

_WIDTH = 128  # of the matrix that gradients are written as: its columns are summed first


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


class StepMaps(NamedTuple):
    """The derivatives of T steps as linear maps, which take errors back through all at once.

    Errors are a pytree of `[T, ...]`. What of them reaches the params is a signal, `[T, ...]`.
    """

    rows: Any  # what differs from step to step, leaves [T, ...]
    at: Callable[[Any], tuple[Callable[..., Any], Callable[..., Any]]]
    """Of some rows: `back(errors) -> errors on the states before, signals`, each row by itself, and
    `gradient(signals, scale) -> matrix`, the sum over the rows of scale times their gradient."""
    h: chex.Array | None = None  # [T, H], where a gradient is the outer product of h and a signal


def any_step_maps(
    problem: Problem, befores: Any, where: tuple[int, ...], ys_bar: list[chex.Array]
) -> tuple[StepMaps, chex.Array]:
    """Return the maps of any step, by reverse mode, and the errors `[T, N + M]` of the loss.

    `where` says which leaves of params are differentiated by. M counts the outputs that are not
    leaves of the new state: they carry an error to the state before, and none to the new one.
    """
    step, params = problem.step, jax.tree.map(jnp.asarray, problem.params)
    leaves, treedef = jax.tree.flatten(params)
    rows = problem.rows(befores)
    ys_bar = zero_where_masked(ys_bar, problem.flags.mask)
    shared = _shared_leaves(step, params, *jax.tree.map(lambda leaf: leaf[0], rows[:2]))

    def joined(state: chex.Array, ys: list[chex.Array]) -> chex.Array:
        """The state and then the outputs that are none of its leaves, a complex one as two."""
        parts = [state]
        for leaf, index in zip(ys, shared, strict=True):
            if index is None:
                halves = (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)
                parts += [half.reshape(-1).astype(parts[0].dtype) for half in halves]
        return jnp.concatenate(parts)

    def one_step(chosen: Any, vector: chex.Array, *row: Any) -> chex.Array:
        given = list(leaves)
        for i, leaf in zip(where, chosen, strict=True):
            given[i] = leaf
        after, y = step_of_vector(step, jax.tree.unflatten(treedef, given), vector, *row)
        return joined(after, [leaf for leaf in jax.tree.leaves(y) if _has_gradient(leaf)])

    def at(rows: Any) -> Any:
        def steps(chosen: Any, vectors: chex.Array) -> chex.Array:
            return jax.vmap(one_step, (None, 0, 0, 0, 0))(chosen, vectors, *rows)

        _, pull = jax.vjp(steps, [leaves[i] for i in where], jax.vmap(flatten)(rows[0]))

        def back(errors: chex.Array) -> tuple[chex.Array, chex.Array]:
            earlier = pull(errors)[1]
            return jnp.pad(earlier, ((0, 0), (0, errors.shape[1] - earlier.shape[1]))), errors

        def gradient(signals: chex.Array, scale: chex.Array) -> chex.Array:
            pulled = pull(signals * scale)[0]
            vector = jnp.concatenate([leaf.reshape(-1).astype(signals.dtype) for leaf in pulled])
            return jnp.pad(vector, (0, -len(vector) % _WIDTH)).reshape(-1, _WIDTH)

        return back, gradient

    def error(before: Any, y_bar: list[chex.Array]) -> chex.Array:
        states, treedef = jax.tree.flatten(jax.tree.map(jnp.zeros_like, before))
        for leaf, index in zip(y_bar, shared, strict=True):
            if index is not None:
                states[index] = states[index] + leaf
        return joined(
            flatten(jax.tree.unflatten(treedef, states)), [jnp.conj(leaf) for leaf in y_bar]
        )

    return StepMaps(rows, at), jax.vmap(error)(befores, ys_bar)


def backpropagated(maps: StepMaps, errors: Scaled) -> Scaled:
    """Return the signals of all errors together, step by step back, an exponent for each."""

    def body(later: Scaled, now: Any) -> tuple[Scaled, Scaled]:
        row, own = jax.tree.map(lambda leaf: leaf[None], now)
        error = add(later, own)
        earlier, signal = maps.at(row)[0](error.mantissa)
        return rescale(earlier, error.exponent), Scaled(signal, error.exponent)

    nothing = by_step(jax.tree.map(lambda leaf: jnp.zeros_like(leaf[:1]), errors.mantissa))
    signals = jax.lax.scan(body, nothing, (maps.rows, errors), reverse=True)[1]
    return Scaled(signals.mantissa[:, 0], signals.exponent[:, 0])


def by_step(errors: Any) -> Scaled:
    """Return errors with an exponent for each step."""
    first = jax.tree.leaves(errors)[0]
    return rescale(errors, jnp.zeros((len(first), *(1,) * (first.ndim - 1)), jnp.int32))


def _shared_leaves(step: StepFn, params: Any, state: Any, x: Any) -> tuple[int | None, ...]:
    """Return, for each leaf of y that has a gradient, the very same leaf of the new state, or None.

    Read off the traced step: the same variable comes out twice.
    """
    _, shapes = jax.eval_shape(step, params, state, x)
    jaxpr = jax.make_jaxpr(lambda p, s, x: step(p, s, x))(params, state, x).jaxpr
    outputs = _inlined_outputs(jaxpr)
    count = len(jax.tree.leaves(state))
    states, ys = outputs[:count], outputs[count:]
    pairs = zip(ys, jax.tree.leaves(shapes), strict=True)
    return tuple(
        states.index(y) if y in states else None for y, leaf in pairs if _has_gradient(leaf)
    )


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


def _has_gradient(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))
