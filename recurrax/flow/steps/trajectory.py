"""A question is posed, and the trajectory walked that it is about."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.cell import as_step
from recurrax.flow.steps.problem import Flags, Problem, flagged_step, flatten, floating_leaves
from recurrax.gated.step import GatedStep, check_gated_params
from recurrax.unrolling.batch import batch_of
from recurrax.unrolling.scan import Inputs, blank, where_flagged, zero_where_masked
from recurrax.unrolling.unroll import auto_engine, check_mask_and_resets, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.unrolling.batch import Batch


def pose(
    cell: Cell | StepFn, params: Any, state: Any, xs: Any, mask: Any = None, resets: Any = None
) -> Problem:
    """Check the arguments every question takes, and find the batch axes.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; also if concrete inputs that count, params or
        state hold NaN or infinity.
    """
    step = as_step(cell)
    state, xs = prepare(cell, params, state, xs)
    checks.check_steps(xs)
    if not floating_leaves(state):
        raise TypeError(
            "state has no floating-point leaf, so there is no gradient to follow; got "
            f"{checks.show(state)}"
        )
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(state)):
        raise TypeError(
            "state has a complex leaf, whose derivative is not a matrix of real numbers; got "
            f"{checks.show(state)}. Carry its real and imaginary parts as two leaves."
        )
    batch = batch_of(cell, params, state, xs)
    if 0 in batch.shape:
        raise ValueError(f"xs and state hold no example: the batch shape is {batch.shape}")
    flags, start = _check_flags(cell, params, state, xs, batch, Flags(mask, resets))
    if flags.mask is not None:
        xs = blank(flags.mask, xs, batch.xs)
    checks.check_finite("xs", xs, "Drop or fill those steps: one NaN spoils all later ones.")
    checks.check_finite("params", jax.tree.map(jnp.asarray, params), "Did training diverge?")
    checks.check_finite("state", state, "Start from cell.initial_state(params, batch_shape).")
    return Problem(step, params, state, xs, batch, flags, start)


def _check_flags(
    cell: Cell | StepFn, params: Any, state: Any, xs: Any, batch: Batch, flags: Flags
) -> tuple[Flags, Any]:
    """Check a mask and resets as `rx.unroll` does; each for every row, and the state of a reset."""
    length = checks.check_steps(xs)
    whole = {}
    for name, given in flags._asdict().items():
        whole[name] = given
        if given is None:
            continue
        checks.check_flags(name, given, length, state)
        missing = len(batch.shape) - (given.ndim - 1)
        if missing < 0:
            read = f"a batch of shape {batch.shape}" if batch.shape else "one example"
            raise ValueError(
                f"{name} has shape {given.shape}, but state and xs are read as {read}: expected "
                f"{(length, *batch.shape)}. A bare step function does not say which axes are the "
                "batch's; the initial_state of a rx.Cell does."
            )
        given = jnp.asarray(given).reshape(*given.shape, *(1,) * missing)
        whole[name] = jnp.broadcast_to(given, (length, *batch.shape))
    start_of = check_mask_and_resets(cell, params, state, length, **whole)
    return Flags(**whole), None if start_of is None else start_of(params, batch.shape)


def with_inputs(cell: Cell | StepFn, params: Any, state: Any, xs: Any, length: int | None) -> Any:
    """Return xs as given, or inputs of zero for an autonomous system of the given length."""
    if xs is not None:
        if length is not None:
            raise ValueError(
                "length is for an autonomous system, xs=None; it is given here beside xs, whose "
                "first axis is T already. Leave one of them out."
            )
        return xs
    if length is None:
        raise ValueError(
            "xs=None needs length=T, the number of steps to run an autonomous system. Pass the "
            "inputs xs [T, *batch, I], or length."
        )
    checks.check_positive_int("length", length)
    step = as_step(cell)
    if not isinstance(step, GatedStep):
        return jnp.zeros((length, 0))
    size, _ = check_gated_params(step, params)
    batch = jax.tree.leaves(state)[0].shape[:-1] if state is not None else ()
    return jnp.zeros((length, *batch, size), params.w_in.dtype)


class Trajectory(NamedTuple):
    """What a step went through, time leading."""

    befores: Any  # the state before each step, s_0 ... s_{T-1}, after its reset
    ys: Any  # the outputs, zero where masked
    finite: chex.Array  # bool [T], whether s_1 ... s_T are


def walk(problem: Problem) -> Trajectory:
    """Run the step over xs, for one example or for a whole batch together."""

    def body(state: Any, now: tuple[Any, Flags]) -> tuple[Any, Any]:
        step, params, start = problem.step, problem.params, problem.start
        before, after, y = flagged_step(step, params, state, *now, start)
        # A reset hides the state before it, which may have overflown.
        hidden = None if problem.flags.resets is None else _all_finite(after)
        return after, (before, y, hidden)

    rows = problem.xs, problem.flags
    last, (befores, ys, finite) = jax.lax.scan(body, problem.state, rows)
    if finite is None:
        finite = jnp.append(jax.vmap(_all_finite)(befores)[1:], _all_finite(last))
    return Trajectory(befores, ys, finite)


@jax.jit
def walk_together(problem: Problem) -> Trajectory:
    """Run a whole batch by the fastest engine."""
    if not isinstance(problem.step, GatedStep):
        return walk(problem)
    after, flags = _states(problem), problem.flags
    befores = jax.tree.map(lambda a, b: jnp.append(a[None], b[:-1], 0), problem.state, after)
    if flags.resets is not None:
        befores = where_flagged(
            flags.resets, jax.tree.map(lambda a: a[None], problem.start), befores
        )
    ys = zero_where_masked(after.h, flags.mask)
    return Trajectory(befores, ys, jax.vmap(_all_finite)(after))


def _states(problem: Problem) -> Any:
    """s_1 ... s_T."""
    step, params, state, flags = problem.step, problem.params, problem.state, problem.flags
    inputs = Inputs(problem.xs, *flags)
    arrays = params, state, problem.start, inputs
    return auto_engine(step, True, *arrays, reverse=False, remat=None)[1]


def _all_finite(state: Any) -> chex.Array:
    return jnp.isfinite(flatten(state)).all()


def refuse_overflow(problem: Problem, finite: chex.Array) -> None:
    """Refuse a trajectory that is not finite: past that point a Jacobian has no meaning."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((problem, finite)))
    if not traced and not np.all(finite):
        checks.check_finite(
            "state at [t, ...]",
            _states(problem),
            "The forward pass overflows there: measure a shorter xs, or shrink the recurrent "
            "weights.",
        )


