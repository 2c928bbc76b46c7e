"""The stopping rule, on a problem that nobody has to learn."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.published.training.online import Problem, Sequence, judge, train


def _half(key):
    """An untrained network answers near a half, which is right."""
    xs = jax.random.uniform(key, (4, 1))
    return Sequence(xs, jnp.arange(4) < 3, jnp.array([0.5]))


EASY = Problem(_half, 1, 1, (-3.0, -6.0), tolerance=0.2, mean_error=0.05, last=7)


def test_stops_once_the_last_ones_were_right_with_a_small_mean_error():
    keys = jax.random.split(jax.random.key(0), 2)
    learned = train(EASY, keys, 50)
    np.testing.assert_array_equal(learned.sequences, [7, 7])
    np.testing.assert_array_equal(learned.stopped, [True, True])
    assert learned.errors.shape == (2, 7)
    assert np.all(np.isfinite(learned.errors))
    assert np.any(learned.network.w_out[0] != learned.network.w_out[1])
    judged = judge(EASY, learned.network, jax.random.key(1), 20)
    np.testing.assert_array_equal(judged.wrong, [0, 0])
    assert np.all(judged.mean_error < 0.05)


def test_goes_on_while_an_answer_is_wrong_or_the_mean_error_large():
    keys = jax.random.split(jax.random.key(0), 1)
    never_right = dataclasses.replace(EASY, tolerance=1e-9)
    learned = train(never_right, keys, 12)
    assert (int(learned.sequences[0]), bool(learned.stopped[0])) == (12, False)
    assert int(judge(never_right, learned.network, keys[0], 20).wrong[0]) == 20
    never_small = dataclasses.replace(EASY, mean_error=0.0)
    learned = train(never_small, keys, 12)
    assert (int(learned.right[0]), bool(learned.stopped[0])) == (12, False)
