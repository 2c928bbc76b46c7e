"""Clipping to a percentile, by the z-score, and leaving out spikes, against loops in NumPy."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import recurrax as rx
from recurrax.cures.clipping.global_norm import clip_counts

# Norms of some size with a few spikes, a rise that lasts, and a zero.
DRAW = np.random.default_rng(0)
SIZES = DRAW.uniform(1, 3, 60).astype(np.float32)
SIZES[[8, 20, 21, 22, 30]] *= 40
SIZES[15] = 0
SIZES[40:] *= 30


def run(cure, sizes):
    """The norms after a cure, and its state, for updates `[size, 0]`; one compiled scan."""

    def step(state, size):
        updates, state = cure.update({"w": jnp.stack([size, 0 * size])}, state)
        return state, (updates["w"][0], state)

    return jax.jit(lambda s: jax.lax.scan(step, cure.init(None), s)[1])(jnp.asarray(sizes))


# --- the loops ----------------------------------------------------------------------------------


def percentiles(sizes, percent, window):
    seen, after = [], []
    for size in sizes:
        seen += [size] if size > 0 else []
        after.append(min(size, np.percentile(seen[-window:], percent)))
    return after


def zscores(sizes, max_z, decay, warmup):
    first, after = [], []
    mean = var = 0.0
    for size in sizes:
        kept = size
        z = (size - mean) / np.sqrt(var) if len(first) >= warmup else 0
        if z > max_z:
            kept = mean + max_z**2 / z * np.sqrt(var)
        after.append(kept)
        if size == 0:
            continue
        if len(first) < warmup:
            first.append(size)
            mean, var = np.mean(first), np.var(first)
        else:
            mean = decay * mean + (1 - decay) * kept
            var = decay * var + (1 - decay) * (kept - mean) ** 2
    return after


def spikes(sizes, factor, window, warmup, most):
    seen, after = [], []
    run = 0
    for size in sizes:
        limit = factor * np.median(seen[-window:]) if len(seen) >= warmup else np.inf
        spike = size > limit
        dropped = spike and run < most
        after.append(0 if dropped else min(size, limit))
        run = run + 1 if dropped else 0
        seen += [size] if size > 0 else []
    return after


# --- the same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "window"), [(10.0, 1000), (50.0, 7), (0.0, 5), (93.0, 16)])
def test_percentile(percent, window):
    after, states = run(rx.cures.clip_by_percentile(percent, window=window), SIZES)
    expected = percentiles(SIZES, percent, window)
    np.testing.assert_allclose(after, expected, rtol=1e-5)
    np.testing.assert_array_equal(states.norm, SIZES)
    assert 0 < states.clipped[-1] < 60
    np.testing.assert_array_equal(np.diff(states.clipped) == 1, (after < SIZES)[1:])


@pytest.mark.parametrize(("max_z", "decay", "warmup"), [(2.5, 0.97, 25), (1.5, 0.8, 4)])
def test_zscore(max_z, decay, warmup):
    after, states = run(rx.cures.clip_by_zscore(max_z, decay=decay, warmup=warmup), SIZES)
    np.testing.assert_allclose(after, zscores(SIZES, max_z, decay, warmup), rtol=2e-4)
    assert int(states.clipped[-1]) == int(np.sum(np.asarray(after) < SIZES)) > 1


@pytest.mark.parametrize(("window", "most"), [(100, 2), (9, 1), (12, 100)])
def test_spikes(window, most):
    after, states = run(
        rx.cures.skip_spikes(5.0, window=window, warmup=5, max_consecutive=most), SIZES
    )
    np.testing.assert_allclose(after, spikes(SIZES, 5.0, window, 5, most), rtol=1e-5)
    dropped = np.sum((np.asarray(after) == 0) & (SIZES > 0))
    shortened = np.sum((np.asarray(after) < SIZES) & (np.asarray(after) > 0))
    assert (int(states.skipped[-1]), int(states.clipped[-1])) == (dropped, shortened)
    assert dropped > 0
    assert (shortened > 0) == (most < 100)


def test_the_largest_percentile_never_clips():
    after, states = run(rx.cures.clip_by_percentile(100.0), SIZES)
    np.testing.assert_array_equal(after, SIZES)
    assert int(states.clipped[-1]) == 0


def test_rounding_of_equal_norms_is_no_spike():
    sizes = np.full(40, 0.7, np.float32)
    sizes[30] = np.nextafter(sizes[30], np.float32(1), dtype=np.float32)
    _, states = run(rx.cures.clip_by_zscore(warmup=5), sizes)
    assert int(states.clipped[-1]) == 0


@pytest.mark.parametrize("name", ["clip_by_percentile", "clip_by_zscore"])
def test_a_lasting_rise_does_not_stop_training(name):
    cure = getattr(rx.cures, name)()
    after, _ = run(cure, np.r_[DRAW.uniform(1, 2, 50), DRAW.uniform(1e6, 2e6, 50)])
    assert float(np.min(after)) > 0.9


# --- as a transformation -------------------------------------------------------------------------

CURES = {
    "ClipState": lambda: rx.cures.clip_by_global_norm(1.0),
    "PercentileState": lambda: rx.cures.clip_by_percentile(50.0, window=8),
    "ZscoreState": lambda: rx.cures.clip_by_zscore(warmup=2),
    "SpikeState": lambda: rx.cures.skip_spikes(2.0, warmup=2),
}


def test_several_in_a_chain_are_read_by_the_names_of_their_states():
    optimizer = optax.chain(*(make() for make in CURES.values()), optax.adam(1e-3))
    params = {"norm": jnp.zeros(2)}  # a name that a cure's field has too
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for size in (1.0, 0.5, 0.9, 40.0):
        _, state = update({"norm": jnp.array([size, 0.0])}, state, params)
    for name in CURES:
        found = optax.tree.get(state, name)
        assert type(found).__name__ == name
        assert int(found.steps) == 4
    assert float(optax.tree.get(state, "ClipState").norm) == 40
    with pytest.raises(KeyError, match="Found multiple values for 'norm'"):
        optax.tree.get(state, "norm")
    # 2 of 4 by the percentile: 1 of 1, .5, .9, 1 with the median .95.
    assert float(rx.cures.clip_fraction(state)) == max(
        int(optax.tree.get(state, name).clipped) / 4 for name in list(CURES)[:3]
    )


@pytest.mark.parametrize("name", CURES)
def test_one_alone_is_read_by_field_and_is_a_tree_of_arrays(name):
    cure = CURES[name]()
    state = cure.init({"w": jnp.zeros(2)})
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert len(clip_counts(state)) == 1
    assert float(rx.cures.clip_fraction(state)) == 0
    _, after = cure.update({"w": jnp.array([3.0, 4.0])}, state)
    same = jax.tree.map(
        lambda a, b: (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, False), state, after
    )
    assert all(jax.tree.leaves(same))
    assert float(optax.tree.get((after, ()), "norm")) == 5
    assert int(optax.tree.get((after, ()), "steps")) == 1


def test_fraction_of_no_cure_and_of_spikes():
    assert float(rx.cures.clip_fraction(optax.adam(1e-3).init(jnp.zeros(2)))) == 0
    skip = rx.cures.skip_spikes(2.0, warmup=1, max_consecutive=1)
    _, states = run(skip, [1.0, 1.0, 9.0, 9.0])
    last = jax.tree.map(lambda a: a[-1], states)
    assert (int(last.skipped), int(last.clipped)) == (1, 1)
    assert float(rx.cures.clip_fraction(last)) == 0.5


def test_under_vmap_each_row_has_its_own_history():
    cure = rx.cures.clip_by_percentile(50.0, window=8)
    sizes = np.stack([SIZES[:12], SIZES[20:32]], 1)
    rows = jax.vmap(lambda s: run(cure, s)[0], 1, 1)(jnp.asarray(sizes))
    for b in range(2):
        np.testing.assert_allclose(rows[:, b], percentiles(sizes[:, b], 50.0, 8), rtol=1e-5)


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "kind", "text"),
    [
        (
            "clip_by_percentile",
            {"percent": -1},
            ValueError,
            "percent must be from 0 to 100, got -1",
        ),
        (
            "clip_by_percentile",
            {"percent": 101.0},
            ValueError,
            "percent must be from 0 to 100, got",
        ),
        ("clip_by_percentile", {"percent": np.nan}, ValueError, "percent must be finite, got nan"),
        ("clip_by_percentile", {"percent": "10"}, TypeError, "percent must be a number, got '10'"),
        (
            "clip_by_percentile",
            {"window": 0},
            ValueError,
            "window must be a positive integer, got 0",
        ),
        ("clip_by_zscore", {"max_z": 0.0}, ValueError, "max_z must be above 0, got 0.0"),
        ("clip_by_zscore", {"max_z": np.nan}, ValueError, "max_z must be finite, got nan"),
        (
            "clip_by_zscore",
            {"decay": 1.0},
            ValueError,
            "decay must be at least 0 and below 1, got 1",
        ),
        ("clip_by_zscore", {"decay": "slow"}, TypeError, "decay must be a number, got 'slow'"),
        ("clip_by_zscore", {"warmup": 0}, ValueError, "warmup must be a positive integer, got 0"),
        ("skip_spikes", {"factor": 1.0}, ValueError, "factor must be above 1, got 1.0"),
        ("skip_spikes", {"factor": "10"}, TypeError, "factor must be a number, got '10'"),
        ("skip_spikes", {"max_consecutive": 0}, ValueError, "max_consecutive must be a positive"),
        (
            "skip_spikes",
            {"window": 5, "warmup": 6},
            ValueError,
            "warmup must be at most window, got warmup 6, window 5",
        ),
        *(
            (name, {"nonfinite": "drop"}, ValueError, "nonfinite must be one of 'skip', 'zero', ")
            for name in ("clip_by_percentile", "clip_by_zscore", "skip_spikes")
        ),
    ],
)
def test_bad_arguments(name, options, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        getattr(rx.cures, name)(**options)
