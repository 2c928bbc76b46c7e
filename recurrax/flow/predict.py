"""What mean-field theory says of the decay, before any product of Jacobians is taken.

What a unit receives from the others, and of their perturbations, are Gaussian fields whose
variances are means over the population; w_uv and w_vu are independent, so none reacts on itself:

    z_t^g = field with covariance v_g E[h_t h_t'],      v_g = H * mean square of gate g's weights
    delta_t = D_t delta_{t-1} + sum_g r_t^g eta_t^g,    eta^g with covariance v_g E[delta h delta h]
"""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks, keys
from recurrax.flow.horizon import rate
from recurrax.flow.numbers.scaled import log_of, power_of_two, rescale, scale_of
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.trajectory import pose
from recurrax.flow.summary import summary
from recurrax.gated.derivatives import Diagonals, diagonals
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell
    from recurrax.flow.steps.problem import Problem

SAMPLES = 4096


class Prediction(NamedTuple):
    """What mean-field theory expects of a decay; natural logs."""

    log_frobenius: chex.Array  # [T], 1/2 log of the mean of ||d s_t / d s_0||_F^2
    rate: chex.Array  # [], nats a step, over the second half of the sequence
    weights: Literal["tied", "untied"]  # the assumption that was made

    def __repr__(self) -> str:
        return summary(self)


