"""The gated recurrent unit, with the reset after the recurrent product as in torch and cuDNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from recurrax.gated.cell import (
    LECUN_NORMAL,
    ORTHOGONAL,
    ZEROS,
    GateView,
    Initializer,
    named_cell,
)
from recurrax.gated.step import GatedStep, gate_activations, step_doc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import chex

    from recurrax.cell import Cell


class GRUState(NamedTuple):
    """What a GRU carries through time."""

    h: chex.Array  # [..., H]


class GRUUnit(NamedTuple):
    """The per-unit parameters of a GRU."""

    b_n: chex.Array  # [H], the bias inside the reset


class GRUParams(NamedTuple):
    """The parameters of a GRU: three gates, in the order r, z, n."""

    w_in: chex.Array  # [I, 3*H]
    w_rec: chex.Array  # [H, 3*H]
    b: chex.Array  # [3*H]
    unit: GRUUnit


def gru_gates(unit: GRUUnit, z_in: Any, z_rec: Any) -> tuple[Any, Any, Any]:
    """`r, z` and the candidate `n = tanh(z_in + r (z_rec + b_n))`, each `[..., H]`."""
    r, z = gate_activations(z_in[:2] + z_rec[:2], "sigmoid", "sigmoid")
    n = jnp.tanh(z_in[2] + r * (z_rec[2] + unit.b_n))
    return r, z, n


def gru_pointwise(unit: GRUUnit, z_in: Any, z_rec: Any, state: GRUState) -> GRUState:
    """`h = (1 - z) n + z h`."""
    _, z, n = gru_gates(unit, z_in, z_rec)
    return GRUState((1 - z) * n + z * state.h)


_VIEW = GateView(("r", "z", "n"), ("sigmoid", "sigmoid", "tanh"), gru_gates)

gru_step = GatedStep(gru_pointwise, gates=3, state=GRUState, view=_VIEW).documented(
    "gru_step",
    step_doc(
        "gru",
        "a `GRUParams`, gates r, z, n side by side",
        "a `GRUState` with h",
        "`r, z = sigmoid(x_t W_in + h_{t-1} W_rec + b)`,\n"
        "`n = tanh(x_t W_in + b + r (h_{t-1} W_rec + b_n))`, `h_t = (1 - z) n + z h_{t-1}`.",
        "Cho et al. (2014), in the form of torch's `GRU`",
    ),
)


def gru(
    input_size: int,
    hidden_size: int,
    *,
    recurrent_init: Initializer | Sequence[Initializer] = ORTHOGONAL,
    input_init: Initializer | Sequence[Initializer] = LECUN_NORMAL,
    bias_init: Initializer | Sequence[Initializer] = ZEROS,
    dtype: Any = None,
) -> Cell:
    """The gated recurrent unit.

    `r, z = sigmoid(x_t W_in + h_{t-1} W_rec + b)`,
    `n = tanh(x_t W_in + b + r (h_{t-1} W_rec + b_n))`, `y_t = h_t = (1 - z) n + z h_{t-1}`.

    Args:
      input_size: I, features of one input.
      hidden_size: H, hidden units.
      recurrent_init: initialiser of each gate's `[H, H]` block of `w_rec`, or one for each of
        the gates r, z, n.
      input_init: the same for `w_in [I, 3*H]`.
      bias_init: the same for `b [3*H]`; the bias `b_n [H]` inside the reset starts at zero.
      dtype: of the params; by default JAX's default float when the cell is made, float64 under
        `jax_enable_x64`, else float32.

    Returns:
      A `Cell` with `GRUParams` and `GRUState`.

    Raises:
      ValueError, TypeError: if a size is not a positive integer.

    Example:
      >>> import jax, recurrax as rx
      >>> params = rx.cells.gru(3, 8).init(jax.random.key(0))
      >>> params.w_rec.shape, params.unit.b_n.shape
      ((8, 24), (8,))
      >>> rx.cells.gru(3, 8)
      gru(3, 8, float32)

    Source: Cho et al. (2014), in the form of torch's `GRU`.
    """
    return named_cell(
        "gru",
        gru_step,
        GRUParams,
        input_size,
        hidden_size,
        unit_init=GRUUnit(b_n=ZEROS),
        recurrent_init=recurrent_init,
        input_init=input_init,
        bias_init=bias_init,
        dtype=dtype,
    )
