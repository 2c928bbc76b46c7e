"""The vanilla recurrent network of Elman (1990), "Finding structure in time"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.gated.cell import (
    LECUN_NORMAL,
    ORTHOGONAL,
    ZEROS,
    GatedParams,
    GateView,
    Initializer,
    named_cell,
)
from recurrax.gated.step import GatedStep, step_doc

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell


class ElmanState(NamedTuple):
    """What an Elman cell carries through time."""

    h: chex.Array  # [..., H]


class ElmanParams(GatedParams):
    """The parameters of an Elman cell with a tanh: one gate."""


class ElmanReluParams(GatedParams):
    """The parameters of an Elman cell with a relu: a class of its own, so that a file tells."""


def tanh_gates(unit: None, z_in: Any, z_rec: Any) -> tuple[Any]:
    """`tanh(z)`, the one activation."""
    return (jnp.tanh(z_in[0] + z_rec[0]),)


def tanh_pointwise(unit: None, z_in: Any, z_rec: Any, state: ElmanState) -> ElmanState:
    """`h = tanh(z)`."""
    return ElmanState(*tanh_gates(unit, z_in, z_rec))


def relu_pointwise(unit: None, z_in: Any, z_rec: Any, state: ElmanState) -> ElmanState:
    """`h = max(z, 0)`."""
    return ElmanState(jax.nn.relu(z_in[0] + z_rec[0]))


# Both activations have a slope of at most 1, reached at 0 by tanh and everywhere above by relu.
_VIEW = GateView(("h",), ("tanh",), tanh_gates)
elman_step = GatedStep(tanh_pointwise, 1, ElmanState, slope=1.0, view=_VIEW).documented(
    "elman_step",
    step_doc(
        "elman",
        "an `ElmanParams`",
        "an `ElmanState` with h",
        "`h_t = tanh(x_t W_in + h_{t-1} W_rec + b)`.",
        'Elman (1990), "Finding structure in time", in torch\'s `RNN` form with one bias',
    ),
)
_RELU_STEP = GatedStep(relu_pointwise, 1, ElmanState, slope=1.0)


def elman(
    input_size: int,
    hidden_size: int,
    *,
    activation: str = "tanh",
    recurrent_init: Initializer = ORTHOGONAL,
    input_init: Initializer = LECUN_NORMAL,
    bias_init: Initializer = ZEROS,
    dtype: Any = None,
) -> Cell:
    """The vanilla recurrent network, in the form of torch's `RNN` with one bias.

    `h_t = phi(x_t W_in + h_{t-1} W_rec + b)`, `y_t = h_t`, phi being tanh or relu.

    Args:
      input_size: I, features of one input.
      hidden_size: H, hidden units.
      activation: `"tanh"` or `"relu"`.
      recurrent_init: initialiser of `w_rec [H, H]`.
      input_init: initialiser of `w_in [I, H]`.
      bias_init: initialiser of `b [H]`.
      dtype: of the params; by default JAX's default float when the cell is made, float64 under
        `jax_enable_x64`, else float32.

    Returns:
      A `Cell` with `ElmanParams` (relu: `ElmanReluParams`) and `ElmanState`.

    Raises:
      ValueError, TypeError: if a size is not a positive integer or the activation is unknown.

    Example:
      >>> import jax, recurrax as rx
      >>> params = rx.cells.elman(3, 8).init(jax.random.key(0))
      >>> params.w_in.shape, params.w_rec.shape, params.b.shape
      ((3, 8), (8, 8), (8,))
      >>> rx.cells.elman(3, 8, activation="relu")
      elman(3, 8, float32, activation='relu')

    Source: Elman (1990), "Finding structure in time".
    """
    checks.check_choice("activation", activation, ("tanh", "relu"))
    is_tanh = activation == "tanh"
    return named_cell(
        "elman",
        elman_step if is_tanh else _RELU_STEP,
        ElmanParams if is_tanh else ElmanReluParams,
        input_size,
        hidden_size,
        recurrent_init=recurrent_init,
        input_init=input_init,
        bias_init=bias_init,
        dtype=dtype,
        printed={} if is_tanh else {"activation": activation},
    )
