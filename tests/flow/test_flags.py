"""Masks and resets, in every question that runs along time: each row is what it is alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, says
from ragged import LIVE, MASK, B, I, T, of_rows, ragged

import recurrax as rx

SAME = {"rtol": 1e-12, "atol": 1e-12}
BOTH = pytest.mark.parametrize("name", ["gated", "plain"])


# --- rows -----------------------------------------------------------------------------------------


@BOTH
def test_a_decay_is_that_of_each_row_alone(name, x64):
    case = ragged(name)
    got, alone = rx.flow.decay(*case.args, **case.flags), rx.flow.decay(*case.alone)
    for field in ("log_norm", "log_frobenius"):
        logs, expected = getattr(got, field), getattr(alone, field)
        np.testing.assert_allclose(of_rows(logs)[:, :2], expected[:, :2], **SAME)
        np.testing.assert_array_equal(np.isneginf(logs[:, 3]), np.arange(T) >= T - LIVE)
        np.testing.assert_array_equal(logs[1:][~MASK[1:]], logs[:-1][~MASK[1:]])
    np.testing.assert_array_equal(got.steps, np.cumsum(MASK, 0))
    np.testing.assert_allclose(rx.flow.rate(got)[1:3], rx.flow.rate(alone)[:2], **SAME)
    assert np.isneginf(rx.flow.rate(got)[3])
    for below in (0.05, 0.5, 0.99):
        felt, expected = (rx.flow.horizon(d, below=below) for d in (got, alone))
        for a, b in zip(felt, expected, strict=True):
            np.testing.assert_array_equal(a[1:3], b[:2])
        assert felt.reached[3]
        assert felt.steps[3] <= T - LIVE + 1


def test_probes_are_those_of_each_row_alone(x64):
    case = ragged("gated")
    got = rx.flow.decay(*case.args, **case.flags, probes=2)
    alone = rx.flow.decay(*case.alone, probes=2)
    for a, b in zip(got[:2], alone[:2], strict=True):
        np.testing.assert_allclose(of_rows(a)[:, :2], b[:, :2], **SAME)
    assert np.isneginf(got.log_norm[T - LIVE :, 3]).all()


@BOTH
def test_jacobians_are_the_identity_where_masked_and_zero_after_a_reset(name, x64):
    case = ragged(name)
    got, alone = rx.flow.jacobians(*case.args, **case.flags), rx.flow.jacobians(*case.alone)
    found = of_rows(got)
    np.testing.assert_allclose(found[:, :2], alone[:, :2], **SAME)
    np.testing.assert_allclose(found[1:, 2], alone[1:, 2], **SAME)
    assert not found[0, 2].any()
    np.testing.assert_array_equal(got[~MASK], np.tile(np.eye(got.shape[-1]), ((~MASK).sum(), 1, 1)))
    both = {"mask": case.flags["mask"], "resets": jnp.ones((T, B), bool)}
    assert not rx.flow.jacobians(*case.args, **both).any()  # masked or not


@BOTH
def test_a_map_after_a_reset_is_that_of_the_piece(name, x64):
    case = ragged(name)
    got, alone = (
        rx.flow.gradient_map(*args, **flags).log_norm
        for args, flags in ((case.args, case.flags), (case.alone, {}))
    )
    piece = got[T - LIVE :, T - LIVE + 1 :, 3]  # from the first state after the reset on
    np.testing.assert_allclose(piece, alone[:, 1:, 2], **SAME)
    assert np.isneginf(got[T - LIVE :, : T - LIVE + 1, 3]).all()
    np.testing.assert_allclose(got[:LIVE, :LIVE, 1], alone[..., 0], **SAME)
    np.testing.assert_allclose(of_rows(got[:, 0])[:, 1], alone[:, 0, 1], **SAME)


@BOTH
def test_errors_pass_a_masked_step_and_no_reset(name, x64):
    case = ragged(name)

    def loss(ys):  # whose gradient at an output of zero is not zero
        return jnp.sum((ys + 1) ** 2)

    got = rx.flow.loss_gradients(*case.args, loss, **case.flags)
    alone = rx.flow.loss_gradients(*case.alone, loss)
    np.testing.assert_allclose(of_rows(got.log_norm), alone.log_norm, **SAME)
    for a, b in zip(*map(jax.tree.leaves, (got.direction, alone.direction)), strict=True):
        np.testing.assert_allclose(of_rows(a), b, **SAME)
    assert np.isneginf(got.log_norm[LIVE:, 1]).all()  # no later output

    def before_the_reset(ys):
        return jnp.sum((ys[: T - LIVE] + 1) ** 2)

    early = rx.flow.loss_gradients(*case.args, before_the_reset, **case.flags)
    assert_close(*(g.log_norm[: T - LIVE, 3] for g in (early, got)), **SAME)


def test_an_output_of_its_own_sends_no_error_back_across_a_reset(x64):
    """One that is no leaf of the new state puts its error on the state before."""

    def step(w, h, x):
        return jnp.tanh(w * h + x), 3 * h

    cell = rx.Cell(init=None, initial_state=lambda w, shape=(): jnp.zeros((*shape, I)), step=step)
    xs, w = ragged("gated").alone[3][:, 0], jnp.array(0.8)
    resets, mask = (jnp.arange(LIVE) == 2, jnp.arange(LIVE) != 3)
    got = rx.flow.loss_gradients(cell, w, None, xs, jnp.sum, mask=mask, resets=resets)
    expected = np.zeros((LIVE, I))
    expected[0] = 3  # y_2 sees s_1, and s_2 is seen by nothing: y_3 has s_0 instead
    expected[2] = expected[3] = 3  # y_5, through the masked step
    np.testing.assert_allclose(got.gradients(), expected, **SAME)


def test_paths_and_the_gates_of_the_steps_that_count(x64):
    case = ragged("gated")
    got, alone = rx.flow.paths(*case.args, **case.flags), rx.flow.paths(*case.alone)
    for a, b in zip(got[:4], alone[:4], strict=True):
        np.testing.assert_allclose(of_rows(a)[:, :2], b[:, :2], **SAME)
    for a, b in zip(got.gates[1:], alone.gates[1:], strict=True):
        np.testing.assert_allclose(of_rows(a), b, **SAME)
        np.testing.assert_array_equal(np.isnan(a).all(-1), ~MASK)
    for log in (got.log_total, got.log_direct, got.log_detour):
        np.testing.assert_array_equal(np.isneginf(log[1:, 3]), np.arange(1, T) >= T - LIVE)


@BOTH
def test_derivatives_of_a_decay_are_those_of_the_rows_alone(name, x64):
    case = ragged(name)

    def last(params, xs, args, rows, flags):
        decay = rx.flow.decay(args[0], params, args[2], xs, **flags)
        return jnp.sum(decay.log_norm[-1, rows])

    slope = jax.grad(last, (0, 1))
    got = slope(case.args[1], case.args[3], case.args, slice(1, 3), case.flags)
    alone = slope(case.alone[1], case.alone[3], case.alone, slice(0, 2), {})
    assert_close(got[0], alone[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(of_rows(got[1])[:, :2], alone[1][:, :2], rtol=1e-10, atol=1e-12)
    assert not np.asarray(got[1])[~MASK].any()


def test_one_mask_for_all_rows_and_one_row_without_a_batch(x64):
    cell, params, state, xs = ragged("gated").alone
    mask = jnp.asarray(MASK[:LIVE, 2])
    got = rx.flow.decay(cell, params, state, xs, mask=mask)
    assert got.log_norm.shape == got.steps.shape == (LIVE, 3)
    alone = rx.flow.decay(cell, params, state, xs[mask])
    assert_close(got.log_norm[mask], alone.log_norm, **SAME)
    one, nothing = (jax.tree.map(lambda a: a[0], state), xs[:, 0]), jnp.zeros(LIVE, bool)
    single = rx.flow.decay(cell, params, *one, mask=nothing)
    np.testing.assert_array_equal(single.log_norm, np.zeros(LIVE))
    with says(
        ValueError,
        "decay has no step that counts, since the mask is False throughout: without time there is "
        "no rate and no horizon. Leave such rows out.",
    ):
        rx.flow.rate(single)
    assert np.isnan(jax.jit(rx.flow.rate)(single))
    assert np.isnan(jax.jit(rx.flow.horizon)(single).steps)


def test_a_report_of_rows_of_their_own_lengths():
    cell = rx.cells.elman(1, 3)
    params = jax.tree.map(lambda a: 0.5 * a, cell.init(jax.random.key(0)))
    xs, mask = jnp.ones((12, 2, 1)), rx.length_mask(jnp.array([12, 8]), 12)
    found = rx.flow.report(cell, params, None, xs, mask=mask, resets=jnp.zeros_like(mask))
    alone = rx.flow.report(cell, params, None, xs[:8])
    assert_close(found.rate[1], alone.rate[1])
    assert_close(found.lyapunov.exponents[1], alone.lyapunov.exponents[1])
    assert_close(
        found.spectrum.log_singular_values[-1, 1], alone.spectrum.log_singular_values[-1, 1]
    )
    assert_close(found.bounds.log_upper[-1, 1], alone.bounds.log_upper[-1, 1])
    assert found.row("log norm at T").reason == "T = 12, of which 8 to 12 steps count in each row"
    assert found.row("tied").reason == "no prediction: not units of one population, all in step"
    assert found.row("sufficient for vanishing").agrees
    assert found.row("upper bound at T").agrees
    assert found.row("lower bound at T").agrees
    assert len(rx.plot.report(found, rx.plot.blank_axes()).lines) > 3
    with says(
        ValueError,
        "resets leaves nothing to report of: from the first one on nothing of s_0 is left, and "
        "every rate and exponent is -inf. Report of the pieces between them, or see "
        "flow.gradient_map, of which they are blocks.",
    ):
        rx.flow.report(cell, params, None, xs, resets=mask)
    with says(ValueError, "mask is about steps, and without xs there are none: give xs too"):
        rx.flow.bounds(cell, params, mask=mask)


# --- messages -------------------------------------------------------------------------------------


def test_what_is_refused():
    cell = rx.cells.elman(1, 3)
    params, xs = cell.init(jax.random.key(0)), jnp.zeros((4, 2, 1))
    mask = jnp.array([[True, False]] * 4)
    with says(
        ValueError,
        "mask has shape (2, 4), expected [T, B] with T = 4, as in xs. Its batch axis is first? Use "
        "jnp.swapaxes(mask, 0, 1).",
    ):
        rx.flow.decay(cell, params, None, xs, mask=mask.T)
    with says(
        TypeError,
        "mask must be a bool array [T, B], got int32. Lengths become a mask with "
        "rx.length_mask(lengths, T); numbers with mask.astype(bool).",
    ):
        rx.flow.jacobians(cell, params, None, xs, mask=mask.astype(jnp.int32))
    with says(
        TypeError,
        "resets needs a rx.Cell, whose initial_state says what to reset to; got a bare step "
        "function. Wrap it: rx.Cell(init=..., initial_state=..., step=...).",
    ):
        rx.flow.paths(cell.step, params, cell.initial_state(params, (2,)), xs, resets=mask)
    with says(
        ValueError,
        "xs is not finite: nan at index (0, 0, 0), 4 such entries in all. Drop or fill those "
        "steps: one NaN spoils all later ones.",
    ):
        rx.flow.gradient_map(cell, params, None, jnp.full_like(xs, jnp.nan), mask=mask)
    with says(
        ValueError,
        "mask has shape (4, 2), but state and xs are read as one example: expected (4,). A bare "
        "step function does not say which axes are the batch's; the initial_state of a rx.Cell "
        "does.",
    ):
        rx.flow.decay(lambda w, h, x: (w * h + x, h), 0.5, jnp.ones(2), xs[..., 0], mask=mask)
    decay = rx.flow.decay(cell, params, None, xs, mask=mask)
    for question in (rx.flow.rate, rx.flow.horizon, rx.flow.verdict):
        with says(
            ValueError,
            "decay has no step that counts at (1,) of the batch, since the mask is False "
            "throughout: without time there is no rate and no horizon. Leave such rows out.",
        ):
            question(decay)


def test_an_overflow_is_refused_although_a_reset_hides_it():
    def double(w, h, x):
        return w * h, h

    cell = rx.Cell(init=None, initial_state=lambda w, shape=(): jnp.ones(shape), step=double)
    with says(
        ValueError,
        "state at [t, ...] is not finite: inf at index (1,), 1 such entry in all. The forward pass "
        "overflows there: measure a shorter xs, or shrink the recurrent weights.",
    ):
        rx.flow.decay(cell, 1e30, None, jnp.zeros((3, 1)), resets=jnp.arange(3) == 2)
