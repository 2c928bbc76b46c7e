"""The gated recurrent unit with the reset before the recurrent product, as it was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from recurrax.cells.gru import GRUState
from recurrax.cells.plain import PlainStep, plain_cell
from recurrax.gated.cell import LECUN_NORMAL, ORTHOGONAL, ZEROS, Initializer, ZeroState
from recurrax.gated.step import gate_activations, step_doc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import chex

    from recurrax.cell import Cell


class GRUResetBeforeParams(NamedTuple):
    """The parameters of a GRU that resets before the product: gates in the order r, z, n."""

    w_in: chex.Array  # [I, 3*H]
    w_rec: chex.Array  # [H, 3*H]
    b: chex.Array  # [3*H]


def gru_reset_before_update(params: GRUResetBeforeParams, state: GRUState, x: Any) -> GRUState:
    """`h = (1 - z) n + z h`, the candidate n made from `r h`."""
    h, hidden = state.h, params.w_rec.shape[0]
    z_in = x @ params.w_in + params.b
    w_gates, w_n = jnp.split(params.w_rec, [2 * hidden], -1)
    both = z_in[..., : 2 * hidden] + h @ w_gates
    r, z = gate_activations(jnp.stack(jnp.split(both, 2, -1)), "sigmoid", "sigmoid")
    n = jnp.tanh(z_in[..., 2 * hidden :] + (r * h) @ w_n)
    return GRUState((1 - z) * n + z * h)


gru_reset_before_step = PlainStep(gru_reset_before_update, gates=3, state=GRUState).documented(
    "gru_reset_before_step",
    step_doc(
        "gru_reset_before",
        "a `GRUResetBeforeParams`, gates r, z, n side by side",
        "a `GRUState` with h",
        "`r, z = sigmoid(x_t W_in + h_{t-1} W_rec + b)`,\n"
        "`n = tanh(x_t W_in + (r h_{t-1}) W_rec + b)`, `h_t = (1 - z) n + z h_{t-1}`.",
        "Cho et al. (2014)",
    ),
)


def gru_reset_before(
    input_size: int,
    hidden_size: int,
    *,
    recurrent_init: Initializer | Sequence[Initializer] = ORTHOGONAL,
    input_init: Initializer | Sequence[Initializer] = LECUN_NORMAL,
    bias_init: Initializer | Sequence[Initializer] = ZEROS,
    dtype: Any = None,
) -> Cell:
    """The gated recurrent unit that resets the state before the recurrent product.

    `r, z = sigmoid(x_t W_in + h_{t-1} W_rec + b)`,
    `n = tanh(x_t W_in + (r h_{t-1}) W_rec + b)`, `y_t = h_t = (1 - z) n + z h_{t-1}`.

    It is Haiku's GRU, Keras' with `reset_after=False`, and what ONNX means unless told otherwise.
    Its candidate needs two products one after the other, so it is a plain cell: it runs step by
    step on every processor, and `rx.cells.gru`, where the choice is free, is faster.

    Args:
      input_size: I, features of one input.
      hidden_size: H, hidden units.
      recurrent_init: initialiser of each gate's `[H, H]` block of `w_rec`, or one for each of
        the gates r, z, n.
      input_init: the same for `w_in [I, 3*H]`.
      bias_init: the same for `b [3*H]`.
      dtype: of the params; by default JAX's default float when the cell is made, float64 under
        `jax_enable_x64`, else float32.

    Returns:
      A `Cell` with `GRUResetBeforeParams` and `GRUState`.

    Raises:
      ValueError, TypeError: if a size is not a positive integer.

    Example:
      >>> import jax, recurrax as rx
      >>> params = rx.cells.gru_reset_before(3, 8).init(jax.random.key(0))
      >>> params.w_rec.shape, params.b.shape
      ((8, 24), (24,))
      >>> rx.cells.gru_reset_before(3, 8)
      gru_reset_before(3, 8, float32)

    Source: Cho et al. (2014).
    """
    return plain_cell(
        "gru_reset_before",
        gru_reset_before_step,
        GRUResetBeforeParams,
        ZeroState(GRUState),
        {"input_size": input_size, "hidden_size": hidden_size},
        recurrent_init=recurrent_init,
        input_init=input_init,
        bias_init=bias_init,
        dtype=dtype,
    )
