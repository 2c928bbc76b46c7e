"""Linear networks, whose singular values and exponents are those of their matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from recurrax.flow.lyapunov import lyapunov
from recurrax.flow.spectrum import spectrum
from recurrax.published.claim import Claim, absolute, compared, relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    import chex

    from recurrax.published.claim import Row

SIZE, LENGTH, TIMES = 6, 3_000, (1, 6)


def one_of(matrices: chex.Array, state: chex.Array, x: Any) -> tuple[chex.Array, chex.Array]:
    """`h' = W_x h`."""
    state = matrices[x] @ state
    return state, state


def _exponents(matrices: Any) -> np.ndarray:
    which = jnp.arange(LENGTH) % 3
    found = lyapunov(one_of, jnp.asarray(matrices), jnp.zeros(SIZE), which)
    return np.asarray(found.exponents)


def _log_singular_values(matrices: Any) -> np.ndarray:
    which = jnp.arange(TIMES[-1]) % 3
    found = spectrum(one_of, jnp.asarray(matrices), jnp.zeros(SIZE), which, at=TIMES)
    return np.asarray(found.log_singular_values)


def linear() -> Iterator[Row]:
    """One matrix, an orthogonal one, and three in turn; what is expected is NumPy's."""
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((SIZE, SIZE))
    sizes = np.array([0.97, -0.9, 0.8, -0.7, 0.6, 0.5])
    w = vectors * sizes @ np.linalg.inv(vectors)  # not normal, and of known eigenvalues
    same = [w, w, w]
    exact = absolute(1e-6)
    for at, found in zip(TIMES, _log_singular_values(same), strict=True):
        expected = np.log(np.linalg.svd(np.linalg.matrix_power(w, at), compute_uv=False))
        yield compared(f"W, T = {at}: first log singular value", expected[0], found[0], exact)
        yield _apart(f"W, T = {at}: log singular values", expected, found, exact)
    found = _exponents(same)
    yield compared("W: first exponent", np.log(0.97), found[0], exact)
    yield _apart("W: exponents", np.log(np.abs(sizes)), found, exact)

    turn = np.linalg.qr(draw.standard_normal((SIZE, SIZE)))[0]
    zeros = np.zeros(SIZE)
    for at, found in zip(TIMES, _log_singular_values([turn] * 3), strict=True):
        yield _apart(f"orthogonal W, T = {at}: log singular values", zeros, found, exact)
    yield _apart("orthogonal W: exponents", zeros, _exponents([turn] * 3), exact)

    several = draw.standard_normal((3, SIZE, SIZE)) / SIZE**0.5
    a, b, c = several
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(c @ b @ a))))[::-1] / 3
    found = _exponents(several)
    near = absolute(2e-3)
    yield compared("A, B, C in turn: first exponent", expected[0], found[0], near)
    yield _apart("A, B, C in turn: exponents", expected, found, near)
    volume = np.linalg.slogdet(several)[1].mean()
    yield compared("A, B, C in turn: sum, mean log |det|", volume, found.sum(), relative(1e-5))


def _apart(what: str, expected: np.ndarray, found: np.ndarray, within: Any) -> Row:
    return compared(f"{what}, largest error", 0.0, np.abs(expected - found).max(), within)


LINEAR = Claim(
    "linear-networks",
    "singular values and exponents of linear networks",
    "derived: T = 1 log singular values of W, T large log |eigenvalues|; of A, B, C in turn "
    "log |eigenvalues of C B A| / 3, their sum the mean of log |det| (exact)",
    f"N = {SIZE}, exponents over {LENGTH:,} steps, float64; one draw, not normal",
    linear,
    float64=True,
)
