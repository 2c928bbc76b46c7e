"""The Lyapunov spectrum: how fast small differences of the state grow in the long run."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.growth import block_length, counted_steps, grow, left_out
from recurrax.flow.steps.trajectory import per_example, pose, refuse_overflow, with_inputs
from recurrax.flow.summary import summary

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.flow.steps.problem import Problem


class Lyapunov(NamedTuple):
    """The exponents of the joint state, largest first, in nats a step."""

    exponents: chex.Array  # [*batch, k], -inf where a Jacobian is singular
    standard_errors: chex.Array  # [*batch, k], by the means of blocks of time; inf if unknown
    history: chex.Array  # [M, *batch, k], the estimate from the first times[m] steps
    times: chex.Array  # int32 [M], steps after the burn-in; under a mask [M, *batch], each row's
    dimension: chex.Array  # [*batch], Kaplan and Yorke's; NaN if k exponents do not tell
    entropy: chex.Array  # [*batch], the sum of the positive ones, nats a step
    condition: chex.Array  # [*batch], worst error of one growth, in units of rounding
    every: chex.Array  # int32 [M, *batch], steps between two eliminations

    def __repr__(self) -> str:
        return summary(self, "exponents", (..., 0), "of the first")


@by_layer
def lyapunov(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    k: int | None = None,
    burn_in: int | None = None,
    every: int | None = None,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> Lyapunov:
    """The k largest Lyapunov exponents of the state under given inputs.

    `lambda_i = lim 1/T log sigma_i(A_T ... A_2 A_1)` of the joint state (an LSTM: h and c), found
    as mean logs of the diagonal of the triangular factors that keep k tangent directions apart.
    Below 0 gradients vanish at the rate `lambda_1`; above it there is chaos, and they explode.

    Args:
      cell: a `Cell` or a step function; the state may be any pytree. Layers in
        both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`. None for an autonomous system of `length` steps: a gated
        cell is given zeros, any other step an empty x.
      length: T, if xs is None.
      k: how many exponents; all N by default. The work is in proportion.
      burn_in: steps before the average begins, in which state and directions settle; a tenth of
        T by default.
      every: steps between two eliminations, which keep the directions apart. None chooses anew as
        it goes, so that the error of each growth is below `eps ** 0.5` (float64: 1.5e-8, float32:
        3e-4), and eliminates at every step where that cannot be had.
      mask: bool `[T, *batch]`, as in `rx.unroll`: steps where it is False are no time, neither in T
        nor in the burn-in, so that each row is measured as if it were alone without them.
      resets: bool `[T, *batch]`, refused where True: what the first state did is gone after one.

    Returns:
      A `Lyapunov`. The sum of all N exponents is the mean of `log |det A_t|`: by default to 1e-9 in
      float64 and 1e-5 in float32, relative to the sum of their sizes where that is above 1, as long
      as no Jacobian is so nearly singular that `condition` is above `eps ** -0.5` (float64: 7e7,
      float32: 3e3). A `condition` near `1 / eps` (float32: 8e6) says that a growth was lost in
      rounding; it counts as the most that rounding can hide, so the smallest exponents are upper
      bounds: use float64. An exponent is -inf where a Jacobian is singular in exact zeros, or more
      than half of the growths are lost. Over a finite T it also depends on the direction it began
      with, the same one for every k. Under a mask the history of a row that has ended repeats its
      last estimate. What is refused below but known only inside `jax.jit` gives NaN for a row
      without a step to measure, and -inf for one with a reset.

    Differentiable any number of times, where the exponents are finite and different.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite or the state
        overflows; if k, burn_in, every or length does not fit; if a mask leaves nothing of a row to
        measure; if there is a reset; if an `every` above 1 loses exponents in rounding.

    Warns:
      UserWarning: if an `every` above 1 costs more than half the digits, or gives -inf.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> def cat(matrix, s, x):  # Arnold's cat map
      ...     s = (matrix @ s) % 1.0
      ...     return s, s
      >>> m = jnp.array([[2.0, 1.0], [1.0, 1.0]])
      >>> found = rx.flow.lyapunov(cat, m, jnp.array([0.1, 0.3]), length=500)
      >>> [round(float(v), 4) for v in found.exponents]
      [0.9624, -0.9624]

    Source: Benettin et al. (1980), Shimada and Nagashima (1979); elimination instead of QR is
    Bauer's "Treppeniteration" (1957); the dimension is Kaplan and Yorke's (1979).
    """
    xs = with_inputs(cell, params, state, xs, length)
    problem = pose(cell, params, state, xs, mask, resets)
    refuse_resets(problem, "exponents")
    found, condition = exponents_of(problem, k, burn_in, every)
    if every is not None and every > 1:
        remedy = "Take every=None, which chooses, or a smaller one."
        check_interval(every, found.exponents, condition, remedy)
    return found


def exponents_of(
    problem: Problem, k: int | None, burn_in: int | None = None, every: int | None = None
) -> tuple[Lyapunov, chex.Array]:
    """Return the exponents of a problem, and the condition of each direction, `[*batch, k]`."""
    burn_in = check_left_out("burn_in", burn_in, problem.length)
    shortest = shortest_row(problem)
    measured = shortest - left_out(burn_in, shortest, 10)
    if measured < 1:
        raise ValueError(
            f"the mask leaves a row {shortest} steps that count, and burn_in={burn_in or 0} of "
            "them are left out: nothing is left to measure. Drop that row, or leave out fewer."
        )
    if every is not None:
        checks.check_positive_int("every", every)
        every = int(every)
        if every > measured:
            raise ValueError(
                f"every must be at most the {measured} steps that are measured, got {every}"
            )
    found, condition, finite = _lyapunov(problem, check_k(k, problem.size), burn_in, every)
    refuse_overflow(problem, finite)
    return found, condition


@partial(jax.jit, static_argnums=(1, 2, 3))
def _lyapunov(
    problem: Problem, count: int, burn_in: int | None, every: int | None
) -> tuple[Lyapunov, chex.Array, chex.Array]:
    log_growth, condition, used, finite = per_example(
        lambda own: grow(own, count, burn_in, every), problem, in_turn=True
    )
    length = counted_steps(problem)
    steps = jnp.maximum(length - left_out(burn_in, length, 10), 0)  # [] or [*batch]
    block = block_length(steps, every)
    of_block = jnp.arange(1, len(log_growth) + 1).reshape(-1, *(1,) * steps.ndim)
    times = jnp.minimum(of_block * block, steps).astype(jnp.int32)
    elapsed = times.reshape(*times.shape, *(1,) * (log_growth.ndim - times.ndim))
    exponents = jnp.sum(log_growth, 0) / elapsed[-1].astype(log_growth.dtype)
    order = jnp.argsort(jax.lax.stop_gradient(exponents), axis=-1, descending=True)
    exponents = jnp.take_along_axis(exponents, order, -1)
    log_growth = jnp.take_along_axis(log_growth, order[None], -1)
    condition = jnp.max(condition, 0)
    result = Lyapunov(
        exponents=exponents,
        standard_errors=_standard_errors(log_growth, steps, block),
        history=jnp.cumsum(log_growth, 0) / elapsed.astype(log_growth.dtype),
        times=times,
        dimension=kaplan_yorke(exponents, count == problem.size),
        entropy=jnp.sum(jnp.maximum(exponents, 0), -1),
        condition=jnp.max(condition, -1),
        every=used,
    )
    return result, condition, finite


def _standard_errors(log_growth: chex.Array, steps: chex.Array, block: Any) -> chex.Array:
    """The spread of the means of groups of the whole blocks, over the root of their number."""
    # The root has no derivative where there is no spread.
    log_growth = jax.lax.stop_gradient(log_growth)
    whole = steps // block
    groups = jnp.minimum(16, whole)
    each = jnp.maximum(whole // jnp.maximum(groups, 1), 1)
    number = jnp.arange(len(log_growth)).reshape(-1, *(1,) * whole.ndim) // each
    more = (..., *(None,) * (log_growth.ndim - number.ndim))  # axes, those of the batch or of k
    number, groups, each = number[more], groups[more], (each * block)[more]
    finite = jnp.all(jnp.isfinite(log_growth) | (number >= groups), 0)
    group = jnp.arange(16).reshape(-1, *(1,) * log_growth.ndim)
    sums = jnp.sum(jnp.where(finite & (number == group), log_growth, 0), 1)
    rates = sums / each.astype(sums.dtype)
    real = group[:, 0] < groups
    count = groups.astype(sums.dtype)
    mean = jnp.sum(jnp.where(real, rates, 0), 0) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(real, (rates - mean) ** 2, 0), 0)
    error = jnp.sqrt(squares / jnp.maximum(count - 1, 1) / jnp.maximum(count, 1))
    return jnp.where(finite & (groups >= 2), error, jnp.inf)


def kaplan_yorke(exponents: chex.Array, whole: bool) -> chex.Array:
    """The dimension `j + (lambda_1 + ... + lambda_j) / |lambda_{j+1}|`, `[*batch]`.

    j is the largest number of leading exponents whose sum is not negative. Where that is all k, it
    is N if there are no others, else NaN.
    """
    count = exponents.shape[-1]
    sums = jnp.cumsum(exponents, -1)
    held = jnp.sum(sums >= 0, -1)  # sums rise and then fall, so these are the first ones
    at = jnp.clip(held, 0, count - 1)[..., None]
    following = jnp.take_along_axis(exponents, at, -1)[..., 0]
    reached = jnp.take_along_axis(sums, jnp.maximum(at - 1, 0), -1)[..., 0]
    part = jnp.where(held > 0, reached, 0) / jnp.where(following < 0, -following, 1.0)
    beyond = count if whole else jnp.nan
    return jnp.where(held == count, beyond, held + part)


def check_k(k: int | None, size: int) -> int:
    """How many directions to follow."""
    if k is None:
        return size
    checks.check_positive_int("k", k)
    if k > size:
        raise ValueError(
            f"k must be at most N = {size}, the size of the whole state of one example, got {k}"
        )
    return int(k)


def check_left_out(name: str, given: int | None, steps: int) -> int | None:
    """A number of steps to leave out, if there is one, which must leave some."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
        raise TypeError(f"{name} must be a number of steps, 0 or more, got {given!r}")
    if not 0 <= given < steps:
        raise ValueError(f"{name} must be from 0 to T - 1 = {steps - 1}, got {given}")
    return int(given)


def shortest_row(problem: Problem) -> int:
    """How many steps count in the row with the fewest; T if that is not known before it runs."""
    mask = problem.flags.mask
    if mask is None or isinstance(mask, jax.core.Tracer):
        return problem.length
    return int(np.min(np.sum(np.asarray(mask), 0)))


def refuse_resets(problem: Problem, what: str) -> None:
    """Refuse resets of which one is True: no product of Jacobians goes through it."""
    resets = problem.flags.resets
    if resets is None or isinstance(resets, jax.core.Tracer) or not np.any(resets):
        return
    t, *row = np.argwhere(np.asarray(resets))[0].tolist()
    where = f" of row {', '.join(map(str, row))}" if row else ""
    raise ValueError(
        f"resets is True at t = {t}{where}, where the product of the Jacobians becomes zero: it "
        f"has no {what} after that. Measure each piece between two resets on its own, from the "
        "cell's initial state."
    )


def check_interval(every: int, exponents: Any, condition: Any, remedy: str) -> None:
    """Refuse a chosen interval that loses exponents, and warn of one that costs many digits."""
    if isinstance(condition, jax.core.Tracer):
        return
    eps = float(jnp.finfo(condition.dtype).eps)
    worst = np.asarray(condition, np.float64).reshape(-1, condition.shape[-1]).max(0)
    lost = int(np.sum(worst * eps > 0.1))
    what = (
        f"every={every} lets the condition grow to {worst.max():.1e}, where {condition.dtype} "
        f"resolves {1 / eps:.1e}"
    )
    if lost:
        raise ValueError(f"{what}: {lost} of {len(worst)} exponents are lost in it. {remedy}")
    if worst.max() * eps > eps**0.5:
        message = f"{what}: a growth may be wrong by {worst.max() * eps:.1e}. {remedy}"
        warnings.warn(message, UserWarning, stacklevel=3)
    elif not isinstance(exponents, jax.core.Tracer) and np.isneginf(exponents).any():
        message = (
            f"every={every} gave exponents of -inf: the Jacobians are singular, or their product "
            "over so many steps underflows. every=1 tells which."
        )
        warnings.warn(message, UserWarning, stacklevel=3)
