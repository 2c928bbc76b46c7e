"""The derivatives of all steps as linear maps, which take errors back through any number at once.

The error of a step is the gradient by its new state and outputs; its signal is what of that reaches
the params.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.steps.loss import shared_leaves, smooth
from recurrax.flow.steps.problem import flatten, unflatten
from recurrax.gated.derivatives import traced_pointwise, weighted
from recurrax.gated.differentiable import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.flow.steps.problem import Problem

_WIDTH = 128  # of the matrix that gradients are written as: its columns are summed first


class StepMaps(NamedTuple):
    """The maps of T steps. Errors are a pytree of `[T, ...]`, signals an array `[T, ...]`."""

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
    rows = befores, problem.xs
    shared = shared_leaves(step, params, *jax.tree.map(lambda leaf: leaf[0], rows))

    def joined(state: Any, ys: list[chex.Array]) -> chex.Array:
        """The state and then the outputs that are none of its leaves, a complex one as two."""
        parts = [flatten(state)]
        for leaf, index in zip(ys, shared, strict=True):
            if index is None:
                halves = (leaf.real, leaf.imag) if jnp.iscomplexobj(leaf) else (leaf,)
                parts += [half.reshape(-1).astype(parts[0].dtype) for half in halves]
        return jnp.concatenate(parts)

    def one_step(chosen: Any, vector: chex.Array, before: Any, x: Any) -> chex.Array:
        given = list(leaves)
        for i, leaf in zip(where, chosen, strict=True):
            given[i] = leaf
        after, y = step(jax.tree.unflatten(treedef, given), unflatten(vector, before), x)
        return joined(after, [leaf for leaf in jax.tree.leaves(y) if smooth(leaf)])

    def at(rows: Any) -> Any:
        def steps(chosen: Any, vectors: chex.Array) -> chex.Array:
            return jax.vmap(one_step, (None, 0, 0, 0))(chosen, vectors, *rows)

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
        return joined(jax.tree.unflatten(treedef, states), [jnp.conj(leaf) for leaf in y_bar])

    return StepMaps(rows, at), jax.vmap(error)(befores, ys_bar)


def gated_step_maps(
    problem: Problem, befores: Any, ys_bar: list[chex.Array]
) -> tuple[StepMaps, tuple[chex.Array, ...]] | None:
    """Return the maps of a gated cell by w_rec, and the error that the loss puts on each field.

    The derivatives of the pointwise function are diagonal, so an error goes back one step by some
    multiplications and one product with w_rec. None if the function cannot be taken apart.
    """
    step: Any = problem.step
    params: Any = jax.tree.map(jnp.asarray, problem.params)
    if not all(
        jnp.issubdtype(a.dtype, jnp.floating) for a in jax.tree.leaves((params.unit, befores))
    ):
        return None
    length, hidden = problem.length, params.w_rec.shape[0]
    fields = tuple(leaf.reshape(length, -1, hidden) for leaf in befores)
    xs = problem.xs.reshape(length, -1, problem.xs.shape[-1])
    which = befores._fields.index("h")
    z_in, z_rec = step.pre_activations(params, fields[which], xs)  # [G, T, B, H]
    now = (z_in[:, 0], z_rec[:, 0], tuple(leaf[0] for leaf in fields))
    try:
        traced = traced_pointwise(step, *jax.eval_shape(lambda *now: now, params.unit, *now))
    except Refusal:
        return None

    def derivatives(*now: Any) -> Any:
        return traced.evaluate(traced.known_by_gates(params.unit, *now))

    dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in fields))
    found = jax.vmap(derivatives, (1, 1, 0))(z_in, z_rec, fields)
    rows = jax.tree.map(lambda a: a.astype(dtype), (fields[which], found))
    w_back = params.w_rec.T.astype(dtype)

    def at(rows: Any) -> Any:
        h, (rec, direct) = rows

        def back(errors: Any) -> tuple[Any, chex.Array]:
            like = jnp.zeros_like(errors[0])
            # Gate by gate, so that it is one vectorised loop; and once, not again for each use.
            by_gate = [weighted([r[g] for r in rec], errors, like) for g in range(step.gates)]
            signals = jax.lax.optimization_barrier(jnp.concatenate(by_gate, -1))
            earlier = [weighted([row[k] for row in direct], errors, like) for k in range(len(rec))]
            earlier[which] += signals @ w_back
            return tuple(earlier), signals

        def gradient(signals: chex.Array, scale: chex.Array) -> chex.Array:
            scaled = (h * scale).reshape(-1, hidden)
            return scaled.T @ signals.reshape(len(scaled), -1)

        return back, gradient

    seen = ys_bar[0].astype(dtype).reshape(rows[0].shape)
    errors = tuple(seen if k == which else jnp.zeros_like(seen) for k in range(len(fields)))
    return StepMaps(rows, at, rows[0][:, 0] if seen.shape[1] == 1 else None), errors
