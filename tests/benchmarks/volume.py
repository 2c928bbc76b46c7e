"""By how much does the sum of all exponents miss the mean of log |det A_t|, by default?

    python -m tests.benchmarks.volume

The maps' determinants are the same everywhere; of a network the Jacobians' own are taken, in
float64. The error is the worst over the starts or seeds, in nats a step, in either dtype.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import recurrax as rx


def standard(k, s, x):
    q, m = s
    m = m + k * jnp.sin(q)
    return (q + m, m), x


def lozi(b, s, x):
    return (1 - 1.7 * jnp.abs(s[0]) + s[1], b * s[0]), x


def ikeda(u, s, x):
    a, b = s
    angle = 0.4 - 6 / (1 + a * a + b * b)
    c, n = jnp.cos(angle), jnp.sin(angle)
    return (1 + u * (a * c - b * n), u * (a * n + b * c)), x


# By name: the map, its number, its log |det|, how far starts go, how many, and steps.
MAPS = {
    "standard map, k = 1": (standard, 1.0, 0.0, 2 * np.pi, 24, 20_000),
    "standard map, k = 6.5": (standard, 6.5, 0.0, 2 * np.pi, 6, 2_000),
    "Lozi": (lozi, 0.5, np.log(0.5), 0.4, 6, 1_000),
    "Ikeda": (ikeda, 0.9, 2 * np.log(0.9), 0.4, 6, 1_000),
}
NETWORKS = {
    "LSTM, forget bias 5": lambda dtype: rx.cells.lstm(8, 8, forget_bias=5.0, dtype=dtype),
    "LSTM": lambda dtype: rx.cells.lstm(8, 8, dtype=dtype),
    "GRU, H = 32": lambda dtype: rx.cells.gru(8, 32, dtype=dtype),
}


def errors(dtype: str) -> dict[str, float]:
    found = {}
    for name, (step, number, log_det, high, starts, length) in MAPS.items():
        found[name] = max(
            abs(total(rx.flow.lyapunov(step, number, state, length=length)) - log_det)
            for start in np.random.default_rng(3).uniform(0, high, (starts, 2))
            for state in [tuple(jnp.asarray(start, dtype))]
        )
    for name, make in NETWORKS.items():
        found[name] = max(network_error(make(dtype), seed, dtype) for seed in range(3))
    return found


def network_error(cell: rx.Cell, seed: int, dtype: str) -> float:
    params = cell.init(jax.random.key(seed))
    xs = jax.random.normal(jax.random.key(seed + 10), (500, 8), dtype)
    matrices = np.asarray(rx.flow.jacobians(cell, params, None, xs), np.float64)[50:]
    expected = np.linalg.slogdet(matrices)[1].mean()
    return abs(total(rx.flow.lyapunov(cell, params, None, xs)) - expected)


def total(found: rx.flow.Lyapunov) -> float:
    return float(np.asarray(found.exponents, np.float64).sum())


def main() -> None:
    columns = {}
    for dtype in ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            columns[dtype] = errors(dtype)
    for name in columns["float64"]:
        print(f"{name:24}", *(f"{dtype} {c[name]:.1e}" for dtype, c in columns.items()))


if __name__ == "__main__":
    main()
