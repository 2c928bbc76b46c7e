"""The gradient flow during training, measured inside the jitted training step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks, keys
from recurrax.flow.decay import Decay
from recurrax.flow.horizon import horizon, rate
from recurrax.flow.numbers.largest import first_guess, largest_singular_value
from recurrax.flow.numbers.scaled import power_of_two, rescale
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.probes import probed_norms
from recurrax.flow.steps.problem import NO_FLAGS, Flags, Problem, flatten
from recurrax.flow.steps.trajectory import per_example, pose, walk
from recurrax.flow.summary import summary
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn


class GateStatistics(NamedTuple):
    """How open and how saturated the gates are, over the hidden units of one example."""

    names: tuple[str, ...]  # of the G gates of the cell's view
    mean: chex.Array  # [T, *batch, G], the mean activation; NaN where a step is masked, as below
    low: chex.Array  # [T, *batch, G], fraction of units below 0.1 (sigmoid) or -0.9 (tanh)
    high: chex.Array  # [T, *batch, G], fraction of units above 0.9

    def __repr__(self) -> str:
        return summary(self)


class Watched(NamedTuple):
    """What was seen at one training step: scalars (and scalars by name), for any logger."""

    step: chex.Array  # int32 [], the training step at which it was measured; -1: none yet
    log_norm: chex.Array  # [], median over the batch of log || d s_T / d s_0 ||, nats
    log_frobenius: chex.Array  # [], the same of the Frobenius norm, an estimate for few probes
    rate: chex.Array  # [], median rate over the second half of the sequence, nats a step
    horizon: chex.Array  # [], median steps back that are felt; inf where it does not shrink
    largest_singular_value: Any  # [] of w_rec, its largest gate; None for a step that is not gated
    gates: dict[str, chex.Array]  # [] by the gate's name: mean activation; empty without a view
    saturated: dict[str, chex.Array]  # [] by the gate's name: fraction of units at either end

    def __repr__(self) -> str:
        return summary(self)


def watch(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    step: Any,
    last: Watched | None = None,
    every: int = 100,
    examples: int = 2,
    probes: int = 4,
    key: chex.PRNGKey | None = None,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> Watched:
    """The gradient flow of the network as it trains, every so many steps.

    To be called in a training step, inside `jax.jit` or a `lax.scan` over training steps. Where
    `step % every == 0` it measures what `flow.decay`, `rate` and `horizon` say of `d s_t / d s_0`,
    how open and how saturated the gates are, and the norm of w_rec. At other steps, by a
    `lax.cond`, it costs nothing and returns `last`. It never raises because of values: of a network
    that has diverged it returns NaN.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs of this training step, `[T, *batch, I]`.
      step: the number of the training step, an integer, traced or not.
      last: what the call before returned, handed on between measurements; None: a record of NaN
        whose `step` is -1, to be filtered. A loop may carry that of `watch(..., step=0)` before it.
      every: training steps between measurements.
      examples: how many of the batch are measured, the first of its leading axis.
      probes: directions followed for each: see `flow.decay`.
      key: for the random directions; by default one that no user has, always the same.
      mask: bool `[T, *batch]`, as in `rx.unroll`; steps where it is False do not count, nor do rows
        that have no other.
      resets: bool `[T, *batch]`, as in `rx.unroll`; of a row with one nothing of s_0 is left at T.

    Returns:
      A `Watched`. `record._asdict()` is what a logger takes; `rx.plot.history` draws records,
      stacked by a scan or by `jax.tree.map`.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if step is not an integer; if every, examples or
        probes is not a positive integer; if `last` is not such a record.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.elman(1, 8)
      >>> params = cell.init(jax.random.key(0))
      >>> xs = jnp.zeros((20, 1))
      >>> def train(params, step):  # weight decay, and nothing else
      ...     params = params._replace(w_rec=0.9 * params.w_rec)
      ...     return params, rx.flow.watch(cell, params, None, xs, step=step, every=5)
      >>> _, records = jax.lax.scan(train, params, jnp.arange(10))
      >>> seen = records.step >= 0
      >>> records.step[seen].tolist()
      [0, 5]
      >>> [round(float(v), 3) for v in records.largest_singular_value[seen]]  # .9 and .9^6
      [0.9, 0.531]
    """
    for name, value in (("every", every), ("examples", examples), ("probes", probes)):
        checks.check_positive_int(name, value)
    dtype = getattr(step, "dtype", jnp.int32 if type(step) is int else None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.integer) or jnp.shape(step):
        raise TypeError(
            f"step must be the number of the training step, an integer, got {step!r}. Carry a "
            "counter: jnp.int32(0), and one more each step."
        )
    key = keys.own(keys.DIRECTIONS) if key is None else key
    checks.check_key(key)
    checks.check_inputs_are_arrays(xs)  # here, since what jit says of them names no argument
    checks.check_arrays("params", params)
    checks.check_arrays("state", state)
    static = (cell, int(every), int(examples), int(probes))
    given = params, state, xs, mask, resets
    found: Watched = _watch(*static, key, jnp.asarray(step, jnp.int32), last, *given)
    return found


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _watch(
    cell: Any, every: int, examples: int, probes: int, key: Any, step: Any, last: Any, *given: Any
) -> Watched:
    *of, mask, resets = given
    flags = {"mask": mask, "resets": resets}

    def now() -> Watched:
        return _measured(cell, *of, **flags, examples=examples, probes=probes, key=key, at=step)

    blank = jax.tree.map(not_measured, jax.eval_shape(now))
    came, expected = checks.show(last), checks.show(blank)
    if last is not None and came != expected:
        raise TypeError(
            "last must be the record that flow.watch returned for this cell the step before, got "
            f"{came}; expected {expected}. Begin with last=None."
        )
    found: Watched = jax.lax.cond(step % every == 0, now, lambda: blank if last is None else last)
    return found


@by_layer
def _measured(
    cell: Any,
    params: Any,
    state: Any,
    xs: Any,
    *,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
    examples: int,
    probes: int,
    key: Any,
    at: Any,
) -> Watched:
    # Here and not outside, where concrete values would be checked: a record says NaN instead.
    problem = pose(cell, params, state, xs, mask, resets)
    shape = problem.batch.shape
    if shape and shape[0] > examples:
        problem = problem.at((slice(examples),), (examples, *shape[1:]))
    probes = min(probes, problem.size)
    step: Any = problem.step
    view = step.view if isinstance(step, GatedStep) else None
    whole = ((0, problem.size),)

    def one(own: Problem) -> Any:
        path = walk(own)
        logs = probed_norms(own, path, whole, whole, probes, key)
        if view is None:
            return logs, None
        return logs, jax.vmap(partial(gate_statistics, step, own.params))(path.befores, own.xs)

    (log_norm, log_frobenius), found = per_example(one, problem)
    decay, mask = Decay(log_norm, log_frobenius, problem.counted), problem.flags.mask
    rows = None if decay.steps is None else decay.steps[-1] > 0
    gates, saturated, norm = {}, {}, None
    if view is not None:
        mean, low, high = (_mean(leaf.reshape(-1, len(view.names)), mask) for leaf in found)
        gates = dict(zip(view.names, mean, strict=True))
        both = low + high + 0 * mean  # NaN is at neither end
        saturated = dict(zip(view.names, both, strict=True))
    if isinstance(step, GatedStep):
        blocks = checks.at_least(step.split(problem.params.w_rec), jnp.float32)
        blocks, exponent = rescale(blocks)  # the norm is found by its square
        guess = first_guess(blocks.shape[-1], blocks.dtype)
        norms = jax.vmap(lambda block: largest_singular_value(block, guess)[0])(blocks)
        norm = jnp.max(norms) * power_of_two(exponent, norms.dtype)
    return Watched(
        step=at,
        log_norm=_median(decay.log_norm[-1], rows),
        log_frobenius=_median(decay.log_frobenius[-1], rows),
        rate=_median(rate(decay), rows),
        horizon=_median(horizon(decay).steps, rows),
        largest_singular_value=norm,
        gates=gates,
        saturated=saturated,
    )


def _median(values: chex.Array, rows: chex.Array | None) -> chex.Array:
    """The median over some rows, NaN if one of them is; over all rows for None."""
    if rows is None:
        return jnp.median(values)
    middle = jnp.nanmedian(jnp.where(rows, values, jnp.nan))
    return jnp.where(jnp.any(jnp.isnan(values) & rows), jnp.nan, middle)


def _mean(values: chex.Array, mask: chex.Array | None) -> chex.Array:
    """The mean over the rows `[M, G]` that count."""
    if mask is None:
        return values.mean(0)
    return values.mean(0, where=mask.reshape(-1, 1))


def gate_statistics(
    step: GatedStep, params: Any, state: Any, x: Any, flags: Flags = NO_FLAGS
) -> tuple[chex.Array, ...]:
    """Mean and saturated fractions of each gate of the view in one example, `[G]`; NaN: masked."""
    view: Any = step.view
    z = step.pre_activations(params, state.h, x)
    values = jnp.stack(list(view.values(params.unit, *z))).astype(flatten(state).dtype)
    # Where a sigmoid counts as saturated its slope is below 0.09, a tanh's below 0.19.
    low = np.asarray([{"sigmoid": 0.1, "tanh": -0.9}[kind] for kind in view.kinds])[:, None]
    below, above = (values < low).astype(values.dtype), (values > 0.9).astype(values.dtype)
    found = values.mean(-1), below.mean(-1), above.mean(-1)
    if flags.mask is None:
        return found
    return tuple(jnp.where(flags.mask, leaf, jnp.nan) for leaf in found)


def not_measured(leaf: jax.ShapeDtypeStruct) -> chex.Array:
    """Return NaN, and -1 for the step, for what was not measured yet."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.full(leaf.shape, jnp.nan if floating else -1, leaf.dtype)
