"""The smallest sizes there are, with every option: right, or one sentence that says what to do."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from contract import like
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_twin import row_loop

import recurrax as rx
from recurrax.train.presets import CURES

MAKES = {"elman": rx.cells.elman, "lstm": rx.cells.lstm, "gru": rx.cells.gru}


@dataclasses.dataclass(frozen=True)
class Case:
    """A cell, or where I = 0 its bare step, and what it is run on."""

    cell: Any
    params: Any
    state: Any
    xs: Any

    def __iter__(self):
        return iter((self.cell, self.params, self.state, self.xs))


def case(name, T, batch, I, H):
    """Of these sizes; params without a row for inputs are made by hand, as an autonomous net's."""
    cell = MAKES[name](max(I, 1), H)
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)), 0.5)
    params = params._replace(w_in=params.w_in[:I])
    state = like(2, jax.eval_shape(lambda p: cell.initial_state(p, batch), params), 0.5)
    step = rx.Cell(cell.init, cell.initial_state, cell.step)
    return Case(step, params, state, like(3, jax.ShapeDtypeStruct((T, *batch, I), jnp.float32)))


SIZES = {
    "T": st.integers(1, 3),
    "batch": st.sampled_from([(), (1,), (2,), (2, 1)]),
    "I": st.integers(0, 2),
    "H": st.integers(1, 2),
}


# --- unrolling ------------------------------------------------------------------------------------


@settings(max_examples=6)
@given(
    st.sampled_from(list(MAKES)),
    st.integers(0, 5),
    st.integers(0, 2),
    SIZES["I"],
    SIZES["H"],
    st.sampled_from([None, 1, 2, 9]),
    st.booleans(),
    st.booleans(),
)
def test_every_engine_is_the_loop_written_out(name, T, B, I, H, remat, reverse, flags):
    cell, params, state, xs = case(name, T, (B,), I, H)
    options = {"reverse": reverse}
    if flags:
        mask, resets = np.random.default_rng(T).random((2, T, B)) < 0.6
        options |= {"mask": jnp.asarray(mask), "resets": jnp.asarray(resets)}

    @jax.jit
    def everything(params, state, xs):
        more = options | {"remat": remat}
        engines = ("scan", "hoisted", "auto")
        return [rx.unroll(cell, params, state, xs, engine=engine, **more) for engine in engines]

    first, *others = everything(params, state, xs)
    for found in others:
        assert_close(found, first)
    assert first[1].shape == (T, B, H)
    if T and B:
        final, ys, _ = row_loop(cell, params, state, xs, **options)
        assert_close(first, (final, ys))
    else:
        assert_same(first[0], state)


# --- the microscope and the cures -----------------------------------------------------------------


def loss(ys):
    return jnp.sum(ys**2)


ASKED = {
    "jacobians": rx.flow.jacobians,
    "decay": rx.flow.decay,
    "decay by probes": lambda *case: rx.flow.decay(*case, probes=1),
    "lyapunov": rx.flow.lyapunov,
    "one exponent": lambda *case: rx.flow.lyapunov(*case, k=1, burn_in=0, every=1),
    "gradient_map": rx.flow.gradient_map,
    "gradient_map by probes": lambda *case: rx.flow.gradient_map(*case, probes=1),
    "loss_gradients": lambda *case: rx.flow.loss_gradients(*case, loss),
    "lag_profile": lambda *case: rx.flow.lag_profile(*case, loss),
    "lag_profile of all": lambda *case: rx.flow.lag_profile(*case, loss, wrt=None),
    "spectrum": rx.flow.spectrum,
    "predict": lambda c, p, s, xs: rx.flow.predict(c, p, s, xs, samples=1)[:2],
    "untied": lambda c, p, s, xs: rx.flow.predict(c, p, s, xs, weights="untied")[:2],
    "watch": lambda *case: rx.flow.watch(*case, step=0),
    "watch all": lambda *case: rx.flow.watch(*case, step=0, examples=9, probes=9),
    "omega": lambda *case: rx.cures.omega(*case, loss),
    "flossing": lambda *case: rx.cures.flossing(*case, k=1),
    "clip": lambda *case: unrolled(rx.cures.clip_state_gradient, case, max_norm=1.0),
}


def unrolled(cure, case, **options):
    cell, params, _, xs = case
    cured = cure(cell, **options)
    return jax.grad(lambda p: loss(rx.unroll(cured, p, None, xs, remat=2)[1]))(params)


