"""Layers and directions apart: each on the outputs of the layer below, in its own order of time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from contract import like
from slow_twin import jitted, row_loop

import recurrax as rx
from recurrax.flow.watch import not_measured

T, B, I = 5, 2, 3
MASK = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool).T
NAMES = ["layer0/forward", "layer0/backward", "layer1", "layer2/forward", "layer2/backward"]


def make_deep(dtype="float64"):
    gru, lstm = rx.cells.gru, rx.cells.lstm
    both = rx.bidirectional(gru(I, 2, dtype=dtype), lstm(I, 3, dtype=dtype))
    top = rx.bidirectional(gru(2, 2, dtype=dtype), merge="sum")
    return rx.stack(both, gru(5, 2, dtype=dtype), top)


def made(deep, dtype="float64"):
    params = like(1, jax.eval_shape(deep.init, jax.random.key(0)), 0.7)
    state = like(2, jax.eval_shape(lambda p: deep.initial_state(p, (B,)), params), 0.5)
    return params, state, like(3, jax.ShapeDtypeStruct((T, B, I), dtype))


@pytest.fixture
def problem(x64):
    deep = make_deep()
    return deep, *made(deep)


def by_hand(deep, params, state, xs, mask=None):
    """Each part's arguments, the layers below run by a Python loop."""

    def outputs(cell, p, s, xs, reverse=False):
        return row_loop(jitted(cell), p, s, xs, mask=mask, reverse=reverse)[1]

    first, middle, top = deep.layers
    ahead = outputs(first.forward, params[0][0], state[0][0], xs)
    back = outputs(first.backward, params[0][1], state[0][1], xs, reverse=True)
    xs1 = jnp.concatenate([ahead, back], -1)
    xs2 = outputs(middle, params[1], state[1], xs1)
    cells = first.forward, first.backward, middle, top.forward, top.backward
    own = zip(
        cells,
        (*params[0], params[1], *params[2]),
        (*state[0], state[1], *state[2]),
        (xs, xs[::-1], xs1, xs2, xs2[::-1]),
        strict=True,
    )
    return dict(zip(NAMES, own, strict=True))


def test_each_part_is_given_what_the_layer_below_puts_out(problem):
    found = rx.flow.parts(*problem, mask=MASK)
    assert list(found) == NAMES
    for name, expected in by_hand(*problem, mask=MASK).items():
        part = found[name]
        assert part.cell == expected[0]
        assert_close(tuple(part[1:4]), tuple(expected[1:]))
        backward = name.endswith("backward")
        np.testing.assert_array_equal(part.mask, MASK[::-1] if backward else MASK)
        assert part.resets is None


def test_resets_are_turned_round_too(problem):
    _, params, state, xs = problem
    resets = ~MASK
    part = rx.flow.parts(*problem, resets=resets)["layer0/backward"]
    np.testing.assert_array_equal(part.resets, resets[::-1])
    assert part.mask is None
    ys = rx.unroll(part.cell, *part[1:4], resets=part.resets)[1]
    expected = row_loop(
        jitted(part.cell), params[0][1], state[0][1], xs, resets=resets, reverse=True
    )[1]
    assert_close(ys[::-1], expected)


def test_the_decay_of_each_is_that_of_its_cell_alone(problem):
    found = rx.flow.decay(*problem)
    assert list(found) == NAMES
    for name, own in by_hand(*problem).items():
        assert_close(found[name], rx.flow.decay(*own))
    for question in (rx.flow.rate, rx.flow.horizon):
        assert_same(question(found), {name: question(one) for name, one in found.items()})
    assert rx.flow.verdict(found) == {name: rx.flow.verdict(one) for name, one in found.items()}


def test_jacobians_are_those_of_the_sequence_turned_round(problem):
    found = rx.flow.jacobians(*problem)
    for name in ("layer0/backward", "layer2/backward"):
        cell, params, state, xs = by_hand(*problem)[name]
        now = jax.tree.map(lambda leaf: leaf[1], state)
        slope = jax.jit(jax.jacrev(lambda state, x, c=cell, p=params: c.step(p, state, x)[0]))
        for t, x in enumerate(xs[:, 1]):
            blocks = [[*jax.tree.leaves(row)] for row in slope(now, x)]
            assert_close(found[name][t, 1], jnp.block(blocks))
            now = cell.step(params, now, x)[0]


