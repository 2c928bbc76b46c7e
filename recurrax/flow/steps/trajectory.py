"""The trajectory that a question is about: the state before each step, and whether it overflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.flow.steps.state_vector import flatten
from recurrax.unrolling.unroll import unroll_states

if TYPE_CHECKING:
    import chex

    from recurrax.flow.steps.problem import Problem


class Trajectory(NamedTuple):
    """What a step went through, time leading."""

    befores: Any  # the state before each step, s_0 ... s_{T-1}
    ys: Any  # the outputs
    finite: chex.Array  # bool [T], whether s_1 ... s_T are


def walk(problem: Problem) -> Trajectory:
    """Run the step over xs, for one example or for a whole batch together."""

    def body(state: Any, x: Any) -> tuple[Any, Any]:
        after, y = problem.step(problem.params, state, x)
        return after, (state, y)

    last, (befores, ys) = jax.lax.scan(body, problem.state, problem.xs)
    finite = jnp.append(jax.vmap(all_finite)(befores)[1:], all_finite(last))
    return Trajectory(befores, ys, finite)


def all_finite(state: Any) -> chex.Array:
    """Return whether the whole state is."""
    return jnp.isfinite(flatten(state)).all()


def befores_of(state: Any, states: Any) -> Any:
    """Return the state before each step, from the first one and those after each step."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), state, states)


def refuse_overflow(problem: Problem, finite: chex.Array) -> None:
    """Refuse a trajectory that overflows: past that point a Jacobian has no meaning.

    What a run saw on its way is a flag. Only where that is down are the states looked at, to say
    which one it is.
    """
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((problem, finite)))
    if traced or np.all(finite):
        return
    checks.check_finite(
        "state at [t, ...]",
        unroll_states(problem.step, problem.params, problem.state, problem.xs),
        "The forward pass overflows there: measure a shorter xs, or shrink the recurrent weights.",
    )
