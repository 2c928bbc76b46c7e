"""Telling the order of two symbols, in a budgeted form."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recurrax.published.training import pascanu

DATA = pascanu.OfAnyLength(20, 50)


def test_sequences_of_any_length_as_they_are_described():
    lengths = set()
    for seed in range(40):
        batch = DATA(jax.random.key(seed), 50)
        xs, targets, weights = (np.asarray(leaf) for leaf in batch[:3])
        assert xs.shape == (49, 50, 6)
        (length,) = set(weights.argmax(0) + 1)
        lengths.add(int(length))
        np.testing.assert_array_equal(weights.sum(0), 1)
        np.testing.assert_array_equal(xs.sum(-1), np.arange(49)[:, None] < length + 0 * targets)
        symbols = np.where(xs.sum(-1) > 0, xs.argmax(-1), 9)
        for column in symbols.T:
            early, late = np.flatnonzero(column < 2)
            assert length / 10 <= early < 2 * length / 10
            assert 4 * length / 10 <= late < 5 * length / 10
        first, second = (symbols[places, range(50)] for places in _places(symbols))
        np.testing.assert_array_equal(targets[length - 1], 2 * first + second)
    assert min(lengths) >= 20
    assert max(lengths) <= 49
    assert len(lengths) > 12


def _places(symbols):
    return np.array([np.flatnonzero(column < 2) for column in symbols.T]).T


@pytest.mark.parametrize("start", pascanu.STARTS, ids=lambda start: start.name)
def test_starts(start):
    (w_in, w_rec, b), w_out, b_out = jax.tree.map(np.asarray, start.init(jax.random.key(0)))
    assert (w_in.shape, w_rec.shape, w_out.shape) == ((6, 50), (50, 50), (50, 4))
    size = 0.1 if start.name == "basic tanh" else 0.01
    np.testing.assert_allclose([w_in.std(), w_out.std()], size, rtol=0.2)
    np.testing.assert_array_equal([*b, *b_out], 0)
    if start.name == "smart tanh":
        np.testing.assert_array_equal((w_rec != 0).sum(0), 15)  # incoming: h @ w_rec
        np.testing.assert_allclose(np.abs(np.linalg.eigvals(w_rec)).max(), 0.95, rtol=1e-4)
    else:
        np.testing.assert_allclose(w_rec.std(), size, rtol=0.1)
    params = pascanu.Weights(w_in, w_rec, b)
    state, y = start.cell().step(params, np.ones(50), np.eye(6)[2])
    phi = 1 / (1 + np.exp(-1)) if start.name == "sigmoid" else np.tanh(1)
    np.testing.assert_allclose(state, phi * w_rec.sum(0) + w_in[2], atol=1e-6)
    np.testing.assert_array_equal(y, state)


def test_omega_is_equation_9_and_its_derivative_goes_to_the_recurrent_weights_alone():
    """By hand: errors from a Jacobian a step, and A = diag(1 - tanh(x)^2) W_rec."""
    with jax.enable_x64(True):
        start = pascanu.BASIC
        params = jax.tree.map(lambda leaf: leaf.astype(float), start.init(jax.random.key(1)))
        params = jax.tree.map(lambda leaf: 3 * leaf, params)
        batch = pascanu.OfAnyLength(12, 13)(jax.random.key(2), 1)
        batch = batch._replace(xs=batch.xs.astype(float))

        def slope(strength):
            method = pascanu.Method(start, strength, DATA)
            return jax.value_and_grad(method.objective)(params, batch)

        (without, flat), (value, steep) = slope(0.0), slope(1.0)
        (w_in, w_rec, _), w_out, _ = jax.tree.map(np.asarray, params)
        states = [np.zeros(50)]
        for x in np.asarray(batch.xs)[:, 0]:
            states.append(np.tanh(states[-1]) @ w_rec + x @ w_in)
        jacobians = [np.diag(1 - np.tanh(x) ** 2) @ w_rec for x in states[:-1]]
        logits = np.tanh(states[-1]) @ w_out
        share = np.exp(logits) / np.exp(logits).sum()
        share[int(batch.targets[-1, 0])] -= 1
        error, expected, along = (w_out @ share) * (1 - np.tanh(states[-1]) ** 2), 0.0, 0.0
        for state, jacobian in zip(states[-2::-1], jacobians[::-1], strict=True):
            unit = error / np.linalg.norm(error)

            def term(w, state=state, unit=unit):
                back = (1 - jnp.tanh(state) ** 2) * (w @ unit)
                return (jnp.linalg.norm(back) - 1) ** 2

            here, by_w = jax.value_and_grad(term)(jnp.asarray(w_rec))
            expected, along = expected + here, along + by_w
            error = jacobian @ error
        np.testing.assert_allclose(value - without, expected, rtol=1e-6)
        np.testing.assert_allclose(steep.cell.w_rec - flat.cell.w_rec, along, rtol=1e-5, atol=1e-9)
        by = [jax.tree.leaves(s._replace(cell=s.cell._replace(w_rec=()))) for s in (steep, flat)]
        for one, other in zip(*by, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-12)


def test_an_update_is_clipped_descent():
    method = pascanu.Method(dataclasses.replace(pascanu.BASIC, size=1.0), 0.0, DATA)
    key = jax.random.key(0)
    params = method.start.init(key)
    several = jax.tree.map(lambda leaf: leaf[None], params)
    after = pascanu.advance(method, several, key[None], 5, 1)
    slope = jax.grad(method.objective)(params, DATA(jax.random.fold_in(key, 5), 20))
    size = float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope))))
    assert size > 1  # so that it is clipped
    for one, new, old in zip(*map(jax.tree.leaves, (slope, after, params)), strict=True):
        np.testing.assert_allclose(new[0], old - 0.01 * one / size, rtol=1e-4, atol=1e-6)


def test_wrong_counts_what_a_network_of_known_answers_has_wrong():
    """With no weights and a bias it always says class 2, which is right once in four times."""
    params = jax.tree.map(jnp.zeros_like, pascanu.BASIC.init(jax.random.key(0)))
    params = jax.tree.map(lambda leaf: leaf[None], params._replace(b_out=jnp.array([0, 0, 1.0, 0])))
    (found,) = pascanu.wrong(pascanu.BASIC, DATA, params, jax.random.key(0), 2_000)
    assert 1_400 < int(found) < 1_600


def test_a_short_run_gives_rows(monkeypatch):
    small = {"UNITS": 5, "SEEDS": 2, "UPDATES": 3, "CHECK_EVERY": 2, "TEST": 40, "PIECE": 20}
    small |= {"SHORTEST": 10, "LONGEST": 12, "LONGER": (15,), "STARTS": (pascanu.BASIC,)}
    for name, value in small.items():
        monkeypatch.setattr(pascanu, name, value)
    clip, both, longer, gained = pascanu.misclassified()
    assert clip.what == "basic tanh, clip: wrong at T = 10 to 11"
    assert math.isnan(clip.published)
    assert (both.published, longer.published) == (0, 0)
    assert longer.what == "the same networks, wrong at T = 15"
    for row in (clip, both, longer):
        assert row.verdict == "not comparable"
        assert 0 <= row.range[0] <= row.ours <= row.range[1] <= 1
    assert "within 3 updates" in clip.note
    assert gained.verdict == ("agrees" if gained.ours > 0 else "differs")
