"""Biases that open the gates of a memory: one initialiser for each gate, in the cell's order.

Gates that must agree unit by unit (`b_i = -b_f`) are drawn from keys of their own, so they share
quantiles in place of random numbers. Which unit gets which does not matter: nothing else of a new
network tells its units apart.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.gated.cell import ZEROS, Initializer
from recurrax.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import chex

Row: TypeAlias = tuple[Initializer, ...]  # one for each gate


@dataclasses.dataclass(frozen=True)
class GateBias:
    """An initialiser of one gate's biases; equal to another of the same function and arguments."""

    name: str  # as the user calls it
    values: Callable[..., Any]  # values(quantiles, *arguments), the biases in float64
    arguments: tuple[float, ...]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(short, self.arguments))})"

    def __call__(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = None) -> Any:
        del key
        if len(shape) != 1:
            raise ValueError(
                f"{self.name} makes the biases [H] of one gate, got shape {tuple(shape)}. Give it "
                "as bias_init of a cell."
            )
        quantiles = (np.arange(shape[0]) + 0.5) / shape[0]  # the middles of H parts of [0, 1]
        return jnp.asarray(self.values(quantiles, *self.arguments), checks.floating_dtype(dtype))


def forget_bias(value: float, *, gates: int = 4, forget_gate: int = 1) -> Row:
    """A bias for the forget gate alone, zero for the others.

    `b_f = value`, so that a gate that sees nothing else keeps `f = sigmoid(value)` of its memory in
    each step, about `1 + exp(value)` steps in all.

    Args:
      value: of the bias of each unit.
      gates: G, how many gates the cell has; the LSTM's 4 by default.
      forget_gate: which of them multiplies the old memory, counted from 0: the LSTM's f and the
        GRU's z are both 1.

    Returns:
      A tuple of G initialisers, for `bias_init`.

    Raises:
      ValueError, TypeError: if value is not a finite number, or a gate is not one of the G.

    Example:
      >>> import jax, recurrax as rx
      >>> bias = rx.cures.init.forget_bias(3.0, gates=3)  # the GRU's z
      >>> rx.cells.gru(1, 2, bias_init=bias).init(jax.random.key(0)).b.tolist()
      [0.0, 0.0, 3.0, 3.0, 0.0, 0.0]

    Source: Gers, Schmidhuber and Cummins (2000); Jozefowicz, Zaremba and Sutskever (2015).
    """
    checks.check_number("value", value)
    bias = GateBias("forget_bias", np.full_like, (float(value),))
    return _row(gates, {"forget_gate": (forget_gate, bias)})


def chrono(
    t_max: float, *, gates: int = 4, forget_gate: int = 1, input_gate: int | None = 0
) -> Row:
    """Forget gates that remember for times spread evenly up to `t_max`.

    `b_f = log u`, `b_i = -b_f`, u uniform in `[1, t_max - 1]`: a constant gate with this bias
    remembers for `1 / (1 - f) = 1 + u` steps, and lets in `i = 1 - f` of what is new.

    Args:
      t_max: the longest dependency expected, in steps; 2 or above.
      gates, forget_gate: as in `rx.cures.init.forget_bias`.
      input_gate: which of them lets the new in, the LSTM's i by default; None for a cell without
        one, such as the GRU, whose z does both.

    Returns:
      A tuple of G initialisers, for `bias_init`. The units of a gate take the evenly spread
      quantiles of u, unit 0 the shortest memory, and the key is not used: that keeps `b_i = -b_f`
      in every unit. `rx.cells.lstm` adds nothing to biases given gate by gate, unless told to.

    Raises:
      ValueError, TypeError: if t_max is below 2 or not a finite number, or a gate is not one of the
        G, or the two are the same; when called, if the shape is not `[H]`.

    Example:
      >>> import jax, recurrax as rx
      >>> chrono = rx.cures.init.chrono(102)
      >>> cell = rx.cells.lstm(1, 4, bias_init=chrono)
      >>> b_i, b_f, b_g, b_o = cell.init(jax.random.key(0)).b.reshape(4, 4)
      >>> [round(1 + float(u), 3) for u in jax.numpy.exp(b_f)]  # steps remembered
      [14.5, 39.5, 64.5, 89.5]
      >>> bool((b_i == -b_f).all())
      True

    Source: Tallec and Ollivier (2018), who draw u at random.
    """
    checks.check_number("t_max", t_max)
    if t_max < 2:
        raise ValueError(f"t_max must be at least 2 steps, got {t_max!r}")
    roles = {"forget_gate": (forget_gate, GateBias("chrono", _log_times, (float(t_max), 1)))}
    if input_gate is not None:
        roles["input_gate"] = (input_gate, GateBias("chrono", _log_times, (float(t_max), -1)))
    return _row(gates, roles)


def _log_times(quantiles: np.ndarray, t_max: float, sign: int) -> Any:
    return sign * np.log(1 + (t_max - 2) * quantiles)


def uniform_gate(*, gates: int = 4, forget_gate: int = 1, refine_gate: int | None = None) -> Row:
    """Forget gates whose values are spread evenly between 0 and 1.

    `b_f = -log(1 / u - 1)`, u uniform in `[1/H, 1 - 1/H]`, so that `sigmoid(b_f) = u`: from units
    that forget at once to one that remembers for some H steps.

    Args:
      gates, forget_gate: as in `rx.cures.init.forget_bias`.
      refine_gate: which of them refines it in a UR-LSTM, and gets `-b_f`; None for a cell without.

    Returns:
      A tuple of G initialisers, for `bias_init`. The units of a gate take the evenly spread
      quantiles of u, unit 0 the least, and the key is not used.

    Raises:
      ValueError, TypeError: if a gate is not one of the G, or the two are the same; when called, if
        the shape is not `[H]`.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.lstm(1, 4, bias_init=rx.cures.init.uniform_gate())
      >>> b_f = cell.init(jax.random.key(0)).b[4:8]
      >>> [round(float(f), 4) for f in jax.nn.sigmoid(b_f)]
      [0.3125, 0.4375, 0.5625, 0.6875]

    Source: Gu et al. (2020), who draw u at random.
    """
    roles = {"forget_gate": (forget_gate, GateBias("uniform_gate", _logits, (1,)))}
    if refine_gate is not None:
        roles["refine_gate"] = (refine_gate, GateBias("uniform_gate", _logits, (-1,)))
    return _row(gates, roles)


def _logits(quantiles: np.ndarray, sign: int) -> Any:
    least = 1 / max(len(quantiles), 1)
    return -sign * np.log(1 / (least + (1 - 2 * least) * quantiles) - 1)


def _row(gates: int, roles: dict[str, tuple[int, Any]]) -> Row:
    """Zeros for each gate but those with a role, `name of the argument -> (gate, initialiser)`."""
    checks.check_positive_int("gates", gates)
    row: list[Initializer] = [ZEROS] * gates
    for name, (gate, init) in roles.items():
        if isinstance(gate, bool) or not isinstance(gate, (int, np.integer)):
            raise TypeError(f"{name} must be the place of a gate, 0 to {gates - 1}, got {gate!r}")
        if not 0 <= gate < gates:
            raise ValueError(f"{name} must be from 0 to gates - 1 = {gates - 1}, got {gate}")
        if row[gate] is not ZEROS:
            names = " and ".join(roles)
            raise ValueError(f"{names} must be two different gates, got {gate} for both")
        row[gate] = init
    return tuple(row)
