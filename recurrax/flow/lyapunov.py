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
from recurrax.flow.steps.growth import block_length, grow
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
    times: chex.Array  # int32 [M], steps after the burn-in
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

    Returns:
      A `Lyapunov`. The sum of all N exponents is the mean of `log |det A_t|`: by default to 1e-9 in
      float64 and 1e-5 in float32, relative to the sum of their sizes where that is above 1, as long
      as no Jacobian is so nearly singular that `condition` is above `eps ** -0.5` (float64: 7e7,
      float32: 3e3). A `condition` near `1 / eps` (float32: 8e6) says that a growth was lost in
      rounding; it counts as the most that rounding can hide, so the smallest exponents are upper
      bounds: use float64. An exponent is -inf where a Jacobian is singular in exact zeros, or more
      than half of the growths are lost. Over a finite T it also depends on the direction it began
      with, the same one for every k.

    Differentiable any number of times, where the exponents are finite and different.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if concrete values are not finite or the state
        overflows; if k, burn_in, every or length does not fit; if an `every` above 1 loses
        exponents in rounding.

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
    problem = pose(cell, params, state, with_inputs(cell, params, state, xs, length))
    found, condition = exponents_of(problem, k, burn_in, every)
    if every is not None and every > 1:
        remedy = "Take every=None, which chooses, or a smaller one."
        check_interval(every, found.exponents, condition, remedy)
    return found


def exponents_of(
    problem: Problem, k: int | None, burn_in: int | None = None, every: int | None = None
) -> tuple[Lyapunov, chex.Array]:
    """Return the exponents of a problem, and the condition of each direction, `[*batch, k]`."""
    burn_in = check_left_out("burn_in", burn_in, problem.length, 10)
    if every is not None:
        checks.check_positive_int("every", every)
        every, measured = int(every), problem.length - burn_in
        if every > measured:
            raise ValueError(
                f"every must be at most the {measured} steps that are measured, got {every}"
            )
    found, condition, finite = _lyapunov(problem, check_k(k, problem.size), burn_in, every)
    refuse_overflow(problem, finite)
    return found, condition


@partial(jax.jit, static_argnums=(1, 2, 3))
def _lyapunov(
    problem: Problem, count: int, burn_in: int, every: int | None
) -> tuple[Lyapunov, chex.Array, chex.Array]:
    log_growth, condition, used, finite = per_example(
        lambda own: grow(own, count, burn_in, every), problem, in_turn=True
    )
    steps = problem.length - burn_in
    block = block_length(steps, every)
    times = jnp.minimum(jnp.arange(1, len(log_growth) + 1) * block, steps)
    exponents = jnp.sum(log_growth, 0) / steps
    order = jnp.argsort(jax.lax.stop_gradient(exponents), axis=-1, descending=True)
    exponents = jnp.take_along_axis(exponents, order, -1)
    log_growth = jnp.take_along_axis(log_growth, order[None], -1)
    elapsed = times.reshape(-1, *(1,) * (log_growth.ndim - 1)).astype(log_growth.dtype)
    condition = jnp.max(condition, 0)
    result = Lyapunov(
        exponents=exponents,
        standard_errors=_standard_errors(log_growth, steps // block, block),
        history=jnp.cumsum(log_growth, 0) / elapsed,
        times=times.astype(jnp.int32),
        dimension=kaplan_yorke(exponents, count == problem.size),
        entropy=jnp.sum(jnp.maximum(exponents, 0), -1),
        condition=jnp.max(condition, -1),
        every=used,
    )
    return result, condition, finite


def _standard_errors(log_growth: chex.Array, whole: int, block: int) -> chex.Array:
    """The spread of the means of groups of the whole blocks, over the root of their number."""
    groups = min(16, whole)
    if groups < 2:
        return jnp.full(log_growth.shape[1:], jnp.inf, log_growth.dtype)
    each = whole // groups
    rows = log_growth[: groups * each].reshape(groups, each, *log_growth.shape[1:])
    finite = jnp.isfinite(rows).all((0, 1))
    rates = jnp.where(finite, rows, 0).sum(1) / (each * block)
    # The root has no derivative where there is no spread.
    variance = jnp.var(jax.lax.stop_gradient(rates), axis=0, ddof=1)
    return jnp.where(finite, jnp.sqrt(variance / groups), jnp.inf)


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


def check_left_out(name: str, given: int | None, steps: int, part: int) -> int:
    """How many steps to leave out; one of so many parts by default."""
    if given is None:
        return steps // part
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
        raise TypeError(f"{name} must be a number of steps, 0 or more, got {given!r}")
    if not 0 <= given < steps:
        raise ValueError(f"{name} must be from 0 to T - 1 = {steps - 1}, got {given}")
    return int(given)


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
