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
from close import assert_same, says

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


@pytest.mark.parametrize("size", [1e-37, 0.5, 2.0, 1e19, 1e25, 3e38])
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
        ((True,), {}, TypeError, "max_norm must be a number, got True"),
        ((1j,), {}, TypeError, "max_norm must be a number, got 1j"),
        ((np.ones(1),), {}, TypeError, "max_norm must be a number, got array([1.])"),
        ((10**5000,), {}, ValueError, "max_norm must be finite, got an integer beyond every float"),
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


@pytest.mark.parametrize("max_norm", [2, np.array(2.0), np.int8(2), jnp.array(2), jnp.bfloat16(2)])
def test_any_concrete_number_is_a_maximum(max_norm):
    g = {"w": jnp.array([30.0, 40.0])}
    for name in ("clip_by_global_norm", "clip_by_zscore", "clip_by_percentile", "skip_spikes"):
        cure, same = getattr(rx.cures, name)(max_norm), getattr(rx.cures, name)(2.0)
        assert_same(cure.update(g, cure.init(g)), same.update(g, same.init(g)))
    cell = rx.cells.gru(1, 2)
    wrapped = rx.cures.clip_state_gradient(cell, max_norm=max_norm)
    assert wrapped == rx.cures.clip_state_gradient(cell, max_norm=2.0)


def test_a_traced_maximum_is_refused():
    text = (
        "max_norm must be a number that is known when compiling, got a traced value: make it a "
        "Python float outside of jax.jit"
    )
    with says(TypeError, text):
        jax.jit(lambda most: clip({"w": jnp.ones(2)}, most)[0])(1.0)


@pytest.mark.parametrize("name", ["clip_by_global_norm", "skip_spikes"])
@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool"])
def test_updates_that_are_not_floating_are_named(name, dtype):
    cure = getattr(rx.cures, name)(2.0)
    updates = {"w": jnp.ones(2), "n": jnp.ones(3, dtype)}
    text = (
        f"updates['n'] must be a floating-point array, got {dtype}[3]: take gradients by "
        "floating-point parameters alone, or leave the others out with optax.masked"
    )
    with says(TypeError, text):
        cure.update(updates, cure.init(updates))
    cure = optax.masked(cure, {"w": True, "n": False})
    assert cure.update(updates, cure.init(updates))[0]["n"] is updates["n"]
