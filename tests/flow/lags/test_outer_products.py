"""Norms of sums of outer products, against the sums themselves in NumPy."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from recurrax.flow.lags import outer_products
from recurrax.flow.lags.by_lag import Parts
from recurrax.flow.numbers.scaled import Scaled


def rows(length, decay, seed=0):
    """Random `h`, `d` and exponents that fall by `decay` bits a step."""
    rng = np.random.default_rng(seed)
    h, d = (rng.standard_normal((length, size)).astype(np.float32) for size in (5, 7))
    return h, d, np.round(-decay * np.arange(length)).astype(np.int32)


def sums(h, d, exponents, total):
    signals = Scaled(jnp.asarray(d), jnp.asarray(exponents)[:, None])
    found, reliable = outer_products.measured(jnp.asarray(h), signals, Scaled(*total))
    return Parts(*found), reliable


def by_hand(h, d, exponents):
    """Logs of norms and of norms of sums, and cosines; exponents brought near each sum's own."""
    parts = h[:, :, None].astype(np.float64) * d[:, None, :]
    norms = np.linalg.norm(parts, axis=(1, 2))
    with np.errstate(divide="ignore"):
        log_norm = np.log(norms) + exponents * np.log(2)
    log_rest = []
    for t in range(len(h)):
        top = exponents[: t + 1].max()
        weights = 2.0 ** np.maximum(exponents[: t + 1] - top, -1000)
        total = np.tensordot(weights, parts[: t + 1], 1)
        log_rest.append(np.log(np.linalg.norm(total)) + top * np.log(2))
    cosine = np.tensordot(parts, total, 2) / np.where(norms == 0, 1, norms) / np.linalg.norm(total)
    return log_norm, np.asarray(log_rest), cosine, (total, top)


@pytest.mark.parametrize("decay", [0, 0.3, -9.5, 30])
def test_norms_over_hundreds_of_decades(decay):
    h, d, exponents = rows(53, decay)  # three blocks and a piece
    h[20], d[40] = 0, 0
    log_norm, log_rest, cosine, (total, top) = by_hand(h, d, exponents)
    total = (jnp.asarray(total, jnp.float32), jnp.int32(top))
    found, reliable = sums(h, d, exponents, total)
    assert reliable
    np.testing.assert_allclose(found.log_norm, log_norm, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.log_rest, log_rest, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-5)


def test_nothing_at_first():
    h, d, exponents = rows(40, 0)
    h[:18] = 0
    total = (jnp.asarray(h.T @ d), jnp.int32(0))
    found, reliable = sums(h, d, exponents, total)
    assert reliable
    assert np.isneginf(found.log_rest[:18]).all()
    assert np.isfinite(found.log_rest[18:]).all()


def test_parts_that_cancel_are_told():
    h, d, exponents = rows(40, 0)
    h[20:], d[20:] = h[:20], -d[:20]  # what the first half adds the second takes away
    total = (jnp.ones((5, 7)), jnp.int32(0))
    assert not sums(h, d, exponents, total)[1]
