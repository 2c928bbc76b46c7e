"""Mean-field theory of a gated cell, by following a population of its hidden units.

For i.i.d. Gaussian recurrent weights and H -> infinity, what a unit receives from the others,
`h @ w_rec`, is a Gaussian field, and so is what it receives of their perturbations; both have
variances that are means over the population. So each unit of the population is followed with a
field of its own, and the means are taken as it goes:

    z_t^g = field with covariance v_g E[h_t h_t'],      v_g = H * mean square of gate g's weights
    delta_t = D_t delta_{t-1} + sum_g r_t^g eta_t^g,    eta^g with covariance v_g E[delta h delta h]

D and r being the derivatives of the pointwise function by the state and by z_rec. With fresh
weights at every step (untied) fields of different times are independent. With the same weights at
every step (tied) they are not. There is no reaction of a unit on itself, since w_uv and w_vu are
independent.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax.flow.numbers.scaled import log_of, power_of_two, rescale, scale_of
from recurrax.gated.derivatives import Diagonals, diagonals

if TYPE_CHECKING:
    import chex


class Population(NamedTuple):
    """P hidden units, each with the bias, the unit params and the inputs of a real one."""

    unit: Any  # a pytree of [P] arrays, or None
    state: Any  # fields [P], before the first step
    members: chex.Array  # [P], its place among the B*H units of all examples
    variances: chex.Array  # [G], v_g


def input_fields(step: Any, params: Any, members: chex.Array, x: chex.Array) -> chex.Array:
    """The exact `z_in [G, P]` of the population at one instant, from x `[*batch, I]`."""
    z = step.split(step.input_share(params, x))
    return z.reshape(step.gates, -1)[:, members]


def normal_rows(key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any) -> chex.Array:
    """Standard normal numbers, whose every row of the last axis is evenly spread.

    A row holds the P quantiles of the normal distribution in random order, so that means over it
    have less noise than those of P independent draws.
    """
    count = shape[-1]
    quantiles = jax.scipy.special.ndtri((jnp.arange(count, dtype=dtype) + 0.5) / count)
    # Their mean square is a little under 1: the tails are cut at 1 / (2 P).
    mean_square = jnp.mean(quantiles**2)
    quantiles = quantiles / jnp.sqrt(jnp.where(mean_square == 0, 1.0, mean_square))
    rows = jnp.broadcast_to(quantiles, shape)
    return jax.random.permutation(key, rows, axis=-1, independent=True)


def _h(step: Any) -> int:
    return int(step.state._fields.index("h"))


# --- weights drawn anew at every step ------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def untied(step: Any, params: Any, population: Population, xs: Any, key: Any) -> chex.Array:
    """`log E ||P_t||_F^2 / H` for t = 1 ... T, by the second moments of each unit's perturbation.

    `Sigma_t = D Sigma_{t-1} D^T + sum_g r_g r_g^T v_g Q_{t-1}`, Q being the population's mean of
    the perturbation of h squared; Sigma_0 = 1.
    """
    fields, count = len(population.state), population.members.shape[0]
    h = _h(step)
    dtype = population.variances.dtype
    sigma = jnp.broadcast_to(jnp.eye(fields, dtype=dtype)[..., None], (fields, fields, count))

    def body(carry: Any, now: Any) -> tuple[Any, chex.Array]:
        state, sigma, exponent = carry
        x, key = now
        power = population.variances * jnp.mean(state[h] ** 2)
        z_rec = jnp.sqrt(power)[:, None] * normal_rows(key, (step.gates, count), dtype)
        z_in = input_fields(step, params, population.members, x)
        new = diagonals(step, population.unit, z_in, z_rec, state)
        q = jnp.mean(sigma[h, h])
        sigma = jnp.einsum("abp,bcp,dcp->adp", new.direct, sigma, new.direct)
        sigma += jnp.einsum("g,gap,gdp->adp", population.variances * q, *(new.recurrent,) * 2)
        sigma, exponent = rescale(sigma, exponent)
        log = log_of(jnp.trace(jnp.mean(sigma, -1)), exponent)
        return (new.state, sigma, exponent), log

    keys = jax.random.split(key, xs.shape[0])
    return jax.lax.scan(body, (population.state, sigma, jnp.int32(0)), (xs, keys))[1]


# --- the same weights at every step --------------------------------------------------------------


class _Now(NamedTuple):
    """Where a tied population stands at time t, and what it keeps of the past.

    `moments[t']` and `F` are in units of `2**e_t`, the sizes of the perturbations at their times,
    so that a moment of two distant times is made of numbers of order one.
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
def tied(step: Any, params: Any, population: Population, xs: Any, key: Any) -> chex.Array:
    """`log E ||P_t||_F^2 / H` for t = 1 ... T, by the two-time moments of each perturbation.

    Given its gates, a unit's perturbation is linear in Gaussian fields, so its moments
    `C(t, t') = E[delta_t delta_t'^T]` are exact, unit by unit:

        C(t, t') = D_t C(t-1, t') + sum_g r_t^g F_g(t, t')^T
        F_g(t, t') = E[eta_t^g delta_t'] = D_t' F_g(t, t'-1) + r_t'^g v_g Q(t-1, t'-1)

    Time grows as T^2, memory as T.
    """
    length, count, dtype = xs.shape[0], population.members.shape[0], population.variances.dtype
    noise = normal_rows(key, (length, step.gates, count), dtype)

    def body(now: _Now, x: Any) -> tuple[_Now, chex.Array]:
        x, t = x
        basis, weights = _extend(now.basis, now.state[_h(step)], t)
        z_rec = jnp.einsum("k,kgp->gp", weights, noise)
        z_rec *= jnp.sqrt(population.variances)[:, None]
        z_in = input_fields(step, params, population.members, x)
        new = diagonals(step, population.unit, z_in, z_rec, now.state)
        now = now._replace(state=new.state, basis=basis)
        return _perturb(now, new, population.variances, _h(step), t)

    times = jnp.arange(length)
    return jax.lax.scan(body, _begin(step, population, length), (xs, times))[1]


