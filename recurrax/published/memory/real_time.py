"""Real-time recurrent learning, which carries the gradient forward, beside backpropagation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from recurrax.cells.elman import elman
from recurrax.published.claim import Claim, absolute, compared
from recurrax.unrolling import unroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recurrax.published.claim import Row

INPUTS, HIDDEN, STEPS = 4, 32, 100


def exact_rtrl() -> Iterator[Row]:
    """`M_t = A_t M_{t-1} + ds_t / dparams`, and the gradient `sum_t dE_t / ds_t M_t`."""
    cell = elman(INPUTS, HIDDEN)
    params = cell.init(jax.random.key(0))
    first, second = jax.random.split(jax.random.key(1))
    xs = jax.random.normal(first, (STEPS, INPUTS))
    targets = jax.random.normal(second, (STEPS, HIDDEN))

    def loss(params: Any) -> Any:
        return jnp.sum((unroll(cell, params, None, xs)[1] - targets) ** 2)

    backward = np.asarray(ravel_pytree(jax.jit(jax.grad(loss))(params))[0], np.float64)
    forward = np.asarray(_real_time(cell, params, xs, targets), np.float64)
    apart = float(np.linalg.norm(forward - backward) / np.linalg.norm(backward))
    yield compared("relative difference of the gradients", 0.0, apart, absolute(1e-5))


def _real_time(cell: Any, params: Any, xs: Any, targets: Any) -> Any:
    """The gradient of the same loss, without going back in time."""
    flat, unravel = ravel_pytree(params)
    start, as_state = ravel_pytree(cell.initial_state(params))

    def step(flat: Any, state: Any, x: Any) -> Any:
        return ravel_pytree(cell.step(unravel(flat), as_state(state), x)[0])[0]

    def body(carry: Any, now: Any) -> tuple[Any, None]:
        state, influence, gradient = carry
        x, target = now
        by_params, by_state = jax.jacobian(step, (0, 1))(flat, state, x)
        state = step(flat, state, x)
        influence = by_state @ influence + by_params
        gradient += 2 * (state - target) @ influence  # the loss is of the state, which is h alone
        return (state, influence, gradient), None

    empty = jnp.zeros((start.size, flat.size), flat.dtype)
    carry = (start, empty, jnp.zeros_like(flat))
    return jax.jit(lambda: jax.lax.scan(body, carry, (xs, targets))[0][2])()


RTRL = Claim(
    "rtrl",
    "real-time recurrent learning finds the gradient of backpropagation through time",
    "derived: both are the chain rule (exact); the algorithm of Williams and Zipser (1989)",
    f"Elman, {INPUTS} inputs, H = {HIDDEN}, T = {STEPS}, float32",
    exact_rtrl,
)