@by_layer
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
    of i.i.d. Gaussian weights and H -> infinity. The biases, the per-unit parameters and the inputs
    through w_in are taken as they are. Each unit of a population has a Gaussian field in the place
    of `h @ w_rec` (variance `v_g E h^2`) and another in that of its perturbation, D and r_g being
    its derivatives by its own old state and by z_rec:

        Sigma_t = D Sigma_{t-1} D^T + sum_g r_g r_g^T v_g E[delta h_{t-1}^2]

    This is the textbook's mean field, of weights drawn anew at every step (`"untied"`). A network
    keeps one draw for all steps (`"tied"`), so that fields of different times are correlated; this
    theory holds while T is much smaller than sqrt(H). Over long times the two differ by many orders
    of magnitude in a cell with a direct path; in one without (Elman) they agree. Predicted is the
    mean over networks of a square, which rare units dominate after many steps: a single network
    tends to lie below it.

    Args:
      cell: a gated `Cell` or step; layers in both directions give a dict (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, None for the initial state of a `Cell`; taken to be
        independent of w_rec, which a state that the network has settled in is not.
      xs: the inputs `[T, *batch, I]`; the units of all examples are one population.
      weights: `"tied"`, which takes time T^2 and memory T for each sample, or `"untied"`.
      samples: the size of the population, in which each hidden unit of each example stands equally
        often; if there are more of them than this, that many are drawn.
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

    Source: Chen, Pennington and Schoenholz (2018), "Dynamical isometry and a mean field theory of
    RNNs"; for gates Gilboa et al. (2019), "Dynamical isometry and a mean field theory of LSTMs and
    GRUs".
    """
    if xs is None:
        raise TypeError(
            "xs is missing: predict takes (cell, params, state, xs), as every question does, and "
            "no longer (cell, params, xs). For the initial state: predict(cell, params, None, xs)."
        )
    checks.check_choice("weights", weights, ("tied", "untied"))
    checks.check_positive_int("samples", samples)
    problem = pose(cell, params, state, xs)
    if not isinstance(problem.step, GatedStep):
        raise ValueError(
            "predict needs a gated cell, whose recurrent weights are one block a gate, and this "
            "step is not one. Ask about each cell of a stack by itself, or build the cell with "
            "rx.gated_cell."
        )
    return prediction_of(problem, weights, operator.index(samples), key)


def prediction_of(
    problem: Problem, weights: Literal["tied", "untied"], samples: int = SAMPLES, key: Any = None
) -> Prediction:
    """Return the prediction for a gated problem, in float32 at least."""
    key = keys.own(keys.FIELDS) if key is None else key
    checks.check_key(key)
    problem = jax.tree.map(lambda leaf: checks.at_least(jnp.asarray(leaf), jnp.float32), problem)
    step: Any = problem.step
    params, real = problem.params, problem.state.h.size
    hidden = params.w_rec.shape[0]
    first, second = jax.random.split(key)
    if samples < real:
        members = jax.random.choice(first, real, (samples,), replace=False)
    else:
        members = jnp.tile(jnp.arange(real), -(-samples // real))
    blocks = params.w_rec.reshape(hidden, step.gates, hidden)
    population = _Population(
        unit=jax.tree.map(lambda leaf: leaf[members % hidden], params.unit),
        state=jax.tree.map(lambda leaf: leaf.reshape(-1)[members], problem.state),
        members=members,
        variances=(hidden * jnp.mean(blocks**2, (0, 2))).astype(params.w_rec.dtype),
    )
    theory = _tied if weights == "tied" else _untied
    log_mean = theory(step, params, population, problem.xs, second)
    log_frobenius = 0.5 * (log_mean + jnp.log(jnp.asarray(hidden, log_mean.dtype)))
    return Prediction(log_frobenius, rate(log_frobenius), weights)


class _Population(NamedTuple):
    """P hidden units, each with the bias, the unit params and the inputs of a real one."""

    unit: Any  # a pytree of [P] arrays, or None
    state: Any  # fields [P], before the first step
    members: chex.Array  # [P], its place among the B*H units of all examples
    variances: chex.Array  # [G], v_g

    def perturbed(self) -> chex.Array:
        """A perturbation of 1 in every field of every unit, all independent: `[S, S, P]`."""
        one = jnp.eye(len(self.state), dtype=self.variances.dtype)[..., None]
        return jnp.repeat(one, len(self.members), -1)

    def advance(self, step: Any, params: Any, state: Any, x: chex.Array, z_rec: Any) -> Diagonals:
        """One step of the units, whose exact `z_in [G, P]` is found from x `[*batch, I]`."""
        z_in = step.split(step.input_share(params, x)).reshape(step.gates, -1)[:, self.members]
        return diagonals(step, self.unit, z_in, z_rec, state)


def _normal_rows(key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any) -> chex.Array:
    """The quantiles of the normal distribution in random order, along the last axis.

    Means over them have less noise than those of independent draws.
    """
    count = shape[-1]
    quantiles = jax.scipy.special.ndtri((jnp.arange(count, dtype=dtype) + 0.5) / count)
    # Their mean square is a little under 1: the tails are cut at 1 / (2 P).
    mean_square = jnp.mean(quantiles**2)
    quantiles = quantiles / jnp.sqrt(jnp.where(mean_square == 0, 1.0, mean_square))
    return jax.random.permutation(key, jnp.broadcast_to(quantiles, shape), -1, independent=True)


@partial(jax.jit, static_argnums=0)
def _untied(step: Any, params: Any, population: _Population, xs: Any, key: Any) -> chex.Array:
    """`log E ||P_t||_F^2 / H` for t = 1 ... T, by `Sigma_t` as `predict` has it, Sigma_0 = 1."""
    h, variances, count = step.h_field, population.variances, len(population.members)

    def body(carry: Any, now: Any) -> tuple[Any, chex.Array]:
        state, sigma, exponent = carry
        x, key = now
        power = variances * jnp.mean(state[h] ** 2)
        z_rec = jnp.sqrt(power)[:, None] * _normal_rows(key, (step.gates, count), variances.dtype)
        new = population.advance(step, params, state, x, z_rec)
        q = jnp.mean(sigma[h, h])
        sigma = jnp.einsum("abp,bcp,dcp->adp", new.direct, sigma, new.direct)
        sigma += jnp.einsum("g,gap,gdp->adp", variances * q, *(new.recurrent,) * 2)
        sigma, exponent = rescale(sigma, exponent)
        log = log_of(jnp.trace(jnp.mean(sigma, -1)), exponent)
        return (new.state, sigma, exponent), log

    start = (population.state, population.perturbed(), jnp.int32(0))
    found: chex.Array = jax.lax.scan(body, start, (xs, jax.random.split(key, len(xs))))[1]
    return found


class _Now(NamedTuple):
    """Where a tied population stands at time t, and what it keeps of the past.

    Perturbations are in units of their size at their time, so that all numbers are of order one.
    """

    state: Any  # fields [P]
    basis: chex.Array  # [T, P], functions on the population, orthonormal, that span h_0 ... h_t-1
    sigma: chex.Array  # [S, S, P], E[delta_t delta_t^T] of each unit
    moments: chex.Array  # [T, S, P], E[delta_t delta h_t'] of each unit, for t' <= t
    overlaps: chex.Array  # [T], Q(t, t') = the population's mean of delta h_t delta h_t'
    direct: chex.Array  # [T, S, S, P], D_1 ... D_t
    recurrent: chex.Array  # [T, G, S, P], r_1 ... r_t
    exponent: chex.Array  # e_t


@partial(jax.jit, static_argnums=0)
def _tied(step: Any, params: Any, population: _Population, xs: Any, key: Any) -> chex.Array:
    """`log E ||P_t||_F^2 / H` for t = 1 ... T, by the two-time moments of each perturbation.

    Given its gates, a unit's perturbation is linear in Gaussian fields, so its moments
    `C(t, t') = E[delta_t delta_t'^T]` are exact, unit by unit:

        C(t, t') = D_t C(t-1, t') + sum_g r_t^g F_g(t, t')^T
        F_g(t, t') = E[eta_t^g delta_t'] = D_t' F_g(t, t'-1) + r_t'^g v_g Q(t-1, t'-1)

    Time grows as T^2, memory as T.
    """
    h, variances, count = step.h_field, population.variances, len(population.members)
    length, dtype, sigma = len(xs), variances.dtype, population.perturbed()
    noise = _normal_rows(key, (length, step.gates, count), dtype)

    def body(now: _Now, step_input: Any) -> tuple[_Now, chex.Array]:
        x, t = step_input
        basis, weights = _extend(now.basis, now.state[h], t)
        z_rec = jnp.einsum("k,kgp->gp", weights, noise) * jnp.sqrt(variances)[:, None]
        new = population.advance(step, params, now.state, x, z_rec)
        return _perturb(now._replace(state=new.state, basis=basis), new, variances, h, t)

    start = _Now(
        state=population.state,
        basis=jnp.zeros((length, count), dtype),
        sigma=sigma,
        moments=jnp.zeros((length, *sigma.shape[1:]), dtype).at[0].set(sigma[:, h]),
        overlaps=jnp.zeros(length, dtype).at[0].set(1),
        direct=jnp.zeros((length, *sigma.shape), dtype),
        recurrent=jnp.zeros((length, step.gates, *sigma.shape[1:]), dtype),
        exponent=jnp.int32(0),
    )
    return jax.lax.scan(body, start, (xs, jnp.arange(length)))[1]


def _extend(basis: chex.Array, h: chex.Array, t: chex.Array) -> tuple[chex.Array, chex.Array]:
    """h_t in the basis of its past and of what is new in it, which becomes row t.

    The weights `[T]` are row t of the Cholesky factor of `E[h_t h_t']`, found without squaring:
    the same sum of independent normal numbers has the covariance of h over time.
    """
    count = h.shape[0]
    rest, weights = h, jnp.zeros(basis.shape[0], h.dtype)
    for _ in range(2):  # twice is enough (Kahan, Parlett)
        part = basis @ rest / count
        rest, weights = rest - part @ basis, weights + part
    size = jnp.sqrt(jnp.mean(rest**2))
    is_new = size > 64 * jnp.finfo(h.dtype).eps * jnp.sqrt(jnp.mean(h**2))  # a constant is not
    row = jnp.where(is_new, rest / jnp.where(is_new, size, 1.0), 0.0)
    return basis.at[t].set(row), weights.at[t].set(jnp.where(is_new, size, 0.0))


def _perturb(
    now: _Now, new: Diagonals, variances: chex.Array, h: int, t: chex.Array
) -> tuple[_Now, chex.Array]:
    """The moments one step on, from t to t + 1, and their log size."""
    d, r, dtype = new.direct, new.recurrent, variances.dtype
    length = now.overlaps.shape[0]
    feed = variances * now.overlaps[:, None]  # [T, G], v_g Q(t, t')

    def along(i: chex.Array, carry: Any) -> Any:  # from F(t + 1, i) to F(t + 1, i + 1)
        field, kept = carry
        field = jnp.einsum("abp,gbp->gap", now.direct[i], field)
        field += now.recurrent[i] * feed[i][:, None, None]
        return field, kept.at[i + 1].set(field[:, h])

    kept = jnp.zeros((length, *r[:, h].shape), dtype)
    before, kept = jax.lax.fori_loop(0, t, along, (jnp.zeros_like(r), kept))
    moments = jnp.einsum("abp,tbp->tap", d, now.moments) + jnp.einsum("gap,tgp->tap", r, kept)
    after = jnp.einsum("abp,gbp->gap", d, before) + r * feed[t][:, None, None]
    cross = jnp.einsum("abp,gbp,gcp->acp", d, before, r)
    sigma = jnp.einsum("abp,bcp,dcp->adp", d, now.sigma, d) + cross
    sigma += jnp.einsum("gap,gcp->acp", r, after)

    size = jnp.trace(jnp.mean(sigma, -1))
    shift = scale_of(jnp.sqrt(size), ())  # of a perturbation, not of its square
    scale = power_of_two(-shift, dtype)
    sigma, exponent = sigma * scale**2, now.exponent + shift
    # At the last step there is no row for the new time, and none is needed.
    moments = (moments * scale).at[t + 1].set(sigma[:, h], mode="drop")
    now = now._replace(
        sigma=sigma,
        moments=moments,
        overlaps=jnp.mean(moments[:, h], -1),
        direct=now.direct.at[t].set(d * scale),
        recurrent=now.recurrent.at[t].set(r * scale),
        exponent=exponent,
    )
    return now, log_of(size * scale**2, 2 * exponent)
