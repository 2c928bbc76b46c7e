"""How far the errors travelled that make up the gradient by the recurrent weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow import lags
from recurrax.flow.joint import check_states, floating_leaves, matches, pose
from recurrax.flow.losses import by_outputs, check_loss
from recurrax.gated import GatedStep
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
      loss: `loss(ys) -> scalar`, of the outputs `[T, *batch, ...]` of `rx.unroll`.
      cell: a `Cell` or a step function.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      wrt: names of the leaves of params to differentiate by, such as `"w_rec"`, or `"[0].w_rec"`
        in a stack, where `"w_rec"` alone means those of all its cells; None takes all leaves.

    Returns:
      A `LagProfile`, summed over the batch. Norms are in log scale and right at any T; the error
      is right to some roundings of G where parts cancel, and to some of itself where they do
      not. Where G is zero, the share is 1, and the error 0 if all parts are zero, else inf.

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
      >>> jnp.exp(p.log_norm).tolist()  # h_4 = w^4: four equal parts w^3
      [0.125, 0.125, 0.125, 0.125]
      >>> p.share.tolist(), p.error.tolist()
      ([0.25, 0.5, 0.75, 1.0], [0.75, 0.5, 0.25, 0.0])

    Source: the sum over s is equations (3) to (5) of Pascanu, Mikolov and Bengio (2013).
    """
    check_loss(loss)
    problem = pose(cell, params, state, xs)
    check_states(problem)
    step, params, state, xs, _ = problem
    params = jax.tree.map(jnp.asarray, params)
    where = _chosen(params, wrt)
    befores, ys = _walked(step, params, state, xs)
    _, ys_bar = by_outputs(loss, ys)
    looks = _looks(ys_bar)
    profile: LagProfile
    profile, _ = _profile(step, where, looks, False, params, (befores, xs), ys_bar)
    return profile


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


def _looks(ys_bar: list[chex.Array]) -> str:
    """Whether the loss looks at the output of one instant, of many, or one cannot know yet."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in ys_bar):
        return "unknown"
    seen = [np.any(np.asarray(leaf).reshape(len(leaf), -1), axis=1) for leaf in ys_bar]
    return "one" if not ys_bar or np.any(seen, axis=0).sum() <= 1 else "many"


@partial(jax.jit, static_argnums=0)
def _walked(step: Any, params: Any, state: Any, xs: Any) -> tuple[Any, Any]:
    """The state before each step, and the outputs."""
    states = unroll_states(step, params, state, xs)
    befores = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), state, states)
    if isinstance(step, GatedStep):
        return befores, states.h
    return befores, jax.vmap(lambda before, x: step(params, before, x)[1])(befores, xs)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _profile(
    step: Any, where: tuple[int, ...], looks: str, keep: bool, params: Any, rows: Any, ys_bar: Any
) -> tuple[LagProfile, Any]:
    """The profile, and the parts themselves `(mantissa [T, P], exponent [T])` if asked to keep."""
    with jax.default_matmul_precision("highest"):  # accelerators round to ten bits otherwise
        instants = _instants(step, where, params, rows)
        direct = instants.begin(ys_bar)
        total, signals = lags.whole(instants, direct)

        def one() -> lags.Part:
            seen = jnp.any(direct.reshape(len(direct), -1) != 0, axis=1)
            return lags.one_look(instants, signals, jnp.argmax(seen), total, keep)

        def many() -> lags.Part:
            return lags.every_lag(instants, direct, total, keep)

        if looks == "unknown":
            seen = jnp.any(direct.reshape(len(direct), -1) != 0, axis=1)
            parts = jax.lax.cond(jnp.sum(seen) <= 1, one, many)
        else:
            parts = one() if looks == "one" else many()
        return _summed_up(parts, total), parts.vector


def _instants(step: Any, where: tuple[int, ...], params: Any, rows: Any) -> lags.Instants:
    if isinstance(step, GatedStep):
        names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
        if [names[i] for i in where] == [".w_rec"]:
            return lags.gated_instants(step, params, *rows)
    return lags.AnyInstants(step, params, where, rows)


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
