"""Losses and metrics against NumPy in float64, and where they could go wrong."""

from __future__ import annotations

import close
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.tasks import losses


def classes(seed=0, T=4, B=3, O=5):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(T, B, O)).astype(np.float32) * 3,
        rng.integers(0, O, (T, B)),
        rng.integers(0, 3, (T, B)).astype(np.float32) / 2,
    )


def batch_of(targets, weights):
    return rx.tasks.Batch(
        jnp.zeros((*weights.shape, 1)), jnp.asarray(targets), jnp.asarray(weights)
    )


def test_cross_entropy_and_accuracy_are_weighted_means():
    outputs, targets, weights = classes()
    loss, hits = 0.0, 0.0
    for t, b in np.ndindex(targets.shape):
        row = outputs[t, b].astype(np.float64)
        loss += weights[t, b] * (np.log(np.exp(row).sum()) - row[targets[t, b]])
        hits += weights[t, b] * (row.argmax() == targets[t, b])
    batch = batch_of(targets, weights)
    np.testing.assert_allclose(
        rx.tasks.cross_entropy(outputs, batch), loss / weights.sum(), rtol=1e-6
    )
    np.testing.assert_allclose(rx.tasks.accuracy(outputs, batch), hits / weights.sum(), rtol=1e-6)


def test_squared_error_is_a_weighted_mean():
    outputs, _, weights = classes()
    targets = classes(1)[0]
    error = ((outputs - targets).astype(np.float64) ** 2).mean(-1)
    expected = (weights * error).sum() / weights.sum()
    np.testing.assert_allclose(
        rx.tasks.squared_error(outputs, batch_of(targets, weights)), expected, rtol=1e-6
    )


def test_bits_are_nats_over_ln_2():
    outputs, targets, weights = classes()
    batch = batch_of(targets, weights)
    bits = losses.bits_metrics(outputs, batch)["bits_per_byte"]
    np.testing.assert_allclose(bits * np.log(2), rx.tasks.cross_entropy(outputs, batch), rtol=1e-6)


def test_large_logits_stay_finite():
    outputs = jnp.array([[[1e30, -1e30, 0.0]]])
    batch = batch_of(np.array([[1]]), np.ones((1, 1), np.float32))
    value, gradient = jax.value_and_grad(rx.tasks.cross_entropy)(outputs, batch)
    np.testing.assert_allclose(value, 2e30, rtol=1e-6)
    np.testing.assert_allclose(gradient[0, 0], [1, -1, 0])


def test_half_precision_is_summed_in_float32():
    """4096 errors of 1 are 4096; bfloat16 alone would stop counting at 256."""
    T = 4096
    outputs, targets = jnp.ones((T, 1, 1), jnp.bfloat16), jnp.zeros((T, 1, 1), jnp.bfloat16)
    value = rx.tasks.squared_error(outputs, batch_of(targets, jnp.ones((T, 1), jnp.bfloat16)))
    assert (float(value), value.dtype) == (1.0, jnp.float32)


def test_nothing_asked_for():
    outputs, targets, weights = classes()
    batch = batch_of(targets, 0 * weights)
    value, gradient = jax.value_and_grad(rx.tasks.cross_entropy)(jnp.asarray(outputs), batch)
    assert float(value) == 0
    assert not gradient.any()


def test_what_does_not_count_changes_nothing():
    outputs, targets, weights = classes()
    assert (weights == 0).any()
    other = np.where(weights == 0, 99, targets)
    moved = np.where(weights[..., None] == 0, -7.0, outputs).astype(np.float32)
    a, b = batch_of(targets, weights), batch_of(other, weights)
    for judge in (rx.tasks.cross_entropy, rx.tasks.accuracy):
        assert float(judge(outputs, a)) == float(judge(moved, b))


def test_a_class_out_of_range_is_not_taken_for_another():
    outputs, targets, weights = classes()
    for wrong in (-1, 5):
        spoilt = targets.copy()
        spoilt[np.unravel_index(weights.argmax(), weights.shape)] = wrong
        assert np.isnan(rx.tasks.cross_entropy(outputs, batch_of(spoilt, weights)))


def test_shapes_that_do_not_fit():
    outputs, targets, weights = classes()
    batch = batch_of(targets, weights)
    with close.says(
        ValueError,
        "outputs has shape (4, 5), expected [T, B, O] with [T, B] = (4, 3), as the targets",
    ):
        rx.tasks.cross_entropy(outputs[:, 0], batch)
    with close.says(TypeError, "targets must be integer classes [T, B], got float32"):
        rx.tasks.accuracy(outputs, batch_of(outputs, weights))
    with close.says(
        ValueError,
        "outputs has shape (4, 3, 5), expected [T, B, O] as the targets, (4, 3, 1)",
    ):
        rx.tasks.squared_error(outputs, batch_of(outputs[..., :1], weights))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_what_does_not_count_may_be_anything(bad):
    """As targets or outputs of weight 0, whose square or logarithm is not finite."""
    outputs, targets, weights = classes()
    numbers = classes(1)[0]
    spoil = (weights == 0)[..., None]
    for judge, right in ((rx.tasks.squared_error, numbers), (rx.tasks.cross_entropy, targets)):
        spoilt = np.where(spoil, bad, right).astype(np.float32) if right is numbers else right
        grad = jax.value_and_grad(judge)
        clean = grad(jnp.asarray(outputs), batch_of(right, weights))
        moved = np.where(spoil, bad, outputs).astype(np.float32)
        close.assert_same(grad(jnp.asarray(moved), batch_of(spoilt, weights)), clean)
        assert not np.asarray(clean[1])[spoil[..., 0]].any()


def test_what_counts_is_not_hidden():
    outputs, targets, weights = classes()
    spoilt = np.where((weights > 0)[..., None], np.nan, outputs)
    assert np.isnan(rx.tasks.cross_entropy(spoilt, batch_of(targets, weights)))
    assert np.isnan(rx.tasks.squared_error(spoilt, batch_of(outputs, weights)))