@settings(max_examples=3)
@given(st.sampled_from(list(MAKES)), *SIZES.values())
def test_every_question_can_be_traced(name, T, batch, I, H):
    """On shapes alone, which is where a size of 0 or 1 goes wrong; and finite shapes come out."""
    cell, *arrays = case(name, T, batch, I, H)
    for asked, ask in ASKED.items():
        found = jax.eval_shape(lambda *arrays, ask=ask: ask(cell, *arrays), *arrays)
        assert jax.tree.leaves(found), asked


@pytest.mark.parametrize("asked", [name for name in ASKED if name != "clip"])
def test_without_examples_there_is_nothing_to_ask(asked):
    with says(ValueError, "xs and state hold no example: the batch shape is (0,)"):
        ASKED[asked](*case("gru", 3, (0,), 2, 2))


def test_without_examples_nothing_is_clipped():
    found = jax.eval_shape(lambda: ASKED["clip"](*case("lstm", 3, (0,), 2, 2)))
    assert found.w_rec.shape == (2, 8)


def test_one_unit_one_step_by_hand():
    """`h = tanh(w h)`: every answer is a slope that can be written down."""
    cell = rx.cells.elman(1, 1)
    params = cell.init(jax.random.key(0))._replace(w_rec=jnp.array([[0.5]]))
    arrays = (params, cell.initial_state(params)._replace(h=jnp.array([0.8])), jnp.zeros((1, 1)))
    slope = 0.5 * (1 - np.tanh(0.4) ** 2)
    assert_close(rx.flow.jacobians(cell, *arrays), jnp.full((1, 1, 1), slope, jnp.float32))
    found = rx.flow.decay(cell, *arrays)
    assert_close(found.log_norm, jnp.full(1, np.log(slope), jnp.float32))
    assert rx.flow.verdict(found) == "holds"
    assert_close(rx.flow.lyapunov(cell, *arrays).exponents, jnp.full(1, np.log(slope), jnp.float32))


# --- initialisers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 0), (1, 1)])
def test_matrices(shape, key):
    init = rx.cures.init
    for make in (init.orthogonal, init.identity, init.spectral_radius, init.largest_singular_value):
        found = np.abs(make(0.5)(key, shape))
        np.testing.assert_allclose(found, np.full(shape, 0.5), rtol=1e-5)
    assert init.critical()(key, shape).shape == shape


def test_biases_of_no_unit_and_of_one(key):
    init = rx.cures.init
    for row in (init.chrono(4.0), init.forget_bias(1.0), init.uniform_gate()):
        for hidden in (0, 1):
            for each in row:
                made = each(key, (hidden,))
                assert made.shape == (hidden,)
                assert bool(jnp.isfinite(made).all())


# --- tasks and training ---------------------------------------------------------------------------


@given(st.integers(0, 2), st.integers(0, 2), st.integers(1, 2))
def test_losses_of_nothing_are_zero(T, B, O):
    outputs = jnp.zeros((T, B, O))
    classes = rx.tasks.Batch(outputs, jnp.zeros((T, B), int), jnp.zeros((T, B)))
    numbers = classes._replace(targets=outputs)
    for judge, batch in (
        (rx.tasks.cross_entropy, classes),
        (rx.tasks.accuracy, classes),
        (rx.tasks.squared_error, numbers),
    ):
        assert float(judge(outputs, batch)) == 0
    metrics = rx.tasks.counting(5).metrics(outputs, classes)
    assert bool(jnp.isfinite(metrics["string_accuracy"]))


@given(st.integers(0, 2), st.sampled_from([(), (0,), (1,)]))
def test_a_network(T, batch):
    net = rx.train.network(rx.cells.gru(1, 1), 1)
    params = jax.eval_shape(net.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((T, *batch, 1), jnp.float32)
    assert jax.eval_shape(net.apply, params, xs).shape == (T, *batch, 1)


@pytest.mark.parametrize("name", ["omega", "orthogonality", "flossing"])
def test_the_penalties_of_the_presets(name):
    """One unit has one exponent, where the preset would look at four."""
    penalty = CURES[name].regularizer
    cell, *arrays = case("elman", 2, (1,), 1, 1)
    assert jax.eval_shape(lambda *arrays: penalty(cell, *arrays), *arrays).shape == ()


def test_a_verdict_about_no_example():
    with says(ValueError, "decay holds no example, so there is no verdict: got shape (3, 0)"):
        rx.flow.verdict(jnp.zeros((3, 0)))
    assert rx.flow.rate(jnp.zeros((3, 0))).shape == (0,)
    assert rx.flow.horizon(jnp.zeros((3, 0))).steps.shape == (0,)
