"""How much a noisy linear network remembers of its input, step by step back in time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from recurrax.published.claim import Claim, absolute, compared, not_comparable
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.published.claim import Row

SIZE, STEPS = 50, 600


def fisher_memory() -> Iterator[Row]:
    """`J(k) = v^T (W^k)^T C^-1 W^k v` with `C = sum_k W^k (W^k)^T`, summed over all k."""
    draw = np.random.default_rng(0)
    gaussian = draw.standard_normal((SIZE, SIZE))
    gaussian *= 0.95 / np.abs(np.linalg.eigvals(gaussian)).max()
    first, line = np.eye(SIZE)[0], np.eye(SIZE, k=-1)
    vector = draw.standard_normal(SIZE)
    vector /= np.linalg.norm(vector)
    normal = vector @ _total_memory(_normal_matrix(draw)) @ vector
    plain = first @ _total_memory(line) @ first
    amplifying = first @ _total_memory(1.5**0.5 * line) @ first
    of_gaussian = _total_memory(gaussian)
    within = absolute(1e-6)
    harmonic = sum(1 / k for k in range(1, SIZE + 1))
    grown = sum((1 - 1 / 1.5) / (1 - 1.5**-k) for k in range(1, SIZE + 1))
    yield compared("normal W, one direction", 1.0, normal, within)
    mean = np.trace(of_gaussian) / SIZE
    yield compared("Gaussian W, mean over all directions", 1.0, mean, within)
    line_name = f"delay line of {SIZE}"
    yield compared(f"{line_name}, gain 1: the harmonic number", harmonic, plain, within)
    note = f"N (1 - 1/1.5) = {SIZE / 3:.2f} and the ends of the line"
    yield compared(f"{line_name}, squared gain 1.5", grown, amplifying, within, note)
    one, reason = vector @ of_gaussian @ vector, "another draw and direction, of unknown size"
    yield not_comparable("Gaussian W of radius 0.95, one direction", 0.948, one, reason)


def _normal_matrix(draw: np.random.Generator) -> np.ndarray:
    """Plane rotations of different angles and sizes below 1, in a random orthonormal basis."""
    blocks = np.zeros((SIZE, SIZE))
    for k in range(0, SIZE, 2):
        angle, size = draw.uniform(0, math.pi), draw.uniform(0.3, 0.97)
        turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        blocks[k : k + 2, k : k + 2] = size * np.asarray(turn)
    basis = np.linalg.qr(draw.standard_normal((SIZE, SIZE)))[0]
    return np.asarray(basis @ blocks @ basis.T)


def _total_memory(w: np.ndarray) -> np.ndarray:
    """`sum_k (W^k)^T C^-1 W^k`, the powers being states of the network from each unit in turn."""
    eye = jnp.eye(SIZE)
    later = unroll(_linear, jnp.asarray(w), eye, jnp.zeros(STEPS))[1]
    powers = np.concatenate([np.asarray(eye)[None], np.asarray(later)])
    seen = np.linalg.inv(_covariance(w)) @ powers
    total: np.ndarray = powers.reshape(-1, SIZE).T @ seen.reshape(-1, SIZE)
    return total


def _covariance(w: np.ndarray) -> np.ndarray:
    """`C = W C W^T + 1` by doubling, which knows nothing of the states."""
    covariance, power = np.eye(SIZE), w
    for _ in range(12):  # 2^12 terms
        covariance, power = covariance + power @ covariance @ power.T, power @ power
    return covariance


def _linear(w: Any, h: Any, x: Any) -> tuple[Any, Any]:
    h = w @ h
    return h, h


FISHER = Claim(
    "fisher-memory",
    "Fisher memory of a linear network under noise, summed over all times",
    "Ganguli, Huh and Sompolinsky (2008); derived: 1 for normal W and for the mean over "
    "directions of any, sum_k a^(k-1) / C_kk of a delay line of squared gain a (exact)",
    f"N = {SIZE}, powers of W by unroll to {STEPS:,} steps, C by doubling, float64",
    fisher_memory,
    float64=True,
)
