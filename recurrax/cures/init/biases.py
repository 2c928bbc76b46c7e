"""Biases that open the gates of a memory: one initialiser for each gate, in the cell's order.

A cell draws each gate's bias from a key of its own, so a row says what each gate gets, and gates
that must agree unit by unit (`b_i = -b_f`) cannot share random numbers. They share quantiles: the H
units take H evenly spread quantiles of the distribution instead of H draws from it. Which unit gets
which does not matter, since nothing else of a new network tells its units apart.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.gated.cell import ZEROS, Initializer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import chex

Row: TypeAlias = tuple[Initializer, ...]  # one for each gate


# --- a constant ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Constant:
    """An initialiser of one value; equal to another of the same."""

    value: float

    def __call__(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = None) -> Any:
        del key
        return jnp.full(tuple(shape), self.value, checks.floating_dtype(dtype))


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
    return _row(gates, {"forget_gate": (forget_gate, Constant(float(value)))})


# --- chrono -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class LogUniformTime:
    """`sign * log u`, u the evenly spread quantiles of U[1, t_max - 1]."""

    t_max: float
    sign: int

    def __call__(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = None) -> Any:
        del key
        times = 1 + (self.t_max - 2) * _quantiles("chrono", shape)
        return jnp.asarray(self.sign * np.log(times), checks.floating_dtype(dtype))


def chrono(
    t_max: float, *, gates: int = 4, forget_gate: int = 1, input_gate: int | None = 0
) -> Row:
    """Forget gates that remember for times spread evenly up to `t_max`.

    `b_f = log u`, `b_i = -b_f`, u uniform in `[1, t_max - 1]`: a constant gate with this bias
    remembers for `1 / (1 - f) = 1 + u` steps, and lets in `i = 1 - f` of what is new.

    Args:
      t_max: the longest dependency expected, in steps; 2 or above.
      gates: G, how many gates the cell has; the LSTM's 4 by default.
      forget_gate: which of them multiplies the old memory, counted from 0: the LSTM's f and the
        GRU's z are both 1.
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
    roles = {"forget_gate": (forget_gate, LogUniformTime(float(t_max), 1))}
    if input_gate is not None:
        roles["input_gate"] = (input_gate, LogUniformTime(float(t_max), -1))
    return _row(gates, roles)


# --- uniform gates ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class UniformGate:
    """`sign * log(u / (1 - u))`, u the evenly spread quantiles of U[1/H, 1 - 1/H]."""

    sign: int

    def __call__(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = None) -> Any:
        del key
        quantiles = _quantiles("uniform_gate", shape)
        least = 1 / max(len(quantiles), 1)
        u = least + (1 - 2 * least) * quantiles
        return jnp.asarray(-self.sign * np.log(1 / u - 1), checks.floating_dtype(dtype))


def uniform_gate(*, gates: int = 4, forget_gate: int = 1, refine_gate: int | None = None) -> Row:
    """Forget gates whose values are spread evenly between 0 and 1.

    `b_f = -log(1 / u - 1)`, u uniform in `[1/H, 1 - 1/H]`, so that `sigmoid(b_f) = u`: from units
    that forget at once to one that remembers for some H steps.

    Args:
      gates: G, how many gates the cell has; the LSTM's 4 by default.
      forget_gate: which of them multiplies the old memory, counted from 0: the LSTM's f and the
        GRU's z are both 1.
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
    roles = {"forget_gate": (forget_gate, UniformGate(1))}
    if refine_gate is not None:
        roles["refine_gate"] = (refine_gate, UniformGate(-1))
    return _row(gates, roles)


# --- shared -------------------------------------------------------------------------------------


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


def _quantiles(name: str, shape: Sequence[int]) -> np.ndarray:
    """The middles of H equal parts of [0, 1], in float64."""
    if len(shape) != 1:
        raise ValueError(
            f"{name} makes the biases [H] of one gate, got shape {tuple(shape)}. Give it as "
            "bias_init of a cell."
        )
    return (np.arange(shape[0]) + 0.5) / shape[0]
