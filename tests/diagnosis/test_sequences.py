"""Ragged sequences are taken apart as a loop over their steps would."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from contract import make_case

import recurrax as rx
from recurrax.diagnosis.sequences import sequences_of, sequences_text
from recurrax.flow import Part


def by_loop(mask, resets):
    """The steps of each sequence, example by example."""
    found = []
    for b in range(mask.shape[1]):
        found.append([])
        for t in range(len(mask)):
            if resets[t, b]:
                found.append([])
            if mask[t, b]:
                found[-1].append((t, b))
    return [steps for steps in found if steps]


def test_a_masked_step_is_left_out_and_a_reset_begins_a_new_sequence():
    cell, params, state, xs = make_case("lstm", "float32")
    rng = np.random.default_rng(0)
    shape = xs.shape[:2]
    mask, resets = rng.random(shape) < 0.8, rng.random(shape) < 0.15
    mask[:, 0], resets[:, 0] = True, False
    states, found = sequences_of(Part(cell, params, state, xs, mask, resets))
    loop = sorted(by_loop(mask, resets), key=lambda steps: -len(steps))[:4]
    loop = [steps for steps in loop if 2 * len(steps) >= len(loop[0])]
    assert found.shape == (len(loop[-1]), len(loop), xs.shape[-1])
    for e, steps in enumerate(loop):
        for row, (t, b) in zip(found[:, e], steps, strict=False):
            np.testing.assert_array_equal(row, xs[t, b])
        t, b = steps[0]
        fresh = resets[: t + 1, b].any()
        wanted = np.zeros_like(state.c[b]) if fresh else state.c[b]
        np.testing.assert_array_equal(states.c[e], wanted)
    assert sequences_text((7, 1)) == "1 sequence of 7 steps"


def test_a_ragged_batch_is_diagnosed_as_its_rows_are_alone():
    cell = rx.cells.elman(3, 6)
    rng = np.random.default_rng(1)
    params = rx.cells.ElmanParams(*(rng.standard_normal(s) / 2 for s in ((3, 6), (6, 6), 6)))
    params = params._replace(w_in=jnp.asarray(params.w_in, jnp.float32))
    params = rx.cells.ElmanParams(*(jnp.asarray(leaf, jnp.float32) for leaf in params[:3]))
    xs = jnp.asarray(rng.standard_normal((20, 2, 3)), jnp.float32)
    mask = rx.length_mask(jnp.array([20, 14]), 20)
    ragged = rx.diagnose(cell, params, xs, mask=mask).layers[0]
    rows = [rx.flow.decay(cell, params, None, xs[:14, b]).log_norm for b in range(2)]
    np.testing.assert_allclose(ragged.decay.log_norm, np.stack(rows, 1), rtol=1e-4, atol=1e-5)


def test_long_sequences_are_cut():
    cell, params, state, xs = make_case("lstm", "float32")
    part = Part(cell, params, state, jnp.zeros((1100, *xs.shape[1:])), None, None)
    assert len(sequences_of(part)[1]) == 1000


def test_no_step_counts():
    cell, params, state, xs = make_case("lstm", "float32")
    none = np.zeros(xs.shape[:2], bool)
    with pytest.raises(ValueError, match=r"\Amask leaves no step of any example, so there is"):
        sequences_of(Part(cell, params, state, xs, none, None))