def per_example(
    run: Callable[[Problem], Any], problem: Problem, out_axes: Any = 1, *, in_turn: bool = False
) -> Any:
    """Return `run` of each example, mapped over the batch.

    Time leads in xs and, with `out_axes=1`, in every result. The params, and a leaf of the state or
    of xs without the batch axes, are shared by all examples.

    With `in_turn` a CPU takes one example after the other: for runs whose time goes into factoring
    matrices, which it does one by one anyway, and whose branches `jax.vmap` would all take.
    """
    shape = problem.batch.shape
    single = dataclasses.replace(problem.batch, shape=())

    def mapped(problem: Problem) -> Any:
        names = ("state", "start", "xs", "flags")
        leaves, treedef = jax.tree.flatten([getattr(problem, name) for name in names])
        axes = [0 if has else None for has in single.state] * (1 + (problem.start is not None))
        axes += [1 if has else None for has in single.xs]
        axes += [1] * (len(leaves) - len(axes))  # every row has its flags

        def one(*leaves: Any) -> Any:
            parts = zip(names, jax.tree.unflatten(treedef, leaves), strict=True)
            return run(dataclasses.replace(problem, batch=single, **dict(parts)))

        for _ in shape:
            one = jax.vmap(one, tuple(axes), out_axes)
        return one(*leaves)

    def one_after_the_other(problem: Problem) -> Any:
        def one(i: chex.Array) -> Any:
            return run(problem.at(jnp.unravel_index(i, shape), ()))

        out = jax.lax.map(one, jnp.arange(math.prod(shape)))
        out = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), out)
        return jax.tree.map(lambda a: a.reshape(a.shape[0], *shape, *a.shape[2:]), out)

    if in_turn and shape:
        return jax.lax.platform_dependent(problem, cpu=one_after_the_other, default=mapped)
    return mapped(problem)


def for_each_example(
    *static: int, out_axes: int = 1, in_turn: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a question of a whole problem from `run(own, path, *options)` of one example.

    `run` gets that example's problem and trajectory. The question is compiled, and refused where a
    state on the way is not finite, which costs no pass of its own.

    Args:
      *static: which arguments of the question are static, counted with the problem as 0.
      out_axes: how many axes lead in every result, time first; those of the batch follow.
      in_turn: as in `per_example`.
    """

    def decorate(run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.partial(jax.jit, static_argnums=static)
        def compiled(problem: Problem, *options: Any) -> Any:
            def one(own: Problem) -> Any:
                path = walk(own)
                return run(own, path, *options), path.finite

            return per_example(one, problem, (out_axes, 1), in_turn=in_turn)

        @functools.wraps(run)
        def question(problem: Problem, *options: Any) -> Any:
            found, finite = compiled(problem, *options)
            refuse_overflow(problem, finite)
            return found

        return question

    return decorate
