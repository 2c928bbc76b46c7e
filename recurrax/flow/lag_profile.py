"""How far the errors travelled that make up the gradient by the recurrent weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.cell import as_step
from recurrax.flow.lags import any_step as lags_any
from recurrax.flow.lags import gated_step as lags_gated
from recurrax.flow.lags import parts as lags
from recurrax.flow.steps import loss as losses
from recurrax.flow.steps.loss import check_loss
from recurrax.flow.steps.problem import check_states, floating_leaves, matches, pose
from recurrax.gated.cell import GatedStep
from recurrax.unrolling import unroll_states

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import Cell, StepFn


class LagProfile(NamedTuple):
    """The gradient G by some params as a sum of parts, one for each lag 0 ... T-1."""

    lags: chex.Array  # int [T], 0 ... T-1, in steps
    log_norm: chex.Array  # [T], natural log of the norm of each lag's part
    cosine: chex.Array  # [T], of each part with G; 0 where either is zero
    share: chex.Array  # [T], <C_k, G> / ||G||^2 of the parts up to each lag; the last is 1
    error: chex.Array  # [T], ||G - C_k|| / ||G||, what is lost without the later lags
    log_total: chex.Array  # [], log ||G||


def lag_profile(
    loss: Callable[[Any], chex.Array],
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    wrt: str | tuple[str, ...] | None = "w_rec",
) -> LagProfile:
    """How much of `d L / d w_rec` comes from errors that travelled k steps, for every k.

    The loss looks at y_u; the error it puts there travels back to step s <= u, and what the params
    do at step s receives it. With `dw s_s` the derivative of s_s by the params at fixed s_{s-1},

        d L / d w = sum_k G_k,    G_k = sum_s (dw s_s)^T (d s_{s+k} / d s_s)^T dL/ds_{s+k}|direct

    exactly: `C_k = G_0 + ... + G_k` is what backpropagation through time gives when every error
    is cut off after k steps.

    Args:
      loss: `loss(ys) -> scalar`, of the outputs `[T, *batch, ...]` of `rx.unroll`. Compiled from
        its second call on if it is the same function and all that it refers to is the same and
        cannot change in place: constants, arrays of JAX, functions of the same kind.
      cell: a `Cell` or a step function.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      wrt: names of the leaves of params to differentiate by, such as `"w_rec"`, or `"[0].w_rec"`
        in a stack, where `"w_rec"` alone means those of all its cells; None takes all leaves.

    Returns:
      A `LagProfile`, summed over the batch. Norms are in log scale and right at any T; the error
      is right to some roundings of G where parts cancel, and to some of itself where they do
      not. An error below e^-87 (float32) of the largest one at its instant is lost. Where G is
      zero, the share is 1, and the error 0 if all parts are zero, else inf.

    Memory is that of a few states for each step. All lags cost one backward pass or two if the
    loss looks at one output only, else `T / 2` passes without their wait for each other. Inside
    `jax.jit` the choice is made when it runs.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite, or the state
        overflows on the way; if the loss is not a real scalar; if a name is unknown.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):
      ...     h = w * h + x
      ...     return h, h
      >>> last = lambda ys: ys[-1]
      >>> p = rx.flow.lag_profile(last, linear, 0.5, 1.0, jnp.zeros(4), wrt=None)
      >>> [round(float(v), 3) for v in jnp.exp(p.log_norm)]  # h_4 = w^4: four equal parts w^3
      [0.125, 0.125, 0.125, 0.125]
      >>> [round(float(v), 3) for v in p.share]
      [0.25, 0.5, 0.75, 1.0]
      >>> [round(float(v), 3) for v in p.error]
      [0.75, 0.5, 0.25, 0.0]

    Source: the sum over s is equations (3) to (5) of Pascanu, Mikolov and Bengio (2013).
    """
    check_loss(loss)
    trajectory = _checked_walk(cell, params, state, xs)
    where = _chosen(jax.tree.map(jnp.asarray, params), wrt)
    ys = trajectory.states.h if trajectory.ys is None else trajectory.ys
    ys_bar, looks = losses.looks(loss, ys)
    profile: LagProfile = _profile(as_step(cell), where, looks, params, trajectory, ys_bar)
    return profile


class _Trajectory(NamedTuple):
    """What a cell went through."""

    state: Any  # before the first step
    xs: Any
    states: Any  # after each step
    kept: Any  # what else the derivatives of a gated cell need
    ys: Any  # None where they are the states' h
    finite: chex.Array  # [], whether params and all of this are


def _checked_walk(cell: Any, params: Any, state: Any, xs: Any) -> _Trajectory:
    """The trajectory, or the error that says what is wrong with the arguments.

    Shapes are checked when it is traced, and one flag tells whether all values are finite. Only
    where something is wrong, or traced already, are the arguments looked at one by one.
    """
    trajectory: _Trajectory
    try:
        trajectory = _walked(cell, params, state, xs)
        if not isinstance(trajectory.finite, jax.core.Tracer) and trajectory.finite:
            return trajectory
    except (TypeError, ValueError):  # a mistake in the arguments: what follows says it plainly
        pass
    check_states(pose(cell, params, state, xs))
    trajectory = _walked(cell, params, state, xs)
    return trajectory


def _chosen(params: Any, wrt: Any) -> tuple[int, ...]:
    """Which leaves of params are differentiated by."""
    floats = {path for path, _ in floating_leaves(params)}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if not floats:
        raise TypeError("params has no floating-point leaf, so there is no gradient to split")
    if wrt is None:
        return tuple(i for i, path in enumerate(paths) if path in floats)
    wanted = (wrt,) if isinstance(wrt, str) else wrt
    if not isinstance(wanted, (tuple, list)) or not all(isinstance(w, str) for w in wanted):
        raise TypeError(f"wrt must be a name or a tuple of names of leaves, got {wrt!r}")
    found: set[int] = set()
    for want in wanted:
        here = {i for i, path in enumerate(paths) if path in floats and matches(path, want)}
        if not here:
            raise _unknown(paths, floats, want)
        found |= here
    if not found:
        raise _unknown(paths, floats, wrt)
    return tuple(sorted(found))


def _unknown(paths: list[str], floats: set[str], got: Any) -> ValueError:
    known = ", ".join(repr(path.lstrip(".")) for path in paths if path in floats)
    return ValueError(
        f"wrt must name leaves of the params ({known}), got {got!r}; wrt=None takes all of them"
    )


@partial(jax.jit, static_argnums=0)
def _walked(cell: Any, params: Any, state: Any, xs: Any) -> _Trajectory:
    step, params, state, xs, _ = pose(cell, params, state, xs)
    ys, states, kept = None, None, None
    if isinstance(step, GatedStep):
        states, kept = lags_gated.walked(step, params, state, xs)
    if states is None:
        states = unroll_states(step, params, state, xs)
        befores = _befores(state, states)
        ys = jax.vmap(lambda before, x: step(params, before, x)[1])(befores, xs)
    finite = [losses.all_finite(leaf) for leaf in jax.tree.leaves((params, state, xs, states))]
    return _Trajectory(state, xs, states, kept, ys, jnp.all(jnp.stack(finite)))


def _befores(state: Any, states: Any) -> Any:
    """The state before each step."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), state, states)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _profile(
    step: Any, where: tuple[int, ...], looks: str, params: Any, trajectory: Any, ys_bar: Any
) -> LagProfile:
    with jax.default_matmul_precision("highest"):  # accelerators round to ten bits otherwise
        instants = _instants(step, where, params, trajectory)
        errors = instants.begin(ys_bar)
        signals = instants.trace(errors)
        total = lags.weighed(instants, signals)
        seen = lags.seen(errors)

        def one() -> lags.Part:
            return lags.one_look(instants, signals, jnp.argmax(seen), total)

        def many() -> lags.Part:
            return lags.every_lag(instants, errors, total)

        if looks == "unknown":
            parts = jax.lax.cond(jnp.sum(seen) <= 1, one, many)
        else:
            parts = one() if looks == "one" else many()
        return _summed_up(parts, total)


