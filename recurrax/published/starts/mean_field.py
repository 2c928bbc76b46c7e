"""Sums that mean-field theory gives in closed form: predicted by `flow.predict`, and measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.predict import predict
from recurrax.gated.cell import gated_cell
from recurrax.published.claim import Claim, absolute, compared, relative
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

    from recurrax.published.claim import Row

KEPT, MIXED, LENGTH, SIZE = 0.9, 0.1, 20, 400
WEIGHTS: tuple[tuple[Literal["untied", "tied"], float], ...] = (
    ("untied", 0.0189),
    ("tied", 0.2144),
)
HIDDEN, SIGMA_W, SIGMA_V, POWER = 400, 6.88, 1.39, 0.46


class State(NamedTuple):
    """A hidden state."""

    h: Any


def kept_and_mixed(unit: None, z_in: Any, z_rec: Any, state: State) -> State:
    """`h' = a h + b h W`."""
    return State(KEPT * state.h + MIXED * z_rec[0] + z_in[0])


def of_matrix(nothing: None, h: chex.Array, matrix: chex.Array) -> tuple[chex.Array, chex.Array]:
    """The same with a matrix that is given at each step, of each column of h."""
    h = KEPT * h + MIXED * matrix @ h
    return h, h


def tied_and_untied() -> Iterator[Row]:
    """`E |product|^2 / N` of `a I + b G_t`: predicted, and measured on one draw."""
    init = jax.nn.initializers.normal(SIZE**-0.5)
    cell = gated_cell(
        kept_and_mixed, gates=1, state=State, input_size=1, hidden_size=SIZE, recurrent_init=init
    )
    params = cell.init(jax.random.key(0))
    w = params.w_rec / jnp.sqrt(SIZE * jnp.mean(params.w_rec**2))
    fresh = jax.random.normal(jax.random.key(1), (LENGTH, SIZE, SIZE)) * SIZE**-0.5
    matrices = {"untied": fresh, "tied": jnp.broadcast_to(fresh[0], fresh.shape)}
    for weights, published in WEIGHTS:
        predicted = predict(
            cell, params._replace(w_rec=w), None, jnp.zeros((LENGTH, 1)), weights=weights,
            samples=SIZE,
        )  # fmt: skip
        within = absolute(5e-5)  # the digits that are given
        ours = math.exp(2 * float(predicted.log_frobenius[-1])) / SIZE
        yield compared(f"{weights}, predicted", published, ours, within)
        product = unroll(of_matrix, None, jnp.eye(SIZE), matrices[weights])[0]
        measured = float(jnp.sum(product**2)) / SIZE
        note = f"one draw of N = {SIZE}"
        yield compared(f"{weights}, measured", published, measured, relative(0.03), note)


def minimal(unit: None, z_in: Any, z_rec: Any, state: State) -> State:
    """`u = sigmoid(U_h h + U_z z)`, `h' = u h + (1 - u) z`; the input brings U_z z and z."""
    u = jax.nn.sigmoid(z_in[0] + z_rec[0])
    return State(u * state.h + (1 - u) * jnp.tanh(z_in[1]))


def minimal_network() -> Iterator[Row]:
    """`chi_1 = E u^2 + sigma_w^2 (Q + R) E u'^2` at the critical point."""
    from scipy.optimize import brentq

    cell = gated_cell(
        minimal, gates=2, state=State, input_size=2 * HIDDEN, hidden_size=HIDDEN,
        recurrent_init=jax.nn.initializers.normal(SIGMA_W * HIDDEN**-0.5),
    )  # fmt: skip
    eye = jnp.eye(2 * HIDDEN)
    params = cell.init(jax.random.key(0))._replace(w_in=eye)
    # The second pre-activation is such that E tanh^2 is R.
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    deviation = brentq(lambda s: weights @ np.tanh(s * nodes) ** 2 - POWER, 0.1, 10.0)
    scale = np.repeat([SIGMA_V * POWER**0.5, deviation], HIDDEN)
    xs = jax.random.normal(jax.random.key(1), (160, 2 * HIDDEN)) * scale
    predicted = predict(cell, params, None, xs, weights="untied")
    chi = math.exp(2 * float(predicted.rate))
    yield compared("chi_1", 0.9988, chi, absolute(0.01))


TIED = Claim(
    "tied-weights",
    f"mean square of a product of {LENGTH} matrices a I + b G, fresh or one and the same",
    "derived: (a^2 + b^2)^T, and sum_k C(T,k)^2 a^2(T-k) b^2k for T << sqrt N (exact)",
    f"a = {KEPT}, b = {MIXED}, T = {LENGTH}, N = {SIZE}, float64",
    tied_and_untied,
    float64=True,
)
MINIMAL = Claim(
    "minimal-network",
    "the minimal recurrent network is critical at sigma_w = 6.88, sigma_v = 1.39",
    "derived: chi_1 in the mean-field theory of Chen, Pennington and Schoenholz (2018)",
    f"flow.predict, H = {HIDDEN}, R = {POWER}, mu_b = 0, float64",
    minimal_network,
    float64=True,
)
