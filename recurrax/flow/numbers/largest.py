"""The largest singular value of a matrix, proven, at a fraction of the price of an SVD.

The decay asks for the norm of every partial product, whose top singular vector barely moves from
one step to the next. So a few Lanczos steps from the last vector find the largest eigenvalue
theta of the Gram matrix G. Lanczos alone could settle on a smaller one; a Cholesky factor of
`theta (1 + slack) I - G` exists only if no eigenvalue is larger, so its existence is the proof.
Where it fails, a dense eigenvalue solver answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from recurrax import keys
from recurrax.flow.numbers.factors import one_at_a_time

if TYPE_CHECKING:
    import chex

DENSE = 24  # up to this size an SVD is cheaper
_KRYLOV = 12  # Lanczos vectors between restarts
_RESTARTS = 8
_BLOCK = 64  # the largest matrix that LAPACK factors in one thread
_TRIANGLE = 16  # and solves with
_ONCE = (
    "flow.decay has first derivatives only, since the vector behind a spectral norm is not "
    "differentiated. For second derivatives multiply flow.jacobians yourself."
)


def first_guess(size: int, dtype: jnp.dtype) -> chex.Array:
    """Return a vector that no structure of a network singles out."""
    guess = jax.random.normal(keys.own(keys.GUESS), (size,), jnp.float32)
    return (guess / jnp.linalg.norm(guess)).astype(dtype)


def largest_singular_value(a: chex.Array, guess: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Return the spectral norm of a matrix, to `4 sqrt(n) eps` of itself, n the shorter side.

    Args:
      a: a matrix `[R, C]` with entries of order one.
      guess: a vector `[min(R, C)]` near the top singular vector of the shorter side; from call to
        call, the one that was returned.

    Returns:
      The norm, and that singular vector. The norm has a derivative, the vector none.
    """
    tall = a if a.shape[0] >= a.shape[1] else a.T
    with jax.default_matmul_precision("highest"):  # accelerators round to ten bits otherwise
        norm, vector = _norm(tall, jax.lax.stop_gradient(guess))
    return norm, jax.lax.stop_gradient(vector)


@jax.custom_jvp
def _norm(a: chex.Array, guess: chex.Array) -> tuple[chex.Array, chex.Array]:
    norm, vector = _norm_and_vector(no_derivative(a, _ONCE), guess)
    return norm, vector


@_norm.defjvp
def _norm_jvp(primals: tuple, tangents: tuple) -> tuple:  # type: ignore[type-arg]
    (a, guess), (da, _) = primals, tangents
    norm, vector = _norm(a, guess)
    v = no_derivative(_polished(a, norm, vector), _ONCE)
    # d sigma = u' dA v with A v = sigma u. At sigma = 0 there is no direction; zero is a choice.
    d_norm = jnp.dot(a @ v, da @ v) / jnp.where(norm == 0, 1.0, norm)
    return (norm, vector), (d_norm, jnp.zeros_like(vector))


def _polished(a: chex.Array, norm: chex.Array, v: chex.Array) -> chex.Array:
    """Return the top vector, once more as accurate: `v + (sigma^2 - A'A)^-1 (A'A v - sigma^2 v)`.

    The error of a norm is the square of its vector's, but a derivative needs the vector itself.
    """

    def operator(w: chex.Array) -> chex.Array:
        return norm**2 * (w + v * jnp.dot(v, w)) - a.T @ (a @ w)

    image = a.T @ (a @ v)
    across = image - v * jnp.dot(v, image)
    # Conjugate gradients, since the operator is positive: no factor, and no LAPACK under vmap.
    turn, _ = jax.scipy.sparse.linalg.cg(operator, across, tol=1e-3, maxiter=len(v))
    return v + turn - v * jnp.dot(v, turn)


@one_at_a_time
def _norm_and_vector(a: chex.Array, guess: chex.Array) -> tuple[chex.Array, chex.Array]:
    if a.shape[1] <= DENSE:
        finite = jnp.all(jnp.isfinite(a))  # LAPACK never returns from some infinities
        _, values, rows = jnp.linalg.svd(jnp.where(finite, a, 0.0), full_matrices=False)
        return jnp.where(finite, values[0], jnp.nan), rows[0]
    gram = a.T @ a
    top, vector = _lanczos(gram, guess)
    size = gram.shape[0]
    slack = 4 * size**0.5 * jnp.finfo(gram.dtype).eps
    shifted = top * (1 + slack) * jnp.eye(size, dtype=gram.dtype) - gram
    proven = _has_cholesky(shifted) | (jnp.trace(gram) == 0)

    # A loop of at most one turn: under vmap, where a cond would always run both branches, it
    # still runs only if some example needs it. The matrix goes through the loop and changes in
    # it, or the compiler would hoist its eigenvalues out of the loop and always compute them.
    def dense(carry: tuple) -> tuple:  # type: ignore[type-arg]
        values, vectors = jnp.linalg.eigh(carry[3])
        return jnp.asarray(True), values[-1], vectors[:, -1], jnp.zeros_like(gram)

    start = (proven, top, vector, gram)
    _, top, vector, _ = jax.lax.while_loop(lambda carry: ~carry[0], dense, start)
    return jnp.sqrt(jnp.maximum(top, 0)), vector


