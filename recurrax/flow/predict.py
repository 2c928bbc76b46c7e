"""What mean-field theory says of the decay, before any product of Jacobians is taken."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks, keys
from recurrax.flow.horizon import rate
from recurrax.flow.meanfield import Population, tied, untied
from recurrax.flow.steps.trajectory import pose
from recurrax.flow.summary import summary
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell
    from recurrax.flow.steps.problem import Problem

SAMPLES = 4096
_THEORIES = {"tied": tied, "untied": untied}


class Prediction(NamedTuple):
    """What mean-field theory expects of a decay; natural logs."""

    log_frobenius: chex.Array  # [T], 1/2 log of the mean of ||d s_t / d s_0||_F^2
    rate: chex.Array  # [], nats a step, over the second half of the sequence
    weights: Literal["tied", "untied"]  # the assumption that was made

    def __repr__(self) -> str:
        return summary(self)


def predict(
    cell: Cell | GatedStep,
    params: Any,
    state: Any,
    xs: Any = None,
    *,
    weights: Literal["tied", "untied"] = "tied",
    samples: int = SAMPLES,
    key: chex.PRNGKey | None = None,
) -> Prediction:
    """The decay that mean-field theory predicts for a gated cell, from the sizes of its weights.

    Of w_rec only the mean square of each gate's block counts, `v_g = H mean(w^2)`: the theory is
    of i.i.d. Gaussian weights of that variance and H -> infinity. Biases, per-unit parameters and
    the inputs through w_in are taken as they are. A population of hidden units is followed, each
    with a Gaussian field in the place of `h @ w_rec` (variance `v_g E h^2`) and another in that of
    its perturbation,

        Sigma_t = D Sigma_{t-1} D^T + sum_g r_g r_g^T v_g E[delta h_{t-1}^2],

    D and r_g being the derivatives of a unit's state by its own old state and by z_rec.

    `weights="untied"` assumes weights drawn anew at every step: the equation above, the textbook's
    mean field. `weights="tied"` keeps one draw for all steps, as a real network does, so that
    fields of different times are correlated; it holds while T is much smaller than sqrt(H). Over
    long times the two differ by many orders of magnitude in a cell with a direct path; in one
    without (Elman) they agree. What is predicted is the mean over networks of a square, which rare
    units dominate after many steps: a single network tends to lie below it.

    Args:
      cell: a gated `Cell` or step.
      params: the cell's params.
      state: the state before the first step; None for the initial state of a `Cell`. It is taken
        to be independent of w_rec, which a state that the network has settled in is not.
      xs: the inputs `[T, *batch, I]`; the units of all examples are one population.
      weights: `"tied"` or `"untied"`. Tied takes time T^2 and memory T for each sample.
      samples: the size of the population. Each hidden unit of each example stands in it equally
        often, or, if there are more of them than this, that many are drawn.
      key: for the fields; by default one that no user has, always the same.

    Returns:
      A `Prediction`. `log_frobenius [T]` compares with that of `rx.flow.decay`, over a batch with
      1/2 log of the mean square. It has derivatives in forward mode (`jax.jvp`, `jax.jacfwd`) only.

    Raises:
      ValueError: if the step is not gated, weights is unknown, samples is not positive, or
        concrete values are not finite.
      ValueError, TypeError: as `rx.unroll` does.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.elman(1, 64)
      >>> params = cell.init(jax.random.key(0))  # orthogonal: mean square 1 / H
      >>> xs = jnp.zeros((10, 1))  # and nothing to squash: the gradient holds
      >>> p = rx.flow.predict(cell, params, None, xs, weights="untied")
      >>> round(abs(float(p.rate)), 4), p.weights
      (0.0, 'untied')

    Source: for vanilla and minimal networks Chen, Pennington and Schoenholz (2018), "Dynamical
    isometry and a mean field theory of RNNs"; for gates Gilboa et al. (2019), "Dynamical isometry
    and a mean field theory of LSTMs and GRUs".
    """
    if xs is None:
        raise TypeError(
            "xs is missing: predict takes (cell, params, state, xs), as every question does, and "
            "no longer (cell, params, xs). For the initial state: predict(cell, params, None, xs)."
        )
    checks.check_choice("weights", weights, tuple(_THEORIES))
    checks.check_positive_int("samples", samples)
    problem = pose(cell, params, state, xs)
    if not isinstance(problem.step, GatedStep):
        raise ValueError(
            "predict needs a gated cell, whose recurrent weights are one block a gate, and this "
            "step is not one. Ask about each cell of a stack by itself, or build the cell with "
            "rx.gated_cell."
        )
    key = keys.own(keys.FIELDS) if key is None else key
    checks.check_key(key)
    return prediction_of(problem, weights, operator.index(samples), key)


def prediction_of(
    problem: Problem, weights: Literal["tied", "untied"], samples: int, key: chex.PRNGKey
) -> Prediction:
    """Return the prediction for a gated problem."""
    first, second = jax.random.split(key)
    problem = _widened(problem)
    population = _population(problem, samples, first)
    theory = _THEORIES[weights]
    log_mean = theory(problem.step, problem.params, population, problem.xs, second)
    hidden = problem.params.w_rec.shape[0]
    log_frobenius = 0.5 * (log_mean + jnp.log(jnp.asarray(hidden, log_mean.dtype)))
    return Prediction(log_frobenius, rate(log_frobenius), weights)


def _widened(problem: Problem) -> Problem:
    """Return the problem in float32 at least."""

    def widen(leaf: Any) -> chex.Array:
        return jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))

    widened: Problem = jax.tree.map(widen, problem)
    return widened


def _population(problem: Problem, samples: int, key: chex.PRNGKey) -> Population:
    step: Any = problem.step
    hidden, dtype = problem.params.w_rec.shape[0], problem.params.w_rec.dtype
    real = problem.state.h.size
    if samples < real:
        members = jax.random.choice(key, real, (samples,), replace=False)
    else:
        members = jnp.tile(jnp.arange(real), -(-samples // real))
    blocks = problem.params.w_rec.reshape(hidden, step.gates, hidden)
    return Population(
        unit=jax.tree.map(lambda leaf: leaf[members % hidden], problem.params.unit),
        state=jax.tree.map(lambda leaf: leaf.reshape(-1)[members], problem.state),
        members=members,
        variances=(hidden * jnp.mean(blocks**2, (0, 2))).astype(dtype),
    )
