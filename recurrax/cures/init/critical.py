"""The edge of chaos of a tanh network, by mean-field theory."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax import checks
from recurrax.cures.init.matrices import GateBlocks, draw_orthogonal
from recurrax.words import short

if TYPE_CHECKING:
    import chex

_MOST = 1e12  # the largest variance for which the search below has been tried


@dataclasses.dataclass(frozen=True, repr=False)
class Critical(GateBlocks):
    """What `critical` returns: an initialiser that tells the point it is at."""

    gain: float = 1.0  # sigma_w, so that a weight has variance `sigma_w^2 / H`
    q: float = 0.0  # the variance of a pre-activation at the fixed point
    call: str = dataclasses.field(default="", compare=False)

    def __repr__(self) -> str:
        """The call that makes it."""
        return self.call


def critical(
    *,
    input_variance: float = 0.0,
    bias_variance: float = 0.0,
    distribution: str = "normal",
    gates: int = 1,
) -> Critical:
    """Recurrent weights at the edge of chaos of a tanh Elman network.

    The variance q of a pre-activation settles where `q = sigma_w^2 E[tanh(sqrt(q) z)^2] + v`, z
    standard normal, v what inputs and biases add. There a small perturbation grows in each step by
    the factor `chi = sigma_w^2 E[tanh'(sqrt(q) z)^2]` in mean square. This is the sigma_w for which
    chi is 1: gradients neither vanish nor explode on average, H -> infinity. Without inputs and
    biases it is 1; the more they saturate the units, the larger.

    Args:
      input_variance: of `x_t @ w_in` over units, examples and time; for LeCun's w_in, the mean
        square of an input feature.
      bias_variance: of b over units; 0 for the cells' default.
      distribution: `"normal"`, i.i.d. of variance `sigma_w^2 / H`, or `"orthogonal"` times sigma_w,
        which has the same q and chi and all singular values equal.
      gates: how many blocks `[H, H]` stand side by side; 1 within a cell.

    Returns:
      An initialiser `(key, shape, dtype) -> array`, whose `gain` is sigma_w and whose `q` is the
      fixed point.

    Raises:
      ValueError, TypeError: if a variance is negative, not a number or above 1e12, distribution
        unknown, or gates not a positive integer; when called, if the blocks are not square.

    Example:
      >>> import jax, recurrax as rx
      >>> init = rx.cures.init.critical(input_variance=1.0)
      >>> round(init.gain, 4), round(init.q, 4)
      (1.8556, 3.0364)
      >>> cell = rx.cells.elman(16, 64, recurrent_init=init)
      >>> cell.init(jax.random.key(0)).w_rec.shape
      (64, 64)

    Source: Poole et al. (2016), Schoenholz et al. (2017); for recurrent networks, Chen, Pennington
    and Schoenholz (2018).
    """
    for name, value in (("input_variance", input_variance), ("bias_variance", bias_variance)):
        checks.check_number(name, value)
        if not 0 <= value <= _MOST:
            raise ValueError(f"{name} must be from 0 to {_MOST:.0e}, got {value!r}")
    checks.check_choice("distribution", distribution, ("normal", "orthogonal"))
    draw = _draw_normal if distribution == "normal" else draw_orthogonal
    gain, q = _critical_point(float(input_variance) + float(bias_variance))
    given = {"input_variance": input_variance, "bias_variance": bias_variance}
    words = [f"{name}={short(value)}" for name, value in given.items() if value]
    words += [] if distribution == "normal" else [f"distribution={distribution!r}"]
    words += [] if gates == 1 else [f"gates={gates}"]
    call = f"critical({', '.join(words)})"
    return Critical("critical", draw, (gain,), gates, gain=gain, q=q, call=call)


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