def _lanczos(gram: chex.Array, guess: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Return the largest eigenvalue and its vector, by restarted Lanczos."""
    tolerance = 4 * jnp.finfo(gram.dtype).eps

    def unsettled(carry: tuple) -> chex.Array:  # type: ignore[type-arg]
        return (carry[2] > tolerance) & (carry[3] < _RESTARTS)

    def restart(carry: tuple) -> tuple:  # type: ignore[type-arg]
        basis, image = _krylov(gram, carry[1])
        values, vectors = jnp.linalg.eigh(image @ basis.T)
        y = vectors[:, -1]
        length = jnp.linalg.norm(y @ basis)
        length = jnp.where(length == 0, 1.0, length)
        vector, new = y @ basis / length, y @ image / length
        # A Rayleigh quotient, unlike the Ritz value, is never above the largest eigenvalue,
        # however badly the basis was orthogonalised.
        top = jnp.dot(vector, new)
        residual = jnp.linalg.norm(new - top * vector) / top
        gap = (top - values[-2]) / top
        # The error of a Ritz value is at most its residual, and at most residual^2 / gap.
        error = jnp.minimum(residual, residual**2 / jnp.maximum(gap, residual))
        return top, vector, error, carry[3] + 1

    # A little of everything, so that a direction that grows from nothing is found.
    start = guess + 0.03 * first_guess(guess.shape[0], guess.dtype)
    top, error = jnp.zeros((), gram.dtype), jnp.asarray(jnp.inf, gram.dtype)
    return jax.lax.while_loop(unsettled, restart, (top, start, error, 0))[:2]


def _krylov(gram: chex.Array, start: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Return an orthonormal basis `[m, n]` of span(v, G v, G^2 v, ...), and G applied to it."""
    size = start.shape[0]
    empty = jnp.zeros((_KRYLOV, size), gram.dtype)
    noise = 64 * jnp.finfo(gram.dtype).eps

    def extend(i: chex.Array, carry: tuple) -> tuple:  # type: ignore[type-arg]
        basis, image, v = carry
        before = jnp.linalg.norm(v)
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            v = v - (basis @ v) @ basis
        norm = jnp.linalg.norm(v)
        # What is left of a vector inside the span is rounding: the span is invariant, stop there.
        left = norm > noise * before
        v = jnp.where(left, v, 0.0) / jnp.where(left, norm, 1.0)
        new = gram @ v
        return basis.at[i].set(v), image.at[i].set(new), new

    basis, image, _ = jax.lax.fori_loop(0, _KRYLOV, extend, (empty, empty, start))
    return basis, image


def _has_cholesky(matrix: chex.Array) -> chex.Array:
    """Return whether a symmetric matrix has a Cholesky factor, found block column by block column.

    LAPACK takes one thread for blocks this small. For a large matrix it takes all, and they spin
    while they wait for each other: on a busy CPU that costs ten to a hundred times the work.
    """
    while True:
        factor = jax.lax.linalg.cholesky(matrix[:_BLOCK, :_BLOCK], symmetrize_input=False)
        below, rest = matrix[_BLOCK:, :_BLOCK], matrix[_BLOCK:, _BLOCK:]
        if not rest.size:
            return jnp.isfinite(factor[-1, -1])  # a failure is NaN, and stays
        inverse = _inverse(factor)
        panel = below @ inverse.T
        panel = panel + (below - panel @ factor.T) @ inverse.T  # as good as solving with it
        matrix = rest - panel @ panel.T


def _inverse(lower: chex.Array) -> chex.Array:
    """Return the inverse of a lower triangular matrix, from those of its halves."""
    size = lower.shape[0]
    if size <= _TRIANGLE:
        eye = jnp.eye(size, dtype=lower.dtype)
        return jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
    half = size // 2
    a, c = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    corner = -c @ lower[half:, :half] @ a
    return jnp.block([[a, jnp.zeros((half, size - half), lower.dtype)], [corner, c]])


_identity = Primitive("no_derivative")
_identity.def_impl(lambda x, message: x)
_identity.def_abstract_eval(lambda x, message: x)
mlir.register_lowering(_identity, lambda context, x, message: [x])
batching.defvectorized(_identity)


def _refuse(primals: Any, tangents: Any, message: str) -> Any:
    raise NotImplementedError(message)


ad.primitive_jvps[_identity] = _refuse


def no_derivative(tree: Any, message: str) -> Any:
    """Return the arrays as they are, for a use whose derivative is refused with this message.

    It would be a wrong number in silence. `jax.custom_jvp` cannot refuse: within a scan, reverse
    mode drops the rule of what it has already evaluated and differentiates what stands inside. A
    primitive without a derivative always refuses.
    """

    def guard(leaf: Any) -> Any:
        inexact = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        return _identity.bind(leaf, message=message) if inexact else leaf

    return jax.tree.map(guard, tree)
