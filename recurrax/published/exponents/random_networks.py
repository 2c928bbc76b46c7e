"""Large random networks: exponents that theory gives in the limit, and those of an LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.cells.elman import ElmanState, elman
from recurrax.cells.lstm import lstm
from recurrax.flow.jacobians import jacobians
from recurrax.flow.lyapunov import lyapunov
from recurrax.flow.predict import predict
from recurrax.published.claim import NOT_PUBLISHED, Claim, absolute, compared, relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

    from recurrax.published.claim import Row

GAIN, SIZE, LENGTH, SEEDS = 3.0, 200, 4_000, 5
SMALL, SHORT = 100, 150  # where the mean of all is measured, which is that of log |det| / N
HIDDEN, INPUTS, LSTM_LENGTH = 64, 8, 2_000


def rate_step(weights: chex.Array, x: chex.Array, nothing: Any) -> tuple[chex.Array, chex.Array]:
    """`x' = J tanh x`."""
    x = weights @ jnp.tanh(x)
    return x, x


def _draw(seed: int, size: int) -> tuple[chex.Array, chex.Array]:
    first, second = jax.random.split(jax.random.key(seed))
    weights = GAIN / size**0.5 * jax.random.normal(first, (size, size))
    return weights, jax.random.normal(second, (size,))


def rate_networks() -> Iterator[Row]:
    """At g = 3, where it is chaotic at any size."""
    largest = []
    for seed in range(SEEDS):
        found = lyapunov(rate_step, *_draw(seed, SIZE), length=LENGTH, k=1)
        largest.append(float(found.exponents[0]))
    name = f"first exponent, N = {SIZE}"
    yield compared(name, 0.297, largest, absolute(0.005), NOT_PUBLISHED)
    note = f"the limit of large N; ours is at N = {SIZE}, and about 2.8 / N lower"
    yield compared("first exponent", 0.310249, largest, absolute(0.02), note)
    yield compared("first exponent, flow.predict", 0.310249, _predicted(), absolute(0.003))

    means = [_log_volume(*_draw(seed, SMALL)) / SMALL for seed in range(SEEDS)]
    note = f"the limit of large N; ours is mean log |det| / N at N = {SMALL}"
    yield compared("mean of all exponents", -2.272805, means, relative(0.03), note)


def _log_volume(weights: chex.Array, state: chex.Array) -> float:
    """The mean of log |det A_t|."""
    matrices = jacobians(rate_step, weights, state, jnp.zeros((SHORT, 0)))
    return float(np.linalg.slogdet(np.asarray(matrices))[1].mean())


def _predicted() -> float:
    """Mean-field theory of tanh(W h), which has the exponents of J tanh x."""
    init = jax.nn.initializers.normal(GAIN / SIZE**0.5)
    cell = elman(1, SIZE, recurrent_init=init, dtype=jnp.float64)
    params = cell.init(jax.random.key(0))
    state = ElmanState(jax.random.normal(jax.random.key(1), (SIZE,)))
    xs = jnp.zeros((60, 1))
    return float(predict(cell, params, state, xs, weights="untied").rate)


def forget_biases() -> Iterator[Row]:
    """Of the joint state (h, c); h alone with c held fixed would give about -2 for all."""
    uniform = _uniform(HIDDEN**-0.5)
    for bias, before, tolerance in (
        (0.0, -0.44, 0.03), (1.0, -0.145, 0.015), (3.0, 0.0, 0.006), (5.0, 0.003, 0.003),
    ):  # fmt: skip
        found = []
        for seed in range(3):
            cell = lstm(
                INPUTS, HIDDEN, forget_bias=bias, dtype=jnp.float64,
                recurrent_init=uniform, input_init=uniform, bias_init=_two_biases,
            )  # fmt: skip
            first, second = jax.random.split(jax.random.key(seed))
            xs = jax.random.normal(second, (LSTM_LENGTH, INPUTS))
            exponents = lyapunov(cell, cell.init(first), None, xs, k=1).exponents
            found.append(float(exponents[0]))
        yield compared(f"forget bias {bias:g}", before, found, absolute(tolerance), NOT_PUBLISHED)


def _uniform(bound: float) -> Any:
    def draw(key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any) -> chex.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def _two_biases(key: chex.PRNGKey, shape: tuple[int, ...], dtype: Any) -> chex.Array:
    """The sum of two, as PyTorch has them."""
    return jax.random.uniform(key, (2, *shape), dtype, -1, 1).sum(0) * HIDDEN**-0.5


RATE_NETWORKS = Claim(
    "rate-networks",
    f"Lyapunov exponents of x' = J tanh x, J of variance g^2 / N, at g = {GAIN:g}",
    "derived: log(g sqrt E tanh'^2), log g - 1/2 + E log tanh' (exact in the limit); N = 200: "
    "measured with other code, not published",
    f"N = {SIZE}, {LENGTH:,} steps; the mean: N = {SMALL}, {SHORT} steps; {SEEDS} seeds, float64",
    rate_networks,
    float64=True,
)
FORGET_BIASES = Claim(
    "forget-biases",
    "first Lyapunov exponent of an LSTM against its forget bias",
    "measured twice with other code, not published",
    f"H = {HIDDEN}, {INPUTS} inputs N(0, 1), weights and two biases uniform +- 1/sqrt H, "
    f"{LSTM_LENGTH:,} steps, 3 seeds, float64",
    forget_biases,
    float64=True,
)
