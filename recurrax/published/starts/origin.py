"""The Jacobians of a GRU and an LSTM at the origin, whose eigenvalues are known in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.cells.gru import gru
from recurrax.cells.lstm import lstm
from recurrax.flow.jacobians import jacobians
from recurrax.published.claim import Claim, absolute, compared, relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.published.claim import Row

HIDDEN, SEEDS = 100, 3
NORMAL = jax.nn.initializers.normal(HIDDEN**-0.5)  # the gain g is 1


def spectra_at_the_origin() -> Iterator[Row]:
    """Without inputs and biases h = 0 stays, and the step's derivative there is elementary."""
    yield _gru()
    for bias in (0.0, 1.0, 3.0):
        yield from _lstm(bias)


def _gru() -> Row:
    cell = gru(1, HIDDEN, recurrent_init=NORMAL, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    w_n = np.asarray(params.w_rec)[:, 2 * HIDDEN :]
    expected = np.eye(HIDDEN) / 2 + w_n.T / 4  # the library multiplies rows: h @ w_rec
    worst = np.abs(_jacobian(cell, params) - expected).max()
    return compared("GRU: largest error of I/2 + W_n/4", 0.0, worst, absolute(1e-9))


def _lstm(bias: float) -> Iterator[Row]:
    cell = lstm(1, HIDDEN, recurrent_init=NORMAL, forget_bias=bias, dtype=jnp.float64)
    kept = 1 / (1 + math.exp(-bias))
    differences, radii, critical = [], [], []
    for seed in range(SEEDS):
        params = cell.init(jax.random.key(seed))
        w_g = np.asarray(params.w_rec)[:, 2 * HIDDEN : 3 * HIDDEN]
        expected = np.append(kept + np.linalg.eigvals(w_g) / 4, np.zeros(HIDDEN))
        found = np.linalg.eigvals(_jacobian(cell, params))
        differences.append(_distance(found, expected))
        radii.append(np.abs(found).max())
        critical.append(_critical_gain(kept, found))
    name = f"LSTM, forget bias {bias:g}"
    finite = f"the limit of large H; ours is at H = {HIDDEN}"
    yield compared(f"{name}: eigenvalues, largest error", 0.0, differences, absolute(1e-9))
    yield compared(f"{name}: spectral radius, g = 1", kept + 0.25, radii, relative(0.05), finite)
    yield compared(f"{name}: critical gain", 4 * (1 - kept), critical, relative(0.1), finite)


def _jacobian(cell: Any, params: Any) -> np.ndarray:
    return np.asarray(jacobians(cell, params, None, jnp.zeros((1, 1)))[0])


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest distance from one of either set to the nearest of the other."""
    apart = np.abs(found[:, None] - expected)
    return float(max(apart.min(0).max(), apart.min(1).max()))


def _critical_gain(kept: float, eigenvalues: np.ndarray) -> float:
    """For which gain the largest eigenvalue is of size 1; those of w_rec are in proportion."""
    from scipy.optimize import brentq

    moved = eigenvalues[np.abs(eigenvalues) > 1e-9] - kept  # by the recurrent weights
    return float(brentq(lambda gain: np.abs(kept + gain * moved).max() - 1, 0.0, 8.0))


AT_THE_ORIGIN = Claim(
    "origin",
    "Jacobian of a GRU and an LSTM at the origin: eigenvalues, and where they reach 1",
    "derived: I/2 + W_n/4, sigmoid(b) + eig(U_g)/4 and zeros, 4 (1 - sigmoid(b)) (exact); the "
    "question is that of Kanai et al. (2017) and Can et al. (2020)",
    f"flow.jacobians, H = {HIDDEN}, weights N(0, 1/H), no input, {SEEDS} seeds, float64",
    spectra_at_the_origin,
    float64=True,
)
