"""Long short-term memory whose output is projected before it is fed back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from recurrax import checks
from recurrax.cells.lstm import LSTMState, lstm_pointwise, with_forget_bias
from recurrax.cells.plain import PlainStep, plain_cell
from recurrax.gated.cell import LECUN_NORMAL, ORTHOGONAL, ZEROS, Initializer
from recurrax.gated.step import check_has_weights, step_doc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import chex

    from recurrax.cell import Cell


class LSTMProjectionState(NamedTuple):
    """What an LSTM with a projection carries through time: N = P + H numbers."""

    h: chex.Array  # [..., P]
    c: chex.Array  # [..., H]


class LSTMProjectionParams(NamedTuple):
    """The parameters of an LSTM with a projection: four gates, in the order i, f, g, o."""

    w_in: chex.Array  # [I, 4*H]
    w_rec: chex.Array  # [P, 4*H]
    b: chex.Array  # [4*H]
    w_proj: chex.Array  # [H, P]


def lstm_projection_update(
    params: LSTMProjectionParams, state: LSTMProjectionState, x: Any
) -> LSTMProjectionState:
    """`c = f c + i g`, `h = (o tanh(c)) W_proj`."""
    z_in, z_rec = (
        jnp.stack(jnp.split(z, 4, -1)) for z in (x @ params.w_in + params.b, state.h @ params.w_rec)
    )
    h, c = lstm_pointwise(None, z_in, z_rec, LSTMState(h=state.h, c=state.c))
    return LSTMProjectionState(h=h @ params.w_proj, c=c)


@dataclasses.dataclass(frozen=True)
class ProjectedZeros:
    """`initial_state(params, batch_shape=()) -> state`: zeros, P of them in h and H in c."""

    def __call__(self, params: Any, batch_shape: tuple[int, ...] = ()) -> LSTMProjectionState:
        checks.check_batch_shape(batch_shape)
        check_has_weights(params)
        hidden, given = params.w_proj.shape
        return LSTMProjectionState(
            *(jnp.zeros((*batch_shape, size), params.w_rec.dtype) for size in (given, hidden))
        )


lstm_projection_step = PlainStep(
    lstm_projection_update, gates=4, state=LSTMProjectionState
).documented(
    "lstm_projection_step",
    step_doc(
        "lstm_projection",
        "an `LSTMProjectionParams`, gates i, f, g, o side by side",
        "an `LSTMProjectionState` with h `[..., P]` and c",
        "`i, f, o = sigmoid(z)`, `g = tanh(z)` with `z = x_t W_in + h_{t-1} W_rec + b`;\n"
        "`c_t = f c_{t-1} + i g`, `h_t = (o tanh(c_t)) W_proj`.",
        "Sak, Senior and Beaufays (2014), without peepholes, in the form of torch's `LSTM`",
    ).replace("((8,), True)", "((4,), True)"),  # half of H
)


def lstm_projection(
    input_size: int,
    hidden_size: int,
    projection_size: int | None = None,
    *,
    forget_bias: float | None = None,
    recurrent_init: Initializer | Sequence[Initializer] = ORTHOGONAL,
    input_init: Initializer | Sequence[Initializer] = LECUN_NORMAL,
    bias_init: Initializer | Sequence[Initializer] = ZEROS,
    projection_init: Initializer = LECUN_NORMAL,
    dtype: Any = None,
) -> Cell:
    """Long short-term memory whose output is projected to fewer numbers before it is fed back.

    `i, f, o = sigmoid(z)`, `g = tanh(z)` with `z = x_t W_in + h_{t-1} W_rec + b`;
    `c_t = f c_{t-1} + i g`, `y_t = h_t = (o tanh(c_t)) W_proj`.

    The projection mixes hidden units, so it is a plain cell: it runs step by step.

    Args:
      input_size: I, features of one input.
      hidden_size: H, hidden units.
      projection_size: P, features of h, which is the output; half of H by default.
      forget_bias: as of `rx.cells.lstm`.
      recurrent_init: initialiser of each gate's `[P, H]` block of `w_rec`, or one for each of
        the gates i, f, g, o; it must not ask for square ones.
      input_init: the same for `w_in [I, 4*H]`.
      bias_init: the same for `b [4*H]`.
      projection_init: initialiser of `w_proj [H, P]`.
      dtype: of the params; by default JAX's default float when the cell is made, float64 under
        `jax_enable_x64`, else float32.

    Returns:
      A `Cell` with `LSTMProjectionParams` and `LSTMProjectionState`.

    Raises:
      ValueError, TypeError: if a size is not a positive integer or `forget_bias` not a number.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.lstm_projection(3, 8, 2)
      >>> params = cell.init(jax.random.key(0))
      >>> params.w_rec.shape, params.w_proj.shape
      ((2, 32), (8, 2))
      >>> state, ys = rx.unroll(cell, params, None, jnp.ones((5, 3)))
      >>> ys.shape, state.c.shape
      ((5, 2), (8,))
      >>> cell
      lstm_projection(3, 8, float32, projection_size=2, forget_bias=1)

    Source: Sak, Senior and Beaufays (2014), without peepholes, in the form of torch's `LSTM`.
    """
    checks.check_positive_int("hidden_size", hidden_size)
    given = max(1, int(hidden_size) // 2) if projection_size is None else projection_size
    per_gate, forget_bias = with_forget_bias(bias_init, forget_bias)
    return plain_cell(
        "lstm_projection",
        lstm_projection_step,
        LSTMProjectionParams,
        ProjectedZeros(),
        {"input_size": input_size, "hidden_size": hidden_size, "projection_size": given},
        recurrent_init=recurrent_init,
        input_init=input_init,
        bias_init=per_gate,
        projection_init=projection_init,
        dtype=dtype,
        printed={
            "projection_size": given,
            "forget_bias": forget_bias,
            "bias_init": bias_init,
            "projection_init": projection_init,
        },
    )