def _instants(step: Any, where: tuple[int, ...], params: Any, found: _Trajectory) -> lags.Instants:
    params = jax.tree.map(jnp.asarray, params)
    if found.ys is None:
        names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        if [names[i] for i in where] == [".w_rec"]:
            walk = (found.state, found.xs, found.states, found.kept)
            return lags_gated.gated_instants(step, params, *walk)
    rows = (_befores(found.state, found.states), found.xs)
    return lags_any.AnyInstants(step, params, where, rows)


def _summed_up(parts: lags.Part, total: tuple[chex.Array, chex.Array]) -> LagProfile:
    log_total = lags.log_size(*total)
    zero = jnp.isneginf(log_total)
    scale = jnp.where(zero, 0, log_total)
    sizes = jnp.exp(parts.log_norm - scale)
    share = jnp.cumsum(sizes * parts.cosine)
    # What is left over from a sum that cancels is rounding; the later parts bound it too.
    later = jnp.append(jnp.cumsum(sizes[:0:-1])[::-1], 0)
    error = jnp.minimum(jnp.exp(parts.log_rest - scale), later)
    return LagProfile(
        lags=jnp.arange(len(share)),
        log_norm=parts.log_norm,
        cosine=parts.cosine,
        share=jnp.where(zero, 1, share),
        error=jnp.where(zero, jnp.where(later == 0, 0, jnp.inf), error),
        log_total=log_total,
    )
