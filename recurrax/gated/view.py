"""The gates of a cell: what their activations are called, and how a row of them is activated."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


@dataclasses.dataclass(frozen=True)
class GateView:
    """The gates of a cell as its reader knows them: what `flow.paths` takes statistics of.

    A pointwise function sees pre-activations; which squashed number is the forget gate, it alone
    knows. It says so here, and best takes its own gates from the same `values`.

    Args:
      names: of the gates, such as `("i", "f", "g", "o")`.
      kinds: `"sigmoid"` or `"tanh"` for each: at which ends it saturates, 0 and 1 or -1 and 1.
      values: `values(unit, z_in, z_rec)` with the arguments of the pointwise function, `z_in` and
        `z_rec [G, ..., H]`; returns one activation `[..., H]` for each name, as one array or a
        tuple.

    Raises:
      ValueError: if there is not one kind for each name, or a kind is unknown.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> from typing import NamedTuple
      >>> class MGUState(NamedTuple):
      ...     h: jax.Array
      >>> def gates(unit, z_in, z_rec):
      ...     f = jax.nn.sigmoid(z_in[0] + z_rec[0])
      ...     return f, jnp.tanh(z_in[1] + f * z_rec[1])
      >>> def mgu(unit, z_in, z_rec, state):
      ...     f, n = gates(unit, z_in, z_rec)
      ...     return MGUState((1 - f) * state.h + f * n)
      >>> cell = rx.gated_cell(
      ...     mgu,
      ...     gates=2,
      ...     state=MGUState,
      ...     input_size=3,
      ...     hidden_size=8,
      ...     view=rx.GateView(("f", "n"), ("sigmoid", "tanh"), gates),
      ... )
      >>> cell.step.view.names
      ('f', 'n')
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Callable[[Any, Any, Any], Any]

    def __post_init__(self) -> None:
        _check_view(self.names, self.kinds)


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


def _check_view(names: Any, kinds: Any) -> None:
    """One kind for each name of a `GateView`, both tuples, since a step compares by value."""
    for argument, row in (("names", names), ("kinds", kinds)):
        if not isinstance(row, tuple) or not all(isinstance(word, str) for word in row):
            raise TypeError(f"{argument} must be a tuple of strings, got {row!r}")
    if len(names) != len(kinds):
        raise ValueError(f"kinds must be one for each of the names {names}, got {kinds}")
    unknown = [kind for kind in kinds if kind not in ("sigmoid", "tanh")]
    if unknown:
        raise ValueError(f'kinds must be "sigmoid" or "tanh", got {unknown[0]!r}')
