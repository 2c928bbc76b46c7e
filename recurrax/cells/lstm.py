"""Long short-term memory, in the form of torch and cuDNN."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

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
from recurrax.gated.step import GatedStep, gate_activations, step_doc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import chex

    from recurrax.cell import Cell


class LSTMState(NamedTuple):
    """What an LSTM carries through time: N = 2 H numbers."""

    h: chex.Array  # [..., H]
    c: chex.Array  # [..., H]


class LSTMParams(GatedParams):
    """The parameters of an LSTM: four gates, in the order i, f, g, o."""


_KINDS = ("sigmoid", "sigmoid", "tanh", "sigmoid")


def lstm_gates(unit: None, z_in: Any, z_rec: Any) -> Any:
    """`i, f, g, o`, the activations `[4, ..., H]`."""
    return gate_activations(z_in + z_rec, *_KINDS)


def lstm_pointwise(unit: None, z_in: Any, z_rec: Any, state: LSTMState) -> LSTMState:
    """`c = f c + i g`, `h = o tanh(c)`."""
    i, f, g, o = lstm_gates(unit, z_in, z_rec)
    c = f * state.c + i * g
    return LSTMState(h=o * jnp.tanh(c), c=c)


_VIEW = GateView(("i", "f", "g", "o"), _KINDS, lstm_gates)

lstm_step = GatedStep(lstm_pointwise, gates=4, state=LSTMState, view=_VIEW).documented(
    "lstm_step",
    step_doc(
        "lstm",
        "an `LSTMParams`, gates i, f, g, o side by side",
        "an `LSTMState` with h and c",
        "`i, f, o = sigmoid(z)`, `g = tanh(z)` with `z = x_t W_in + h_{t-1} W_rec + b`;\n"
        "`c_t = f c_{t-1} + i g`, `h_t = o tanh(c_t)`.",
        "Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000)",
    ),
)


@dataclasses.dataclass(frozen=True)
class Shifted:
    """An initialiser plus a constant; equal to another made from equal parts."""

    init: Initializer
    by: float

    def __call__(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = None) -> Any:
        dtype = checks.floating_dtype(dtype)
        return self.init(key, shape, dtype) + jnp.asarray(self.by, dtype)


def with_forget_bias(bias_init: Any, forget_bias: float | None) -> tuple[Any, float]:
    """One `bias_init` for each gate, the second plus the forget bias; and that bias."""
    if forget_bias is None:
        forget_bias = 1.0 if callable(bias_init) else 0.0
    checks.check_number("forget_bias", forget_bias)
    per_gate = (bias_init,) * 4 if callable(bias_init) else bias_init
    if isinstance(per_gate, (tuple, list)) and len(per_gate) == 4:  # else the cell reports it
        per_gate = (per_gate[0], Shifted(per_gate[1], float(forget_bias)), *per_gate[2:])
    return per_gate, float(forget_bias)


def lstm(
    input_size: int,
    hidden_size: int,
    *,
    forget_bias: float | None = None,
    recurrent_init: Initializer | Sequence[Initializer] = ORTHOGONAL,
    input_init: Initializer | Sequence[Initializer] = LECUN_NORMAL,
    bias_init: Initializer | Sequence[Initializer] = ZEROS,
    dtype: Any = None,
) -> Cell:
    """Long short-term memory.

    `i, f, o = sigmoid(z)`, `g = tanh(z)` with `z = x_t W_in + h_{t-1} W_rec + b`;
    `c_t = f c_{t-1} + i g`, `y_t = h_t = o tanh(c_t)`.

    Args:
      input_size: I, features of one input.
      hidden_size: H, hidden units.
      forget_bias: added to the forget gate's bias at initialisation; torch has 0, flax 0, and 1,
        the default, keeps the memory open at the start of training. Where `bias_init` gives each
        gate its own, the default is 0.
      recurrent_init: initialiser of each gate's `[H, H]` block of `w_rec`, or one for each of
        the gates i, f, g, o.
      input_init: the same for `w_in [I, 4*H]`.
      bias_init: the same for `b [4*H]`, which is the sum of torch's two biases.
      dtype: of the params; by default JAX's default float when the cell is made, float64 under
        `jax_enable_x64`, else float32.

    Returns:
      A `Cell` with `LSTMParams` and `LSTMState`.

    Raises:
      ValueError, TypeError: if a size is not a positive integer or `forget_bias` not a number.

    Example:
      >>> import jax, recurrax as rx
      >>> params = rx.cells.lstm(3, 8, forget_bias=2.0).init(jax.random.key(0))
      >>> params.w_rec.shape, float(params.b[8])
      ((8, 32), 2.0)
      >>> rx.cells.lstm(3, 8, forget_bias=2.0)
      lstm(3, 8, float32, forget_bias=2)

    Source: Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000); the
    forget bias is that of Jozefowicz et al. (2015).
    """
    per_gate, forget_bias = with_forget_bias(bias_init, forget_bias)
    return named_cell(
        "lstm",
        lstm_step,
        LSTMParams,
        input_size,
        hidden_size,
        recurrent_init=recurrent_init,
        input_init=input_init,
        bias_init=per_gate,
        dtype=dtype,
        printed={"forget_bias": forget_bias, "bias_init": bias_init},
    )
