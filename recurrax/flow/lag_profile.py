"""How far the errors travelled that make up the gradient by the recurrent weights."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.lags import by_lag
from recurrax.flow.lags.aligned import aligned, without_return
from recurrax.flow.numbers.scaled import Scaled, log_norm
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.loss import any_step_maps, backpropagated, by_outputs, by_step, check_loss
from recurrax.flow.steps.problem import Problem, named
from recurrax.flow.steps.trajectory import pose, refuse_overflow, walk_together
from recurrax.flow.summary import summary
from recurrax.gated.step import GatedStep

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

    def __repr__(self) -> str:
        return summary(self)


@by_layer
def lag_profile(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    loss: Callable[[Any], chex.Array],
    *,
    wrt: str | tuple[str, ...] | None = "w_rec",
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> LagProfile:
    """How much of `d L / d w_rec` comes from errors that travelled k steps, for every k.

    The loss looks at y_u; the error it puts there travels back to step s <= u, and what the params
    do at step s receives it. With `dw s_s` the derivative of s_s by the params at fixed s_{s-1},

        d L / d w = sum_k G_k,    G_k = sum_s (dw s_s)^T (d s_{s+k} / d s_s)^T dL/ds_{s+k}|direct

    exactly: `C_k = G_0 + ... + G_k` is what backpropagation through time gives when every error
    is cut off after k steps.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      loss: `loss(ys) -> scalar`, of the outputs `[T, *batch, ...]` of `rx.unroll`.
      wrt: names of the leaves of params to differentiate by, such as `"w_rec"`, or `"[0].w_rec"`
        in a stack, where `"w_rec"` alone means those of all its cells; None takes all leaves.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is not counted in any
        lag, and its output is zero, whatever the loss makes of it.
      resets: bool `[T, *batch]`, as in `rx.unroll`; no error travels back through one. The state
        that it returns to is given, as the first one is, though it may be made of params.

    Returns:
      A `LagProfile`, summed over the batch. Norms are in log scale and right at any T; the error
      is right to some roundings of G where parts cancel, and to some of itself where they do
      not. An error below e^-87 (float32) of the largest one at its instant is lost. Where G is
      zero, the share is 1, and the error 0 if all parts are zero, else inf.

    Memory is that of a few states for each step. All lags cost one backward pass or two if the
    loss looks at one output only, be it the last that counts of each row, else `T / 2` passes
    without their wait for each other. Inside `jax.jit`, the place for a profile that is asked for
    again and again, the choice is made when it runs, and all of it is compiled, the loss too.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite, or the state
        overflows on the way; if the loss is not a real scalar; if a name is unknown.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> def linear(w, h, x):
      ...     h = w * h + x
      ...     return h, h
      >>> last = lambda ys: ys[-1]
      >>> p = rx.flow.lag_profile(linear, 0.5, 1.0, jnp.zeros(4), last, wrt=None)
      >>> [round(float(v), 3) for v in jnp.exp(p.log_norm)]  # h_4 = w^4: four equal parts w^3
      [0.125, 0.125, 0.125, 0.125]
      >>> [round(float(v), 3) for v in p.share]
      [0.25, 0.5, 0.75, 1.0]
      >>> [round(float(v), 3) for v in p.error]
      [0.75, 0.5, 0.25, 0.0]

    Source: the sum over s is equations (3) to (5) of Pascanu, Mikolov and Bengio (2013).
    """
    check_loss(loss)
    problem = pose(cell, params, state, xs, mask, resets)
    path = walk_together(problem)
    refuse_overflow(problem, path.finite)
    where = _chosen(jax.tree.map(jnp.asarray, params), wrt)
    ys_bar = by_outputs(loss, path.ys)[1]
    befores, cut = path.befores, None
    if mask is not None or resets is not None:
        problem, befores, ys_bar, cut = aligned(problem, befores, ys_bar)
    at_one_output = None
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in ys_bar):
        with jax.ensure_compile_time_eval():  # of concrete values within a jit too
            at_one_output = bool(jnp.sum(_looked_at(ys_bar)) <= 1)
    profile: LagProfile = _profile(problem, where, at_one_output, befores, ys_bar, cut)
    return profile


def _chosen(params: Any, wrt: Any) -> tuple[tuple[int, str], ...]:
    """Return the places and names of the leaves of params that are differentiated by."""
    leaves = enumerate(jax.tree_util.tree_leaves_with_path(params))
    floats = tuple(
        (i, jax.tree_util.keystr(path))
        for i, (path, leaf) in leaves
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    )
    if not floats:
        raise TypeError("params has no floating-point leaf, so there is no gradient to split")
    if wrt is None:
        return floats
    paths = [path for _, path in floats]
    found = named("wrt", wrt, paths, "leaves of the params ({})", "; wrt=None takes all of them")
    return tuple(floats[i] for i in found)


def _looked_at(errors: Any) -> chex.Array:
    """Return which steps have an error of their own, bool `[T]`."""
    rows = [jnp.any(a.reshape(len(a), -1) != 0, axis=1) for a in jax.tree.leaves(errors)]
    return functools.reduce(jnp.logical_or, rows, jnp.zeros((), bool))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _profile(
    problem: Problem,
    where: tuple[tuple[int, str], ...],
    at_one_output: bool | None,
    befores: Any,
    ys_bar: list[chex.Array],
    cut: chex.Array | None,
) -> LagProfile:
    """Return the profile; whether the loss looks at one output is None where it is traced."""
    with jax.default_matmul_precision("highest"):  # accelerators round to ten bits otherwise
        found: Any = None
        if isinstance(problem.step, GatedStep) and [name for _, name in where] == [".w_rec"]:
            found = by_lag.gated_step_maps(problem, befores, ys_bar)
        if found is None:
            found = any_step_maps(problem, befores, tuple(i for i, _ in where), ys_bar)
        maps, errors = found
        if cut is not None:
            maps = without_return(maps, befores, errors, cut)
        signals = backpropagated(maps, by_step(errors))
        total = by_lag.gradient_of(maps.at(maps.rows)[1], signals)

        def one() -> by_lag.Parts:
            last = jnp.argmax(_looked_at(errors))
            return by_lag.parts_of_one_output(maps, signals, last, total)

        def many() -> by_lag.Parts:
            return by_lag.parts_of_any_loss(maps, errors, total)

        if at_one_output is None:
            parts = jax.lax.cond(jnp.sum(_looked_at(errors)) <= 1, one, many)
        else:
            parts = one() if at_one_output else many()
        return _summed_up(parts, total)


def _summed_up(parts: by_lag.Parts, total: Scaled) -> LagProfile:
    log_total = log_norm(total)
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
