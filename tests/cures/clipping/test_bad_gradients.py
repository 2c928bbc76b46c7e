"""A gradient of inf, NaN, 1e30, exact 0 and in bfloat16 through every clipping for optimizers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import recurrax as rx

CURES = {
    "clip_by_global_norm": lambda **options: rx.cures.clip_by_global_norm(1.0, **options),
    "clip_by_percentile": lambda **options: rx.cures.clip_by_percentile(50.0, window=8, **options),
    "clip_by_zscore": lambda **options: rx.cures.clip_by_zscore(warmup=2, **options),
    "skip_spikes": lambda **options: rx.cures.skip_spikes(warmup=2, **options),
}
BAD = [np.nan, np.inf, -np.inf]
REMEMBERED = ("history", "seen", "center", "deviation", "run")
every_cure = pytest.mark.parametrize("name", CURES)


def test_the_table_above_is_whole():
    assert set(CURES) == {name for name in rx.cures.__all__ if name.startswith(("clip_by", "skip"))}


def settled(cure, dtype=jnp.float32):
    """The state of a cure after four ordinary updates of norm 1 and .5."""
    state = cure.init(None)
    for size in (1.0, 0.5, 1.0, 0.5):
        _, state = cure.update(jnp.array([size, 0], dtype), state)
    return state


def remembered(state):
    return {name: np.asarray(getattr(state, name)) for name in REMEMBERED if hasattr(state, name)}


@every_cure
@pytest.mark.parametrize("bad", BAD)
def test_not_finite(name, bad):
    g = {"a": jnp.array([3.0, bad]), "b": jnp.array([-4.0])}
    for policy in ("skip", "zero", "propagate"):
        cure = CURES[name](nonfinite=policy)
        before = settled(cure)
        updates, after = cure.update(g, before)
        assert int(after.nonfinite) == 1
        assert int(after.steps) == 5
        if policy == "skip":
            assert all(not leaf.any() for leaf in jax.tree.leaves(updates))
        if policy == "propagate":
            jax.tree.map(np.testing.assert_array_equal, updates, g)
        if policy == "zero":  # what is left is (3, 0), (-4): norm 5
            assert float(after.norm) == 5
            left = np.concatenate([updates["a"], updates["b"]])
            assert np.isfinite(left).all()
            assert left[1] == 0
            np.testing.assert_allclose(left / np.linalg.norm(left), [0.6, 0, -0.8], rtol=1e-6)
        else:
            assert after.clipped == before.clipped
            assert not np.isfinite(after.norm)
            jax.tree.map(np.testing.assert_array_equal, remembered(after), remembered(before))


@every_cure
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_huge(name, dtype):
    g = {"a": jnp.array([3e30, 0], dtype), "b": jnp.array([-4e30], dtype)}
    cure = CURES[name]()
    updates, state = cure.update(g, settled(cure))
    np.testing.assert_allclose(float(state.norm), 5e30, rtol=1e-2)
    assert updates["a"].dtype == dtype
    for leaf in jax.tree.leaves((updates, state)):
        assert not np.isnan(np.asarray(leaf, np.float32)).any()
    left = np.asarray(jnp.concatenate([updates["a"], updates["b"]]), np.float32)
    if name == "skip_spikes":
        assert not left.any()
        assert int(state.skipped) == 1
        return
    expected = {"clip_by_global_norm": 1, "clip_by_percentile": 1.0, "clip_by_zscore": 0.75}[name]
    np.testing.assert_allclose(left, expected * np.array([0.6, 0, -0.8]), rtol=1e-2)
    assert int(state.clipped) > 0


@every_cure
def test_next_to_the_largest_number_again_and_again(name):
    """Norms above the largest float32 are remembered as that, and nothing becomes NaN."""
    cure, state = CURES[name](), None
    state = cure.init(None)
    g = {"w": jnp.full(4, 3e38)}
    for _ in range(5):
        updates, state = cure.update(g, state)
    assert float(state.norm) == np.finfo(np.float32).max
    assert np.isfinite(np.asarray(updates["w"])).all()
    assert not any(np.isnan(np.asarray(leaf)).any() for leaf in jax.tree.leaves(state))


@every_cure
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_exact_zero(name, dtype):
    cure = CURES[name]()
    before = settled(cure)
    g = {"a": jnp.zeros(3, dtype), "none": jnp.zeros((0, 2), dtype)}
    updates, after = cure.update(g, before)
    jax.tree.map(np.testing.assert_array_equal, updates, g)
    assert (float(after.norm), int(after.nonfinite)) == (0, 0)
    assert after.clipped == before.clipped
    jax.tree.map(np.testing.assert_array_equal, remembered(after), remembered(before))
    assert cure.update({}, before)[0] == {}


@every_cure
def test_from_the_first_update_on(name):
    """Before there is any history: NaN, 0, then the first norm, which only a fixed norm clips."""
    cure = CURES[name]()
    state = cure.init(None)
    for g in (jnp.array([np.nan]), jnp.zeros(1), jnp.array([8.0])):
        updates, state = cure.update(g, state)
    assert float(updates[0]) == (1 if name == "clip_by_global_norm" else 8)


@every_cure
def test_params_are_never_nan_after_skip(name):
    optimizer = optax.chain(CURES[name](), optax.adam(0.1))
    params = {"w": jnp.ones(2), "b": jnp.ones(1, jnp.bfloat16)}

    def step(carry, g):
        params, state = carry
        grads = {"w": g[:2], "b": g[2:].astype(jnp.bfloat16)}
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    rows = [[1, 2, 3], [np.nan, 1, 1], [1, np.inf, 1], [0, 0, 0], [1e19, -1e19, 1], [1, 1, -np.inf]]
    gradients = jnp.array(rows * 4, jnp.float32)
    start = (params, optimizer.init(params))
    (_, state), history = jax.jit(lambda g: jax.lax.scan(step, start, g))(gradients)
    for leaf in jax.tree.leaves(history):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()
    assert int(optax.tree.get(state, "nonfinite")) == 12


@pytest.mark.parametrize("name", ["skip_spikes", "clip_by_zscore", "clip_by_percentile"])
def test_a_spike_in_the_warm_up_freezes_adam_unless_it_is_clipped(name):
    """Its square is infinite in float32, so that Adam divides by infinity ever after."""
    cure = getattr(rx.cures, name)()
    moved = []
    for first in ([], [rx.cures.clip_by_global_norm(1.0)]):
        optimizer = optax.chain(*first, cure, optax.adam(0.1))
        state = optimizer.init(jnp.zeros(1))
        for size in (1e20, 0.5, 0.5):
            updates, state = optimizer.update(jnp.array([size]), state)
        moved.append(float(updates[0]))
    assert moved[0] == 0
    assert moved[1] < -0.05
