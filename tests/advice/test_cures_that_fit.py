"""Which cures fit which cell, and that the code that is printed does what was tried."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx
from recurrax.advice.another_cell import parameters
from recurrax.advice.cures_that_fit import cures_that_fit
from recurrax.advice.subject import Memory, subject_of
from recurrax.cells import LSTMState

XS = jax.random.normal(jax.random.key(3), (24, 4, 2))


class MGUState(NamedTuple):
    h: jax.Array


def mgu_gates(unit, z_in, z_rec):
    f = jax.nn.sigmoid(z_in[0] + z_rec[0])
    return f, jnp.tanh(z_in[1] + f * z_rec[1])


def mgu(unit, z_in, z_rec, state):
    f, n = mgu_gates(unit, z_in, z_rec)
    return MGUState(f * state.h + (1 - f) * n)


def plain_step(params, state, x):
    state = 0.5 * state + jnp.sum(x @ params["w"], -1, keepdims=True)
    return state, state


PLAIN = rx.Cell(
    init=lambda key: {"w": jax.random.normal(key, (2, 3))},
    initial_state=lambda params, batch_shape=(): jnp.zeros((*batch_shape, 1)),
    step=plain_step,
)
MGU = rx.gated_cell(
    mgu,
    gates=2,
    state=MGUState,
    input_size=2,
    hidden_size=5,
    view=rx.GateView(("f", "n"), ("sigmoid", "tanh"), mgu_gates),
)
GAINS = ["critical gain", "gain"]
GATES = ["forget bias", "chrono", "uniform gate"]
TERMS = ["omega", "flossing"]
LAYERS = (rx.cells.lstm(2, 4), rx.cells.lstm(4, 4))


def others(*families: str) -> list[str]:
    return [f"another cell: {family}" for family in families]


CASES = {
    "lstm": (rx.cells.lstm(2, 5), [*GAINS, *GATES, *TERMS, *others("gru", "elman-relu")]),
    "elman": (
        rx.cells.elman(2, 5, recurrent_init=jax.nn.initializers.lecun_normal()),
        [*GAINS, "critical", "orthogonal", *TERMS, *others("lstm", "gru", "elman-relu")],
    ),
    "relu": (
        rx.cells.elman(2, 5, activation="relu"),
        [*GAINS, "identity", *TERMS, *others("lstm", "gru")],
    ),
    "own": (MGU, [*GAINS, *GATES, *TERMS, *others("lstm", "gru", "elman-relu")]),
    "plain": (PLAIN, [*TERMS, *others("lstm", "gru", "elman-relu")]),
    "stack": (rx.stack(*LAYERS), [*GAINS, *GATES, *TERMS, *others("gru", "elman-relu")]),
}


@functools.cache
def tried(cell: rx.Cell):
    return cures_that_fit(subject_of(cell, cell.init(jax.random.key(0)), XS, 20.0))


@pytest.mark.parametrize("name", CASES)
def test_what_fits_is_tried_and_what_does_not_has_a_reason(name):
    cell, names = CASES[name]
    found, skipped = tried(cell)
    # A gain that no number reaches is a reason as well.
    names = [n for n in names if n not in GAINS or n in [c.name for c in found]]
    assert [c.name for c in found] == names
    assert "critical gain" in names or name in ("elman", "relu", "plain")  # five units may not
    assert all(reason and "\n" not in reason for reason in skipped.values())
    count = parameters(cell.init(jax.random.key(0)))
    for candidate in found:
        params = candidate.cell.init(jax.random.key(1))
        state = candidate.cell.initial_state(params, (4,))
        state, _ = rx.unroll(candidate.cell, params, state, XS)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        if candidate.name.startswith("another"):
            assert abs(parameters(params) - count) <= 0.5 * count + 20


@pytest.mark.parametrize("name", ["lstm", "elman", "own", "stack"])
def test_the_code_gives_the_cell_that_was_tried(name):
    cell = CASES[name][0]
    found, _ = tried(cell)
    for candidate in found:
        assert len(candidate.code.splitlines()) <= 3
        if "calibrate" in candidate.code and name != "stack":
            continue  # it is one call for all cells, and takes a while
        names = {"rx": rx, "cell": cell, "xs": XS}
        names["params"] = cell.init(jax.random.key(0))
        exec(candidate.code, names)
        if "regularizer" in names:
            assert names["regularizer"] is candidate.cure.regularizer
            continue
        wanted = candidate.cell.init(jax.random.key(0))
        calibrated = "calibrate" in candidate.code
        got = names["params"] if calibrated else names["cell"].init(jax.random.key(0))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-2 if calibrated else 1e-6, atol=1e-6)


def test_a_forget_bias_keeps_one_twentieth_at_the_wanted_horizon():
    found, _ = tried(rx.cells.lstm(2, 5))
    bias = next(c for c in found if c.name == "forget bias").cell.init(jax.random.key(0)).b[5]
    assert float(jax.nn.sigmoid(bias)) ** 20 == pytest.approx(1 / 20, rel=0.2)


def test_the_gate_that_keeps_the_state_is_found_by_what_it_does():
    def turned(unit, z_in, z_rec, state):  # as in the paper, where an open gate overwrites
        f, n = mgu_gates(unit, z_in, z_rec)
        return MGUState((1 - f) * state.h + f * n)

    sizes = {"gates": 2, "state": MGUState, "input_size": 2, "hidden_size": 5}
    for pointwise, sign in ((mgu, 1), (turned, -1)):
        cell = rx.gated_cell(pointwise, **sizes)
        subject = subject_of(cell, cell.init(jax.random.key(0)), XS, 20.0)
        assert subject.memory == Memory(2, 0, None, sign)
    lstm = rx.gated_cell(LAYERS[0].step.pointwise, **sizes | {"gates": 4, "state": LSTMState})
    found = subject_of(lstm, lstm.init(jax.random.key(0)), XS, 20.0).memory
    assert (found.gates, found.forget, found.sign) == (4, 1, 1)


def test_a_gain_reaches_the_recurrent_weights_wherever_they_are():
    """In a dict, say; calibrate finds them there, and so must what begins anew from its factor."""

    def step(params, state, x):
        state = jnp.tanh(x @ params["in"]["w_in"] + state @ params["back"]["w_rec"])
        return state, state

    def begin(key):
        w_in, w_rec = jax.random.normal(key, (2, 6, 6)) / 6**0.5
        return {"in": {"w_in": w_in[:2]}, "back": {"w_rec": w_rec}}

    cell = rx.Cell(begin, lambda params, batch_shape=(): jnp.zeros((*batch_shape, 6)), step)
    params = cell.init(jax.random.key(0))
    found, skipped = cures_that_fit(subject_of(cell, params, XS, 20.0), ["gain"])
    assert not skipped
    begun = found[0].cell.init(jax.random.key(0))
    factor = rx.cures.calibrate(cell, params, XS, horizon=20).adjusted
    np.testing.assert_allclose(begun["back"]["w_rec"], factor * params["back"]["w_rec"], rtol=1e-2)
    np.testing.assert_array_equal(begun["in"]["w_in"], params["in"]["w_in"])