def last_output(ys):
    return jnp.sum(jnp.sin(2 * ys[-1])) + jnp.sum(ys[1, 0] ** 2)


def test_a_loss_is_felt_in_every_part_as_jax_grad_says(x64):
    """Of the outputs of the last layer; through all layers above, and at its own end of time."""
    gru = rx.cells.gru(I, 2, dtype="float64")
    both = rx.bidirectional(gru, merge="mul")
    deep = rx.stack(both, rx.bidirectional(rx.cells.gru(2, 2, dtype="float64")))
    params, state, xs = made(deep)

    def loss(params, state):
        return last_output(rx.unroll(deep, params, state, xs)[1])

    by_params, by_state = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, state)
    lags = rx.flow.lag_profile(deep, params, state, xs, last_output)
    errors = rx.flow.loss_gradients(deep, params, state, xs, last_output)
    jacobians = rx.flow.jacobians(deep, params, state, xs)
    places = [(layer, way) for layer in (0, 1) for way in ("forward", "backward")]
    assert list(lags) == [f"layer{layer}/{way}" for layer, way in places]
    for (layer, way), name in zip(places, lags, strict=True):
        expected = np.log(np.linalg.norm(getattr(by_params[layer], way).w_rec))
        np.testing.assert_allclose(lags[name].log_total, expected, rtol=1e-9)
        np.testing.assert_allclose(errors[name].loss, loss(params, state), rtol=1e-9)
        first = errors[name].gradients().h[0]  # by s_1
        found = jnp.einsum("bij,bi->bj", jacobians[name][0], first)
        assert_close(found, getattr(by_state[layer], way).h)


def test_a_masked_row_is_that_row_alone(x64):
    """Forward its padding is at the end, backward at the beginning."""
    gru = rx.cells.gru
    deep = rx.stack(*(rx.bidirectional(gru(size, 2, dtype="float64")) for size in (I, 4)))
    params, state, xs = made(deep)
    mask = rx.length_mask(jnp.array([T, 3]), T)
    alone = params, jax.tree.map(lambda leaf: leaf[1], state), xs[:3, 1]

    def loss(ys):
        return jnp.sum(ys[..., -3:] ** 2)

    decays = rx.flow.decay(deep, params, state, xs, mask=mask)
    errors = rx.flow.loss_gradients(deep, params, state, xs, loss, mask=mask)
    for found, one in (
        (decays, rx.flow.decay(deep, *alone)),
        (errors, rx.flow.loss_gradients(deep, *alone, loss)),
    ):
        for name in one:
            row = found[name].log_norm[:, 1]
            row = row[-3:] if name.endswith("backward") else row[:3]
            assert_close(row, one[name].log_norm)
    horizon, expected = (rx.flow.horizon(of) for of in (decays, rx.flow.decay(deep, *alone)))
    assert_close(
        {n: h.steps[1] for n, h in horizon.items()}, {n: h.steps for n, h in expected.items()}
    )


def test_every_other_question_answers_by_name():
    cell = rx.cells.gru(I, 2)
    both = rx.bidirectional(cell)
    args = made(both, "float32")
    parts = rx.flow.parts(both, *args)
    assert list(parts) == NAMES[:2]
    flow = rx.flow
    for question in (
        flow.bounds,
        flow.covariant_vectors,
        flow.gradient_map,
        flow.lyapunov,
        flow.paths,
        flow.predict,
        flow.spectrum,
    ):
        found = question(both, *args)
        assert list(found) == NAMES[:2]
        for name, part in parts.items():
            answers = [jax.tree.leaves(of) for of in (found[name], question(*part[:4]))]
            assert_close(*([a for a in of if hasattr(a, "dtype")] for of in answers))
    reports, decays = flow.report(both, *args), flow.decay(both, *args)
    assert {name: of.verdict for name, of in reports.items()} == flow.verdict(decays)
    alone = flow.bounds(both, args[0])  # of the weights, without inputs
    for name, own in zip(NAMES, args[0], strict=False):
        np.testing.assert_allclose(
            alone[name].largest_singular_value, flow.bounds(cell, own).largest_singular_value
        )


