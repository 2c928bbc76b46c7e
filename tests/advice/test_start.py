"""The one number that starts are ranked by, and what it is made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.advice.outcome import Start
from recurrax.advice.start import clip_level, distance, measure


def a_start(**changed) -> Start:
    fields = {"rate": 0.0, "horizon": np.inf, "growth": 0.0, "spread": 0.0, "gradient_norm": 1.0}
    return Start(**{name: np.full(3, value) for name, value in (fields | changed).items()})


@pytest.mark.parametrize(
    ("changed", "nats"),
    [
        ({}, 0),
        ({"horizon": 50.0}, np.log(100 / 50)),
        ({"horizon": 200.0}, 0),  # longer than wanted is no fault
        ({"growth": 5.0}, 5 - np.log(20)),
        ({"growth": -50.0}, 0),  # the horizon says that
        ({"spread": 1.5}, 1.5),
        ({"gradient_norm": 200.0}, np.log(10)),
        ({"horizon": 0.0}, np.inf),
        ({"horizon": np.nan}, np.inf),
    ],
)
def test_distance_counts_each_fault_in_nats(changed, nats):
    assert distance(a_start(**changed), 100.0) == pytest.approx(nats)


def test_seeds_that_differ_are_farther():
    uneven = a_start()._replace(spread=np.array([0.0, 1.0, 2.0]))
    assert distance(uneven, 10.0) == pytest.approx(1 + np.std([0, 1, 2]))


def test_an_orthogonal_linear_network_is_at_no_distance():
    """All its singular values are 1 at any time, so each of the numbers is known."""

    def step(params, state, x):
        state = state @ params + x
        return state, state

    cell = rx.Cell(
        init=lambda key: jax.nn.initializers.orthogonal()(key, (6, 6)),
        initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 6)),
        step=step,
    )
    net = rx.train.network(cell, 1, 6)
    params = jax.vmap(net.init)(jax.random.split(jax.random.key(0), 2))
    xs = 0.01 * jax.random.normal(jax.random.key(1), (30, 4, 6))
    batch = rx.tasks.Batch(xs, jnp.zeros((30, 4, 1)), jnp.ones((30, 4)))
    found = measure(net, params, batch, rx.tasks.squared_error)
    np.testing.assert_allclose(found.growth, 0, atol=1e-4)
    np.testing.assert_allclose(found.spread, 0, atol=1e-4)
    np.testing.assert_allclose(found.rate, 0, atol=1e-5)
    first = jax.tree.map(lambda leaf: leaf[0], params)
    gradient = jax.grad(lambda p: rx.tasks.squared_error(net.apply(p, xs), batch))(first)
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(found.gradient_norm[0], norm, rtol=1e-4)
    level = clip_level(net, params, (batch, batch), rx.tasks.squared_error)
    assert level == pytest.approx(np.quantile(found.gradient_norm, 0.9), rel=0.05)
