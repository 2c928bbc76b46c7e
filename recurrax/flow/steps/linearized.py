"""The derivatives of any step along a trajectory, found once and for all instants together.

`jax.linearize` takes a step apart into what can be known from the state and a linear function of
the tangent. What is known of it differs from one instant to the next, as the slopes of a tanh do,
or is the same at all, as the weights are. The first kind is computed for a whole stretch of time in
a few wide operations and goes through a `lax.scan`; the second stays where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
from jax.extend.core import Literal

from recurrax.flow.steps.problem import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import StepFn


class Tangent:
    """A_t of any step, as the linear function that its derivative is."""

    def __init__(self, jvp: Callable[[chex.Array], chex.Array]) -> None:
        self._jvp = jvp

    def push(self, v: chex.Array) -> chex.Array:
        """`A v` for columns `[N, k]`."""
        with jax.default_matmul_precision("highest"):
            return jax.vmap(self._jvp, in_axes=1, out_axes=1)(v)

    def pull(self, u: chex.Array) -> chex.Array:
        """`A^T u` for columns `[N, k]`."""
        transposed = jax.linear_transpose(self._jvp, u[:, 0])
        with jax.default_matmul_precision("highest"):
            return jax.vmap(lambda column: transposed(column)[0], in_axes=1, out_axes=1)(u)


def tangents(
    step: StepFn, params: Any, befores: Any, xs: Any
) -> tuple[list[chex.Array], Callable[[list[chex.Array]], Tangent]]:
    """What differs from step to step, leading with T, and the map made of one row of it."""
    treedef: Any = None

    def linearized(before: Any, x: Any) -> list[chex.Array]:
        def after(vector: chex.Array) -> chex.Array:
            return flatten(step(params, unflatten(vector, before), x)[0])

        nonlocal treedef
        _, jvp = jax.linearize(after, flatten(before))
        known, treedef = jax.tree.flatten(jvp)
        return known

    first = jax.tree.map(lambda leaf: leaf[0], (befores, xs))
    varies = _depend_on_arguments(jax.make_jaxpr(linearized)(*first))
    fixed = [leaf for leaf, v in zip(linearized(*first), varies, strict=True) if not v]

    def varying(before: Any, x: Any) -> list[chex.Array]:
        return [leaf for leaf, v in zip(linearized(before, x), varies, strict=True) if v]

    rows = jax.vmap(varying)(befores, xs)

    def make(now: list[chex.Array]) -> Tangent:
        sources = {True: iter(now), False: iter(fixed)}
        return Tangent(jax.tree.unflatten(treedef, [next(sources[v]) for v in varies]))

    return rows, make


def _depend_on_arguments(closed: Any) -> list[bool]:
    """Which results of a traced function depend on its arguments."""
    reached = set(closed.jaxpr.invars)
    for equation in closed.jaxpr.eqns:
        used = (atom for atom in equation.invars if not isinstance(atom, Literal))
        if any(variable in reached for variable in used):
            reached.update(equation.outvars)
    return [not isinstance(a, Literal) and a in reached for a in closed.jaxpr.outvars]
