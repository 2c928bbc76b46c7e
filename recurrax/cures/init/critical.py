"""The edge of chaos: of a tanh network by mean-field theory, of any other cell by measuring."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax import checks, keys
from recurrax.cell import check_cell
from recurrax.cures.calibration.calibrate import calibrate
from recurrax.cures.init.matrices import (
    GateBlocks,
    check_base,
    check_size,
    draw_base,
    draw_orthogonal,
    initialiser,
)
from recurrax.gated.cell import ORTHOGONAL, Initializer
from recurrax.words import short

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell

_MOST = 1e12  # the largest variance for which the search below has been tried


@dataclasses.dataclass(frozen=True, repr=False)
class Critical(GateBlocks):
    """What `critical` returns: an initialiser that tells the point it is at."""

    gain: float = 1.0  # sigma_w, so that a weight has variance `sigma_w^2 / H`; or as measured
    q: float | None = 0.0  # the variance of a pre-activation at the fixed point
    call: str = dataclasses.field(default="", compare=False)

    def __repr__(self) -> str:
        """The call that makes it."""
        return self.call


def critical(
    cell: Cell | None = None,
    xs: Any = None,
    *,
    input_variance: float = 0.0,
    bias_variance: float = 0.0,
    distribution: str = "normal",
    gain: float | None = None,
    base: Initializer = ORTHOGONAL,
    gates: int = 1,
    mask: chex.Array | None = None,
    seeds: int = 3,
    key: chex.PRNGKey | None = None,
) -> Any:
    """Recurrent weights at which gradients neither vanish nor explode.

    **Of a tanh Elman network**, in closed form. The variance q of a pre-activation settles where
    `q = sigma_w^2 E[tanh(sqrt(q) z)^2] + v`, z standard normal, v what inputs and biases add. There
    a small perturbation grows in each step by the factor `chi = sigma_w^2 E[tanh'(sqrt(q) z)^2]` in
    mean square. This is the sigma_w for which chi is 1: gradients neither vanish nor explode on
    average, H -> infinity. Without inputs and biases it is 1; the more they saturate the units, the
    larger.

    **Of any cell with gates**, given with data: its own recurrent initialiser times the gain at
    which the measured rate of decay is 0, by `rx.cures.calibrate`.

    Args:
      cell: a `Cell` of `rx.gated_cell` or `rx.cells`, to be measured; None for the closed form.
      xs: the inputs `[T, *batch, I]` on which it is measured.
      input_variance: of `x_t @ w_in` over units, examples and time; for LeCun's w_in, the mean
        square of an input feature.
      bias_variance: of b over units; 0 for the cells' default.
      distribution: `"normal"`, i.i.d. of variance `sigma_w^2 / H`, or `"orthogonal"` times sigma_w,
        which has the same q and chi and all singular values equal.
      gain: a factor that is known, as a measured one prints; of what `base` draws.
      base: the initialiser that such a gain is a factor of; orthogonal by default.
      gates: how many blocks `[H, H]` stand side by side; 1 within a cell.
      mask: bool `[T, *batch]`, of the steps of xs that count.
      seeds: how many draws of the cell's params are measured; the gain is the mean of theirs.
      key: from which they are drawn; by default one that no user has, always the same.

    Returns:
      An initialiser `(key, shape, dtype) -> array` for `recurrent_init`, whose `gain` is sigma_w
      and whose `q` is the fixed point. Of a measured cell `gain` is the factor and q is None, and
      where it draws its gates by different initialisers there is a tuple of them, one a gate.

    Raises:
      ValueError, TypeError: if a variance is negative, not a number or above 1e12, distribution
        unknown, or gates not a positive integer; if cell has no recurrent initialiser, is given
        without xs; if what is for one way to find the gain is given beside another; as
        `rx.cures.calibrate` does; when called, if the blocks are not square.

    Example:
      >>> import jax, recurrax as rx
      >>> init = rx.cures.init.critical(input_variance=1.0)
      >>> round(init.gain, 4), round(init.q, 4)
      (1.8556, 3.0364)
      >>> cell = rx.cells.elman(16, 64, recurrent_init=init)
      >>> cell.init(jax.random.key(0)).w_rec.shape
      (64, 64)
      >>> xs = jax.random.normal(jax.random.key(1), (40, 4, 2))
      >>> init = rx.cures.init.critical(rx.cells.gru(2, 8), xs, seeds=1)
      >>> cell = rx.cells.gru(2, 8, recurrent_init=init)
      >>> init == rx.cures.init.critical(gain=init.gain)
      True

    Source: Poole et al. (2016), Schoenholz et al. (2017); for recurrent networks, Chen, Pennington
    and Schoenholz (2018). The gain of other cells is measured.
    """
    variances = {"input_variance": input_variance, "bias_variance": bias_variance}
    closed = [name for name, value in variances.items() if value]
    closed += [] if distribution == "normal" else ["distribution"]
    for name, given in (("cell", cell is not None), ("gain", gain is not None)):
        if given and closed:
            raise ValueError(
                f"{name} and {closed[0]} are two ways to find the gain: leave one of them out"
            )
    check_base(base)
    if gain is None and base != ORTHOGONAL:
        raise ValueError("base is what a known gain is a factor of: leave it out, or give gain")
    if cell is not None:
        if gain is not None:
            raise ValueError("the gain of cell is measured: leave out gain, or cell and xs")
        return _measured(cell, xs, mask, seeds, key, gates)
    if xs is not None:
        raise ValueError("xs is what a cell is measured on: give the cell too, critical(cell, xs)")
    for name, given in (
        ("mask", mask is not None),
        ("seeds", seeds != 3),
        ("key", key is not None),
    ):
        if given:
            raise ValueError(f"{name} is for a cell that is measured: leave it out, or give a cell")
    if gain is not None:
        check_size("gain", gain)
        return _scaled(float(gain), base, gates)
    return _closed_form(variances, distribution, gates)


def _closed_form(variances: dict[str, float], distribution: str, gates: int) -> Critical:
    for name, value in variances.items():
        checks.check_number(name, value)
        if not 0 <= value <= _MOST:
            raise ValueError(f"{name} must be from 0 to {_MOST:.0e}, got {value!r}")
    checks.check_choice("distribution", distribution, ("normal", "orthogonal"))
    draw = _draw_normal if distribution == "normal" else draw_orthogonal
    gain, q = _critical_point(float(sum(variances.values())))
    words = [f"{name}={short(value)}" for name, value in variances.items() if value]
    words += [] if distribution == "normal" else [f"distribution={distribution!r}"]
    words += [] if gates == 1 else [f"gates={gates}"]
    call = f"critical({', '.join(words)})"
    return Critical("critical", draw, (gain,), gates, gain=gain, q=q, call=call)


# --- measured -------------------------------------------------------------------------------------


def _measured(cell: Any, xs: Any, mask: Any, seeds: int, key: Any, gates: int) -> Any:
    """The recurrent initialiser of a cell, or those of its gates, times the gain that it needs."""
    check_cell("critical", cell)
    inits = getattr(cell.init, "recurrent_init", None)
    if inits is None:
        raise TypeError(
            f"critical makes the recurrent_init of one cell of rx.gated_cell or rx.cells, and "
            f"{cell} has none: take the cells of a stack one by one, and for params that are drawn "
            "in another way rx.cures.calibrate"
        )
    if xs is None:
        raise ValueError(
            "cell needs xs, the inputs [T, *batch, I] on which its gain is measured: "
            "critical(cell, xs)"
        )
    if gates != 1:
        raise ValueError(f"gates must be 1 for a cell, which asks gate by gate, got {gates!r}")
    checks.check_positive_int("seeds", seeds)
    key = keys.own(keys.CRITICAL) if key is None else key
    checks.check_key(key)
    params = jax.vmap(cell.init)(jax.random.split(key, seeds))
    gain = float(np.mean(calibrate(cell, params, xs, mask=mask).adjusted))
    row = tuple(_scaled(gain, init, 1) for init in inits)
    return row[0] if len(set(row)) == 1 else row


def _scaled(gain: float, base: Initializer, gates: int) -> Critical:
    shown = [f"gain={short(gain)}"] + ([] if base == ORTHOGONAL else [f"base={initialiser(base)}"])
    shown += [] if gates == 1 else [f"gates={gates}"]
    call = f"critical({', '.join(shown)})"
    made = (gain, base), gates, False
    return Critical("critical", _draw_scaled, *made, gain=gain, q=None, call=call)


def _draw_scaled(
    key: chex.PRNGKey, shape: tuple[int, int], dtype: Any, gain: float, base: Initializer
) -> chex.Array:
    return draw_base(key, shape, dtype, base) * gain


# --- in closed form -------------------------------------------------------------------------------


def _draw_normal(key: chex.PRNGKey, shape: tuple[int, int], dtype: Any, gain: float) -> chex.Array:
    return jax.random.normal(key, shape, dtype) * (gain / shape[0] ** 0.5)


@functools.cache
def _critical_point(variance: float) -> tuple[float, float]:
    """sigma_w and q where chi is 1: the root of `q - E[phi^2] / E[phi'^2] - v`, which rises in q.

    Near 0 it is `4/3 q^3 - v`, for large q about `q - 1.9 sqrt(q) - v`.
    """
    if variance == 0:
        return 1.0, 0.0
    from scipy.optimize import brentq  # here, since it takes longer to load than all cures together

    def excess(q: float) -> float:
        square, slope = _moments(q)
        return q - square / slope - variance

    # To the last bits, whatever the size of q.
    most = variance + 4 * variance**0.5 + 4
    q = float(brentq(excess, variance, most, xtol=1e-300, rtol=1e-15))
    return float(_moments(q)[1] ** -0.5), q


def _moments(q: float) -> tuple[float, float]:
    """`E[tanh(u)^2]` and `E[tanh'(u)^2]`, u normal of variance q, by the trapezoid rule.

    It converges exponentially for functions so smooth (Gauss and Hermite's does not where q is
    large, since tanh has poles at `+-i pi/2`). The grid covers ten standard deviations, or where
    `tanh' = sech^2` is above 1e-17, whichever is less.
    """
    deviation = q**0.5
    reach = min(10 * deviation, 20.0)
    u, step = np.linspace(-reach, reach, 401, retstep=True)
    weight = np.exp(-0.5 * (u / deviation) ** 2) * (step / deviation / np.sqrt(2 * np.pi))
    slope = np.cosh(u) ** -2.0
    # Where the grid does not reach, tanh^2 is 1; where it does, 1 less the rest would cancel.
    square = np.sum(weight * np.tanh(u) ** 2) if reach < 20 else 1 - np.sum(weight * slope)
    return float(square), float(np.sum(weight * slope**2))
