"""Clipping by the global norm."""

from __future__ import annotations

import re

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import recurrax as rx


def clip(updates, max_norm=1.0, **options):
    transform = rx.cures.clip_by_global_norm(max_norm, **options)
    return transform.update(updates, transform.init(updates))


floats = st.floats(-1e3, 1e3, width=32).filter(lambda v: v == 0 or abs(v) > 1e-3)


@hypothesis.given(hnp.arrays(np.float32, (5,), elements=floats), st.floats(0.01, 100))
def test_agrees_with_optax_where_optax_is_right(g, max_norm):
    tree = {"a": jnp.asarray(g[:2]), "b": jnp.asarray(g[2:])}
    ours, state = clip(tree, max_norm)
    optax_clip = optax.clip_by_global_norm(max_norm)
    theirs, _ = optax_clip.update(tree, optax_clip.init(tree))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(state.norm, np.linalg.norm(g), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-37, 1.0, 1e19, 1e25, 3e38])
def test_huge_and_tiny_finite_values(size):
    g = jnp.array([0.6, -0.8], jnp.float32) * size
    clipped, state = clip({"w": g})
    expected = np.array([0.6, -0.8]) * min(1.0, size)
    np.testing.assert_allclose(clipped["w"], expected, rtol=1e-5)
    assert int(state.clipped) == (size > 1)


def test_zero_and_empty_trees():
    clipped, state = clip({"w": jnp.zeros(3)})
    assert clipped["w"].tolist() == [0, 0, 0]
    assert float(state.norm) == 0
    assert clip({})[0] == {}
    assert clip({"w": jnp.zeros((0, 4))})[0]["w"].shape == (0, 4)


def test_bfloat16_norm_is_summed_in_float32():
    g = jnp.full(10_000, 0.01, jnp.bfloat16)
    clipped, state = clip({"w": g}, 0.5)
    entry = float(g[0])
    np.testing.assert_allclose(state.norm, 100 * entry, rtol=1e-5)
    assert clipped["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(clipped["w"][0], np.float32), 0.005, rtol=1e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_policies_for_non_finite_updates(bad):
    tree = {"w": jnp.array([3.0, bad]), "b": jnp.array([4.0])}
    skipped, state = clip(tree)
    assert all(not leaf.any() for leaf in jax.tree.leaves(skipped))
    assert (int(state.nonfinite), int(state.clipped), int(state.steps)) == (1, 0, 1)
    zeroed, _ = clip(tree, nonfinite="zero")
    np.testing.assert_allclose(zeroed["w"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(zeroed["b"], [0.8], rtol=1e-6)
    through, _ = clip(tree, nonfinite="propagate")
    np.testing.assert_array_equal(through["w"], tree["w"])
    np.testing.assert_array_equal(through["b"], tree["b"])


def test_in_a_chain_under_jit_with_counters_read_by_name():
    optimizer = optax.chain(rx.cures.clip_by_global_norm(1.0), optax.sgd(1.0))
    params = {"w": jnp.zeros(2)}
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, g):
        updates, state = optimizer.update({"w": g}, state, params)
        return optax.apply_updates(params, updates), state

    for g in ([30.0, 40.0], [0.3, 0.4], [np.nan, 0.0]):
        params, state = step(params, state, jnp.array(g))
    np.testing.assert_allclose(params["w"], [-0.9, -1.2], rtol=1e-6)
    counts = [int(optax.tree.get(state, name)) for name in ("clipped", "nonfinite", "steps")]
    assert counts == [1, 1, 3]


def test_share_of_near_and_far_past_is_unchanged():
    g = jnp.array([1e-6, 1e3])
    clipped, _ = clip({"w": g})
    np.testing.assert_allclose(clipped["w"][0] / clipped["w"][1], 1e-9, rtol=1e-5)


@pytest.mark.parametrize(
    ("args", "options", "kind", "text"),
    [
        ((0.0,), {}, ValueError, "max_norm must be above 0, got 0.0"),
        ((np.inf,), {}, ValueError, "max_norm must be finite, got inf"),
        (("1",), {}, TypeError, "max_norm must be a number, got '1'"),
        (
            (1.0,),
            {"nonfinite": "drop"},
            ValueError,
            "nonfinite must be one of 'skip', 'zero', 'propagate'; got 'drop'",
        ),
    ],
)
def test_bad_arguments(args, options, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        rx.cures.clip_by_global_norm(*args, **options)
