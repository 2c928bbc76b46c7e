"""Exponents of large random networks, as the claims have them."""

from __future__ import annotations

import numpy as np

import recurrax as rx
from recurrax.published.exponents import random_networks


def test_rate_networks_agree_and_the_limit_is_that_of_the_integrals():
    (found,) = rx.published.reproduce(["rate-networks"])
    # Rounding decides where chaotic orbits go: five standard errors of one exponent, 0.002.
    distances = [abs(row.ours - row.published) for row in found.rows]
    assert distances[0] < 0.01
    assert distances[1] < 0.025
    assert [row.verdict for row in found.rows[2:]] == 2 * ["agrees"]
    assert found.rows[0].note == "measured before with other code, not published"
    nodes, weights = np.polynomial.hermite_e.hermegauss(300)
    weights, q = weights / weights.sum(), 5.0
    for _ in range(500):
        q = 9 * weights @ np.tanh(q**0.5 * nodes) ** 2
    slope = np.cosh(q**0.5 * nodes) ** -2.0
    published = {row.what: row.published for row in found.rows}
    first = np.log(3 * np.sqrt(weights @ slope**2))
    np.testing.assert_allclose(published["first exponent"], first, atol=1e-3)
    mean = np.log(3) - 0.5 + weights @ np.log(slope)
    np.testing.assert_allclose(published["mean of all exponents"], mean, atol=1e-3)


def test_forget_biases_agree_and_larger_weights_would_not(monkeypatch):
    (found,) = rx.published.reproduce(["forget-biases"])
    assert [row.verdict for row in found.rows[:2]] == 2 * ["agrees"]
    assert [row.published for row in found.rows] == [-0.44, -0.145, 0.0, 0.003]
    exponents = [row.ours for row in found.rows]
    assert exponents[0] < exponents[1] < -0.05
    np.testing.assert_allclose(exponents[2:], [0.0, 0.003], atol=0.01)  # standard error 0.002
    assert {row.note for row in found.rows} == {"measured before with other code, not published"}
    uniform = random_networks._uniform
    monkeypatch.setattr(random_networks, "_uniform", lambda bound: uniform(2 * bound))
    (other,) = rx.published.reproduce(["forget-biases"])
    assert other.rows[0].verdict == "differs"  # those that hardly forget hardly change
