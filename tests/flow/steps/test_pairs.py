"""The norm that is seen in a Gram matrix, against its eigenvalues."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recurrax.flow.steps.pairs import largest_seen


@pytest.mark.usefixtures("x64")
def test_the_largest_eigenvalue_is_approached_from_below():
    rows = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 9)))

    def norm(rows, guess):
        return largest_seen(jnp.einsum("skn,sln->skl", rows, rows), guess)

    truth = np.linalg.norm(np.asarray(rows), 2, (1, 2))
    seen, guess = norm(rows, jnp.ones((3, 4)))
    assert (seen <= truth).all()
    for _ in range(40):
        seen, guess = norm(rows, guess)
        assert (seen <= truth * (1 + 1e-12)).all()
    np.testing.assert_allclose(seen, truth, rtol=1e-2)  # each time anew a little of everything

    slope = jax.grad(lambda rows: norm(rows, guess)[0].sum())(rows)
    u, _, v = np.linalg.svd(np.asarray(rows), full_matrices=False)
    np.testing.assert_allclose(slope, u[:, :, :1] * v[:, :1], atol=0.1)


def test_nothing_is_seen_where_nothing_is():
    gram = jnp.zeros((2, 3, 3))
    seen, guess = largest_seen(gram, jnp.ones((2, 3)))
    assert (seen == 0).all()
    np.testing.assert_allclose(jnp.linalg.norm(guess, axis=1), 1, rtol=1e-6)
    slope = jax.grad(lambda gram: largest_seen(gram, guess)[0].sum())(gram)
    assert (slope == 0).all()
