"""Recurrent weights drawn gate by gate: orthogonal, the identity, or any others scaled exactly."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.flow.numbers.scaled import rescale
from recurrax.gated.cell import LECUN_NORMAL, Initializer
from recurrax.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import chex


@dataclasses.dataclass(frozen=True)
class GateBlocks:
    """An initialiser of a matrix for each of G gates, side by side on the last axis.

    It is equal to another that draws with the same function and arguments.
    """

    name: str  # as the user calls it
    draw: Callable[..., chex.Array]  # draw(key, shape, dtype, *arguments), the block of one gate
    arguments: tuple[Any, ...]
    gates: int
    square: bool = True  # whether each block must be `[H, H]`

    def __post_init__(self) -> None:
        checks.check_positive_int("gates", self.gates)

    def __repr__(self) -> str:
        """The call that makes it."""
        words = []
        for value in self.arguments:
            if not callable(value):
                words.append(short(value))
            elif value != LECUN_NORMAL:  # the default of every `base`
                words.append(f"base={initialiser(value)}")
        words += [] if self.gates == 1 else [f"gates={self.gates}"]
        return f"{self.name}({', '.join(words)})"

    def __call__(self, key: chex.PRNGKey, shape: Sequence[int], dtype: Any = None) -> chex.Array:
        """Return the matrix, drawn in float32 at least: in half precision factorisations fail."""
        shape, name, gates = tuple(shape), self.name, self.gates
        if len(shape) != 2 or shape[-1] % gates:
            raise ValueError(
                f"{name} with gates={gates} makes a matrix [rows, {gates} * columns], got shape "
                f"{shape}. Give it as recurrent_init, not as bias_init; a cell asks for one gate "
                "at a time, so there leave gates at 1."
            )
        block = (shape[0], shape[1] // gates)
        if self.square and block[0] != block[1]:
            raise ValueError(
                f"{name} makes square blocks [H, H], got {block} from shape {shape} with "
                f"gates={gates}. Give it as recurrent_init; a whole [H, G*H] takes gates=G."
            )
        dtype = checks.floating_dtype(dtype)
        if 0 in shape:  # nothing to draw, and no variance to scale
            return jnp.zeros(shape, dtype)
        wide = jnp.promote_types(dtype, jnp.float32)
        # One gate is drawn from the key itself, as the initialisers of JAX do.
        keys = [key] if gates == 1 else jax.random.split(key, gates)
        return jnp.concatenate(
            [self.draw(k, block, wide, *self.arguments) for k in keys], -1
        ).astype(dtype)


def orthogonal(gain: float = 1.0, *, gates: int = 1) -> Initializer:
    """Orthogonal weights, so that every singular value of a gate's block is the gain.

    `W = gain Q`, `Q^T Q = 1`, Q uniform over the orthogonal group. A matrix that is not square gets
    orthonormal rows or columns, whichever there are fewer of.

    Args:
      gain: of every direction; 0 or above.
      gates: how many blocks stand side by side on the last axis, each orthogonal by itself: 1
        within a cell, which asks gate by gate; G for a whole `[H, G*H]`, since an orthogonal joint
        matrix would give each gate a gain of `sqrt(1 / G)`.

    Returns:
      An initialiser `(key, shape, dtype) -> array`. Drawn in float32 at least, then cast.

    Raises:
      ValueError, TypeError: if gain is negative or not a number, or gates not a positive integer;
        when called, if the shape is not a matrix of that many blocks.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.lstm(3, 8, recurrent_init=rx.cures.init.orthogonal(0.5))
      >>> w_f = cell.init(jax.random.key(0)).w_rec[:, 8:16]
      >>> bool(jnp.allclose(w_f.T @ w_f, 0.25 * jnp.eye(8), atol=1e-6))
      True

    Source: Saxe, McClelland and Ganguli (2014); for recurrent networks, Henaff, Szlam and
    LeCun (2016).
    """
    check_size("gain", gain)
    return GateBlocks("orthogonal", draw_orthogonal, (float(gain),), gates, square=False)


def draw_orthogonal(
    key: chex.PRNGKey, shape: tuple[int, int], dtype: Any, gain: float
) -> chex.Array:
    return jax.nn.initializers.orthogonal(gain)(key, shape, dtype)


def identity(scale: float = 1.0, *, gates: int = 1) -> Initializer:
    """The identity, times a scale: with a relu, the IRNN.

    `W = scale 1`: a state that meets no input stays as it is, and its gradient with it.

    Args:
      scale: of the identity; below 1 the network forgets at that rate.
      gates: how many blocks `[H, H]` stand side by side; 1 within a cell.

    Returns:
      An initialiser `(key, shape, dtype) -> array`; the key is not used.

    Raises:
      ValueError, TypeError: if scale is not a finite number, or gates not a positive integer;
        when called, if the blocks are not square.

    Example:
      >>> import jax, recurrax as rx
      >>> irnn = rx.cells.elman(2, 3, activation="relu", recurrent_init=rx.cures.init.identity())
      >>> irnn.init(jax.random.key(0)).w_rec.tolist()
      [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Source: Le, Jaitly and Hinton (2015).
    """
    checks.check_number("scale", scale)
    return GateBlocks("identity", _draw_identity, (float(scale),), gates)


def _draw_identity(
    key: chex.PRNGKey, shape: tuple[int, int], dtype: Any, scale: float
) -> chex.Array:
    del key
    return jnp.asarray(scale, dtype) * jnp.eye(*shape, dtype=dtype)


def spectral_radius(rho: float, *, base: Initializer = LECUN_NORMAL, gates: int = 1) -> Initializer:
    """Weights scaled to a spectral radius, as echo state networks are.

    `W = rho W_0 / max |eigenvalue(W_0)|`, gate by gate. It decides how a *linear* network grows in
    the long run; over few steps a largest singular value above it can still stretch a gradient.

    Args:
      rho: the largest absolute eigenvalue of each block; 0 or above.
      base: the initialiser of W_0; LeCun normal by default.
      gates: how many blocks `[H, H]` stand side by side; 1 within a cell.

    Returns:
      An initialiser `(key, shape, dtype) -> array`. A block of radius 0, zeros or nilpotent, cannot
      be scaled and comes back as `base` drew it.

    Raises:
      ValueError, TypeError: if rho is negative or not a number, base not an initialiser, or gates
        not a positive integer; when called, if the blocks are not square.

    Example:
      >>> import jax, numpy as np, recurrax as rx
      >>> cell = rx.cells.elman(3, 64, recurrent_init=rx.cures.init.spectral_radius(0.9))
      >>> bounds = rx.flow.bounds(cell, cell.init(jax.random.key(0)))
      >>> round(float(bounds.spectral_radius[0]), 4)
      0.9

    Source: Jaeger (2001). The radius is found as `||W^n||^(1/n)` (Gelfand) by repeated squaring,
    which needs no eigenvalues and so runs on every device and inside `jax.jit`.
    """
    check_size("rho", rho)
    check_base(base)
    return GateBlocks("spectral_radius", _draw_of_radius, (float(rho), base), gates)


def _draw_of_radius(
    key: chex.PRNGKey, shape: tuple[int, int], dtype: Any, rho: float, base: Initializer
) -> chex.Array:
    block = draw_base(key, shape, dtype, base)
    unit, _ = rescale(block)  # so that the log below is a small number
    log_radius = _log_spectral_radius(unit)
    dead = jnp.isneginf(log_radius)
    scale = rho * jnp.exp(-jnp.where(dead, 0.0, log_radius))
    return jnp.where(dead, block, unit * scale.astype(dtype))


def _log_spectral_radius(matrix: chex.Array) -> chex.Array:
    """`log ||A^n|| / n` at an n so large that the rest is rounding; -inf for a nilpotent matrix.

    n = 2^m after m squarings. With `A = 2^e0 M0` and `M_k^2 = 2^e_k M_{k+1}` it is
    `log 2 (e0 + e1 / 2 + e2 / 4 + ...)`, so that the rounding of the k-th square counts for `2^-k`
    of itself.
    """
    matrix, exponent = rescale(matrix)
    log2 = exponent.astype(matrix.dtype)

    def body(k: Any, carry: Any) -> Any:
        matrix, log2 = carry
        matrix, exponent = rescale(jnp.matmul(matrix, matrix, precision="highest"))
        return matrix, log2 + jnp.ldexp(exponent.astype(matrix.dtype), -k - 1)

    squarings = jnp.finfo(matrix.dtype).nmant + 8  # the norm of A^n counts for 2^-m of its log
    matrix, log2 = jax.lax.fori_loop(0, squarings, body, (matrix, log2))
    return jnp.where(jnp.any(matrix != 0), log2 * math.log(2), -jnp.inf)


def largest_singular_value(
    sigma: float, *, base: Initializer = LECUN_NORMAL, gates: int = 1
) -> Initializer:
    """Weights scaled to a largest singular value.

    `W = sigma W_0 / max singular value of W_0`, gate by gate. In a tanh or relu Elman network
    `sigma < 1` is sufficient for the gradient to vanish, `sigma > 1` necessary for it to explode.

    Args:
      sigma: the largest singular value of each block; 0 or above.
      base: the initialiser of W_0; LeCun normal by default.
      gates: how many blocks stand side by side; 1 within a cell.

    Returns:
      An initialiser `(key, shape, dtype) -> array`. A block of zeros stays zero.

    Raises:
      ValueError, TypeError: if sigma is negative or not a number, base not an initialiser, or
        gates not a positive integer; when called, if the shape is not a matrix of that many blocks.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.elman(3, 64, recurrent_init=rx.cures.init.largest_singular_value(0.9))
      >>> rx.flow.bounds(cell, cell.init(jax.random.key(0))).vanishing_guaranteed
      True

    Source: section 2.1 of Pascanu, Mikolov and Bengio (2013).
    """
    check_size("sigma", sigma)
    check_base(base)
    arguments = (float(sigma), base)
    return GateBlocks("largest_singular_value", _draw_of_norm, arguments, gates, square=False)


def _draw_of_norm(
    key: chex.PRNGKey, shape: tuple[int, int], dtype: Any, sigma: float, base: Initializer
) -> chex.Array:
    block, _ = rescale(draw_base(key, shape, dtype, base))
    norm = jnp.linalg.norm(block, 2)
    return block * (sigma / jnp.where(norm == 0, 1.0, norm)).astype(dtype)


# --- shared ---------------------------------------------------------------------------------------


def initialiser(value: Any) -> str:
    """The name of an initialiser; `orthogonal()` returns one called `orthogonal.<locals>.init`."""
    return str(getattr(value, "__qualname__", repr(value))).split(".<locals>")[0]


def draw_base(
    key: chex.PRNGKey, shape: tuple[int, int], dtype: Any, base: Initializer
) -> chex.Array:
    block = base(key, shape, dtype)
    checks.check_initialized(base, block, shape)
    return jnp.asarray(block, dtype)


def check_base(base: Any) -> None:
    if not callable(base):
        raise TypeError(
            "base must be an initialiser (key, shape, dtype) -> array, such as "
            f"jax.nn.initializers.lecun_normal(), got {base!r}"
        )


def check_size(name: str, value: Any) -> None:
    checks.check_number(name, value)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")
