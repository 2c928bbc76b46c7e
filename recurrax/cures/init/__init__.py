"""Initialisers as cures: weights that neither shrink nor stretch, gates that remember.

Each is usable as a keyword of the cells: a matrix initialiser as `recurrent_init` or `input_init`,
a row of bias initialisers, one a gate, as `bias_init`. All are values: equal ones make equal cells.

Called by themselves, `init(key, shape, dtype)`, they make JAX's default float where dtype is left
out: float64 under `jax_enable_x64`, else float32.
"""

from recurrax.cures.init.biases import chrono, forget_bias, uniform_gate
from recurrax.cures.init.critical import critical
from recurrax.cures.init.matrices import (
    identity,
    largest_singular_value,
    orthogonal,
    spectral_radius,
)

__all__ = [
    "chrono",
    "critical",
    "forget_bias",
    "identity",
    "largest_singular_value",
    "orthogonal",
    "spectral_radius",
    "uniform_gate",
]
