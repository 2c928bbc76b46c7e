"""Activate a row of gates in one operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    import chex

_HALF = {"sigmoid": 0.5, "tanh": 1.0}


def gate_activations(z: chex.Array, *kinds: str) -> chex.Array:
    """Apply a sigmoid or a tanh to each gate, all of them through one tanh.

    `sigmoid(z) = tanh(z / 2) / 2 + 1 / 2`, so scaling each gate by a half or by one before and
    after a single tanh gives either. One transcendental over `[G, ..., H]` keeps the compiled
    loop vectorised, where a separate sigmoid or tanh of each slice does not.

    A sigmoid made this way is right to the rounding of 1, not of itself: in float32 one below
    6e-8 is 0, as a gate it is closed.

    Args:
      z: pre-activations `[G, ..., H]`, the gate axis first, floating point.
      *kinds: `"sigmoid"` or `"tanh"`, one for each of the G gates.

    Returns:
      The activations `[G, ..., H]`, to be unpacked gate by gate.

    Raises:
      ValueError: if there is not one kind for each gate, or a kind is unknown.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> z = jnp.zeros((2, 3))
      >>> i, g = rx.gate_activations(z, "sigmoid", "tanh")
      >>> float(i[0]), float(g[0])
      (0.5, 0.0)
    """
    unknown = [kind for kind in kinds if kind not in _HALF]
    if unknown:
        raise ValueError(f'kinds must be "sigmoid" or "tanh", got {unknown[0]!r}')
    if jnp.ndim(z) == 0 or z.shape[0] != len(kinds):
        raise ValueError(
            f"z must be [G, ..., H] with one kind for each gate: got {len(kinds)} kinds "
            f"for shape {jnp.shape(z)}. The gate axis comes first."
        )
    half = jnp.asarray([_HALF[kind] for kind in kinds], z.dtype)
    half = half.reshape((len(kinds),) + (1,) * (z.ndim - 1))
    return jnp.tanh(z * half) * half + (1 - half)
