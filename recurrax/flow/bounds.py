"""What can be said of the decay before any of it is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.cell import as_step
from recurrax.flow.numbers.factors import one_at_a_time
from recurrax.flow.numbers.largest import first_guess, largest_singular_value
from recurrax.flow.numbers.scaled import log_of, power_of_two, rescale
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose
from recurrax.flow.summary import summary
from recurrax.gated.step import GatedStep, check_gated_params

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.flow.steps.problem import Problem


class Bounds(NamedTuple):
    """What the recurrent weights promise; what does not apply is None."""

    spectral_radius: np.ndarray | None  # [G], of each gate's block of w_rec
    largest_singular_value: np.ndarray | None  # [G]
    log_rate: float  # no step multiplies a gradient by more than exp of this; inf: no promise
    vanishing_guaranteed: bool  # log_rate < 0 beyond rounding: sufficient for vanishing
    exploding_possible: bool  # log_rate > 0 beyond rounding: necessary for exploding
    log_upper: chex.Array | None  # [T, *batch], sum of log ||A_t||: the decay is never above it
    log_lower: chex.Array | None = None  # [T, *batch], of log sigma_min(A_t): and never below it
    gamma: float | None = None  # the largest slope of the activation; None without such a bound
    critical_singular_value: float | None = None  # 1 / gamma, for the sum over the gates

    def __repr__(self) -> str:
        return summary(self)


@by_layer
def bounds(
    cell: Cell | StepFn,
    params: Any,
    state: Any = None,
    xs: Any = None,
    *,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> Bounds:
    """What the weights alone imply for the gradient, and what the single steps imply.

    `||A_t|| <= gamma sigma_max(W_rec)` where the new state depends on the old one through
    `h @ w_rec` alone, gamma being the largest slope of the activation (tanh 1, relu 1). So
    `sigma_max < 1 / gamma` is sufficient for vanishing (`vanishing_guaranteed`), and
    `sigma_max > 1 / gamma` is necessary for exploding (`exploding_possible`); neither is the
    other's converse. The weights of a cell with a direct path from state to state (LSTM, GRU)
    promise nothing, and `log_rate` is infinite.

    Along a trajectory the measured `log ||d s_t / d s_0||` lies between `log_lower` and
    `log_upper`, the sums of the logs of the least and of the greatest singular value of each A_t.

    Args:
      cell: a gated `Cell` or step, or any cell or step function if `state` and `xs` are given;
        layers in both directions give a dict (`flow.parts`).
      params: the cell's params, concrete.
      state: the state before the first step; None for the initial state of a `Cell`.
      xs: inputs `[T, *batch, I]`, or None; adds `log_upper` and `log_lower`.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is the identity.
      resets: bool `[T, *batch]`, as in `rx.unroll`; both logs are -inf from one on.

    Returns:
      A `Bounds`, without derivatives. The spectral radius decides only a *linear* network, and only
      in the long run. `log_lower` is -inf from the first step that is singular to rounding.

    Raises:
      ValueError: if the step is not gated and no xs are given, or flags without xs; or as
        `rx.unroll` does.
      TypeError: if the params are traced.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.elman(1, 4)
      >>> params = cell.init(jax.random.key(0))  # orthogonal: all singular values are 1
      >>> b = rx.flow.bounds(cell, params._replace(w_rec=0.5 * params.w_rec))
      >>> round(float(b.largest_singular_value[0]), 3), b.vanishing_guaranteed
      (0.5, True)

    Source: section 2.1 of Pascanu, Mikolov and Bengio (2013).
    """
    step = as_step(cell)
    if isinstance(step, GatedStep):
        check_gated_params(step, params)
    elif xs is None:
        raise ValueError(
            "bounds reads w_rec of a gated cell, and this step is not one. Give state and xs for "
            "the bound along a trajectory, flow.bounds(cell, params, state, xs), or ask about each "
            "cell of a stack by itself, flow.bounds(cell, params[i])."
        )
    for name, flags in (("mask", mask), ("resets", resets)):
        if xs is None and flags is not None:
            raise ValueError(f"{name} is about steps, and without xs there are none: give xs too")
    posed = None if xs is None else pose(cell, params, state, xs, mask, resets)
    return bounds_of(step, params, posed)


def bounds_of(step: StepFn, params: Any, problem: Problem | None) -> Bounds:
    """Return the bounds of checked params, and of the steps of a problem if there is one."""
    log_upper, log_lower = (None, None) if problem is None else _of_steps(problem)
    if not isinstance(step, GatedStep):
        return Bounds(None, None, float("inf"), False, True, log_upper, log_lower)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params)):
        raise TypeError("bounds computes eigenvalues on the host: call it outside jit and grad")
    blocks = np.split(np.asarray(params.w_rec, np.float64), step.gates, axis=-1)
    if not np.isfinite(blocks).all():
        raise ValueError("params.w_rec is not finite. Did training diverge?")
    sigma = np.linalg.norm(blocks, 2, axis=(1, 2))
    gamma, log_rate, critical = step.slope, float("inf"), None
    if gamma is not None:
        with np.errstate(divide="ignore"):
            log_rate = float(np.log(gamma * sigma.sum()))  # one gate: its own norm
            critical = float(np.divide(1.0, gamma))
    # Weights that are orthogonal but for rounding neither shrink nor grow a gradient.
    rounding = float(jnp.finfo(params.w_rec.dtype).eps) * params.w_rec.shape[0] ** 0.5
    return Bounds(
        spectral_radius=np.abs(np.linalg.eigvals(blocks)).max(axis=1),
        largest_singular_value=sigma,
        log_rate=log_rate,
        vanishing_guaranteed=log_rate < -rounding,
        exploding_possible=log_rate > rounding,
        log_upper=log_upper,
        log_lower=log_lower,
        gamma=gamma,
        critical_singular_value=critical,
    )


_inverse = one_at_a_time(jnp.linalg.inv)


@for_each_example()
def _of_steps(own: Problem, path: Trajectory) -> tuple[chex.Array, chex.Array]:
    """Sums over the steps of the log of the greatest and of the least singular value.

    The least is 1 / sigma_max of the inverse, which costs a tenth of an SVD, and whose top singular
    vector moves as little from step to step as that of the matrix.
    """
    size, dtype = own.size, own.dtype
    rounding = 4 * size**0.5 * jnp.finfo(dtype).eps

    def body(guesses: Any, now: Any) -> tuple[Any, tuple[chex.Array, chex.Array]]:
        guess, inverse_guess = guesses
        matrix, exponent = rescale(linear_map(own.step, own.params, *now).matrix())
        norm, guess = largest_singular_value(matrix, guess)
        inverse = _inverse(matrix)
        regular = jnp.isfinite(inverse).all()
        inverse, inverse_exponent = rescale(jnp.where(regular, inverse, jnp.eye(size, dtype=dtype)))
        top, inverse_guess = largest_singular_value(inverse, inverse_guess)
        least = power_of_two(-inverse_exponent, dtype) / top
        least = jnp.where(regular & (least > rounding * norm), least, 0.0)  # singular to rounding
        return (guess, inverse_guess), (log_of(norm, exponent), log_of(least, exponent))

    guess = first_guess(size, dtype)
    greatest, least = jax.lax.scan(body, (guess, guess), own.rows(path.befores))[1]
    return jnp.cumsum(greatest), jnp.cumsum(least)
