"""The per-step Jacobians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from recurrax.flow.parts import by_layer
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn
    from recurrax.flow.steps.problem import Problem


@by_layer
def jacobians(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> chex.Array:
    """The per-step Jacobians of the whole state, `A_t = d s_t / d s_{t-1}`.

    `A[t][i, j]` is the derivative of entry i of s_t by entry j of s_{t-1}, the state's leaves
    end to end (an LSTM: h, then c; N = 2 H). `d s_t / d s_0 = A_t ... A_2 A_1`.

    Args:
      cell: a `Cell` or a step function; layers in both directions give a dict (`flow.parts`). A
        gated cell's A_t comes from its pointwise function, any other from forward derivatives.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is the identity.
      resets: bool `[T, *batch]`, as in `rx.unroll`; A_t is zero where it is True.

    Returns:
      `[T, *batch, N, N]`, float32 or wider.

    Raises:
      ValueError, TypeError: as `rx.unroll` does, and if concrete values are not finite.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.gru(1, 2)
      >>> params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
      >>> a = rx.flow.jacobians(cell, params, cell.initial_state(params), jnp.zeros((3, 1)))
      >>> a.shape, a[0].tolist()  # without weights, a GRU halves its state
      ((3, 2, 2), [[0.5, 0.0], [0.0, 0.5]])
    """
    found: chex.Array = _jacobians(pose(cell, params, state, xs, mask, resets))
    return found


@for_each_example()
def _jacobians(own: Problem, path: Trajectory) -> chex.Array:
    def matrix(now: Any) -> chex.Array:
        return linear_map(own.step, own.params, *now).matrix()

    found: chex.Array = jax.lax.map(matrix, own.rows(path.befores))
    return found