def test_a_watch_in_the_training_step():
    both = rx.bidirectional(rx.cells.gru(I, 2))
    params, state, xs = made(both, "float32")

    def measure(step, last=None):
        return rx.flow.watch(both, params, state, xs, step=step, last=last, every=2, examples=1)

    def body(last, step):
        last = measure(step, last)
        return last, last

    blank = jax.tree.map(not_measured, jax.eval_shape(measure, jnp.int32(1)))
    records = jax.jit(lambda: jax.lax.scan(body, blank, jnp.arange(3))[1])()
    for name, part in rx.flow.parts(both, params, state, xs).items():
        assert records[name].step.tolist() == [0, 0, 2]
        one = rx.flow.watch(*part[:4], step=0, examples=1)
        assert_close(jax.tree.map(lambda leaf: leaf[0], records[name]), one, rtol=1e-4)
    with pytest.raises(TypeError, match=r"last must be the record"):
        rx.flow.watch(both, params, state, xs, step=0, last=one)


# --- what is one part ----------------------------------------------------------------------------


def test_names():
    gru, elman = rx.cells.gru, rx.cells.elman
    plain = rx.stack(elman(I, 2), elman(2, I))
    both = rx.bidirectional(elman(I, 2))
    deep = rx.stack(plain, rx.stack(both, elman(4, I)), rx.bidirectional(plain))
    table = [
        (elman(I, 2), ["layer0"]),
        (rx.residual(gru(I, I)), ["layer0"]),
        (plain, ["layer0", "layer1"]),
        (rx.stack(both), NAMES[:2]),
        (
            deep,
            [
                "layer0",
                "layer1/layer0/forward",
                "layer1/layer0/backward",
                "layer1/layer1",
                "layer2/forward",
                "layer2/backward",
            ],
        ),
    ]
    for cell, names in table:
        params, _, xs = made(cell, "float32")
        found = rx.flow.parts(cell, params, None, xs)
        assert list(found) == names
        for part in found.values():  # each is ready to be run
            assert len(rx.unroll(part.cell, *part[1:4])[1]) == T
    assert found["layer0"].cell == plain
    params, _, xs = made(plain, "float32")
    ys = rx.unroll(elman(I, 2), params[0], None, xs)[1]
    assert_close(rx.flow.parts(plain, params, None, xs)["layer1"].xs, ys)
    step = elman(I, 2).step
    assert rx.flow.parts(plain, params, None, None)["layer1"].xs is None
    part = rx.flow.parts(step, params[0], elman(I, 2).initial_state(params[0], (B,)), xs)["layer0"]
    assert part.cell == step


# --- what does not fit ---------------------------------------------------------------------------


def test_an_autonomous_system_is_a_cell():
    deep = make_deep("float32")
    params, state, _ = made(deep, "float32")
    message = (
        "length is for an autonomous cell; layers in both directions read what is given below "
        "them: give xs, such as jnp.zeros((length, *batch, I))"
    )
    with says(ValueError, message):
        rx.flow.lyapunov(deep, params, state, length=5)


def test_an_error_says_which_part_it_is_about():
    deep = make_deep("float32")
    args = made(deep, "float32")
    with pytest.raises(ValueError, match="of must name leaves of the state") as caught:
        rx.flow.decay(deep, *args, of="c")
    assert caught.value.__notes__ == [f"This is about layer0/forward of {deep}."]
    with pytest.raises(TypeError, match="loss must be a function of the outputs ys, got 3"):
        rx.flow.loss_gradients(deep, *args, 3)


def test_what_parts_are_given_is_checked():
    deep = make_deep("float32")
    params, state, xs = made(deep, "float32")
    with pytest.raises(TypeError, match="params of a stack of 3 cells must be a tuple"):
        rx.flow.parts(deep, params[:2], state, xs)
    with pytest.raises(TypeError, match="state of a bidirectional unroll must be a pair"):
        rx.flow.parts(deep, params, (state[1], *state[1:]), xs)
    with pytest.raises(ValueError, match="features on the last axis"):
        rx.flow.parts(deep, params, None, xs[..., :2])
    with says(
        TypeError,
        "mask must be a bool array [T, B], got int64. Lengths become a mask with "
        "rx.length_mask(lengths, T); numbers with mask.astype(bool).",
    ):
        rx.flow.parts(deep.layers[1], params[1], None, jnp.ones((T, B, 5)), mask=MASK.astype(int))