def _begin(step: Any, population: Population, length: int) -> _Now:
    """A perturbation of 1 in every field of every unit, independent of each other."""
    fields, count = len(population.state), population.members.shape[0]
    dtype = population.variances.dtype
    sigma = jnp.broadcast_to(jnp.eye(fields, dtype=dtype)[..., None], (fields, fields, count))
    return _Now(
        state=population.state,
        basis=jnp.zeros((length, count), dtype),
        sigma=sigma,
        moments=jnp.zeros((length, fields, count), dtype).at[0].set(sigma[:, _h(step)]),
        overlaps=jnp.zeros(length, dtype).at[0].set(1),
        direct=jnp.zeros((length, fields, fields, count), dtype),
        recurrent=jnp.zeros((length, step.gates, fields, count), dtype),
        exponent=jnp.int32(0),
    )


def _extend(basis: chex.Array, h: chex.Array, t: chex.Array) -> tuple[chex.Array, chex.Array]:
    """h_t in the basis of its past and of what is new in it, which becomes row t.

    The weights `[T]` are row t of the Cholesky factor of `E[h_t h_t']`, found without squaring:
    the same sum of independent normal numbers has the covariance of h over time. Where h_t is
    not new, as a constant state is not, the row stays zero.
    """
    count = h.shape[0]
    rest, weights = h, jnp.zeros(basis.shape[0], h.dtype)
    for _ in range(2):  # twice is enough (Kahan, Parlett)
        part = basis @ rest / count
        rest, weights = rest - part @ basis, weights + part
    size = jnp.sqrt(jnp.mean(rest**2))
    is_new = size > 64 * jnp.finfo(h.dtype).eps * jnp.sqrt(jnp.mean(h**2))
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
    sigma, moments, exponent = sigma * scale**2, moments * scale, now.exponent + shift
    # At the last step there is no row for the new time, and none is needed.
    moments = moments.at[t + 1].set(sigma[:, h], mode="drop")
    now = now._replace(
        sigma=sigma,
        moments=moments,
        overlaps=jnp.mean(moments[:, h], -1),
        direct=now.direct.at[t].set(d * scale),
        recurrent=now.recurrent.at[t].set(r * scale),
        exponent=exponent,
    )
    return now, log_of(size * scale**2, 2 * exponent)
