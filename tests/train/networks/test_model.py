"""Networks of one's own in `rx.train.fit`: functions, with dropout, embedding and constraints."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from close import assert_close, says
from train.small import CELL, DATA, KEY, OPTIMIZER, dropout, fit, loss, same, without_speed

import recurrax as rx
from recurrax import keys

NETWORK = rx.train.network(CELL, 1)


def plain(params, xs, mask):
    assert mask is None
    return NETWORK.apply(params, xs)


SCHEDULE = optax.linear_schedule(0.1, 0.0, 20)
SCHEDULED = optax.chain(
    rx.cures.clip_by_global_norm(2.0), optax.inject_hyperparams(optax.adam)(learning_rate=SCHEDULE)
)


def test_the_network_as_a_pair_of_functions_is_the_network():
    found = fit(7, cell=(NETWORK.init, plain))
    network = fit(7)
    assert_close(found.params, network.params)
    assert found.history.keys() == network.history.keys()
    np.testing.assert_allclose(found.history["mse"], network.history["mse"], rtol=1e-5)
    assert rx.train.model(NETWORK.init, plain) == rx.train.model(NETWORK.init, plain)


def test_dropout_has_a_key_of_its_own_at_each_step_and_none_where_it_is_judged(tmp_path):
    net = dropout()
    params = NETWORK.init(KEY)
    state, losses = SCHEDULED.init(params), []

    @jax.jit
    def step(params, batch, key):
        return jax.value_and_grad(lambda p: loss(net.apply(p, batch.xs, None, key), batch))(params)

    train, test = DATA.split()
    for n in range(6):
        batch = DATA.draw(keys.of_step(KEY, n), 8, train)
        key = jax.random.fold_in(jax.random.fold_in(KEY, 2**31 + 10), n)
        value, gradient = step(params, batch, key)
        updates, state = SCHEDULED.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(value)

    options = {"cell": net, "task": DATA, "optimizer": SCHEDULED, "report_every": 1}
    whole = fit(6, **options)
    assert_close(whole.params, params)
    np.testing.assert_allclose(whole.history["loss"], losses, rtol=1e-5)
    expected = loss(NETWORK.apply(params, jnp.asarray(test.xs)), test)
    np.testing.assert_allclose(whole.history["test_loss"][-1], expected, rtol=1e-4)
    rates = [SCHEDULE(n) for n in range(6)]
    np.testing.assert_allclose(whole.history["learning_rate"], rates, rtol=1e-6)

    fit(4, directory=tmp_path, **options)
    again = fit(6, directory=tmp_path, resume=True, **options)
    assert same((again.params, again.opt_state), (whole.params, whole.opt_state))
    before, after = (without_speed(run.history) for run in (whole, again))
    after["test_loss"][3], after["test_mse"][3] = np.nan, np.nan  # the end of the first part
    assert same(before, after)


# --- symbols, an embedding, two layers, and a mask, in a loss of one's own ------------------------

DEEP = rx.stack(rx.cells.gru(3, 4), rx.cells.elman(4, 5))
SYMBOLS = 6


def init(key):
    embedding, cell = jax.random.split(key)
    params = {"cell": DEEP.init(cell), "out": jnp.zeros((5, SYMBOLS))}
    return params | {"embedding": jax.random.normal(embedding, (SYMBOLS, 3))}


def next_symbol(params, batch, key):
    assert (batch.xs.dtype, batch.mask.dtype) == (jnp.int32, bool)
    xs = params["embedding"][batch.xs]
    state = DEEP.initial_state(params["cell"], xs.shape[1:-1])
    _, ys = rx.unroll(DEEP, params["cell"], state, xs, mask=batch.mask)
    outputs = ys @ params["out"]
    right = (outputs.argmax(-1) == batch.targets) * batch.weights
    scores = optax.softmax_cross_entropy_with_integer_labels(outputs, batch.targets)
    total = batch.weights.sum()
    return (scores * batch.weights).sum() / total, {"accuracy": right.sum() / total}


def symbols(count):
    """Each row counts up; the second half of the rows is shorter."""
    for n in range(count):
        text = (jnp.arange(8)[:, None] + jnp.arange(4) + n) % SYMBOLS
        mask = jnp.arange(7)[:, None] < jnp.array([7, 7, 4, 4])
        yield rx.tasks.Batch(text[:-1], text[1:], mask.astype(jnp.float32), mask)


def test_a_loss_of_ones_own_learns_to_count(tmp_path):
    def layer(params, xs):
        return DEEP, params["cell"], params["embedding"][xs]

    net = rx.train.model(init, loss=next_symbol, parts={"layers": layer})
    adam = optax.adam(0.05)
    options = {"cell": net, "optimizer": adam, "flow_every": 4}
    found = fit(30, task=symbols(30), **options)
    losses = found.history["loss"]
    assert losses[-1] < losses[0] / 2
    assert found.history["accuracy"].shape == losses.shape
    flow = found.history["flow"]["layers"]
    batch, start = next(symbols(1)), init(KEY)
    cell, params, xs = layer(start, batch.xs)
    expected = rx.flow.watch(cell, params, None, xs, step=0, mask=batch.mask)
    np.testing.assert_allclose(flow.log_norm[0], expected.log_norm, rtol=1e-4)
    fit(14, task=symbols(30), directory=tmp_path, **options)
    again = fit(30, task=symbols(30), directory=tmp_path, resume=True, **options)
    assert same(again.params, found.params)
    steps = again.history["flow"]["layers"].step.tolist()
    assert steps == flow.step.tolist() == list(range(0, 30, 4))
    rx.plot.history(again.history["flow"], rx.plot.blank_axes())
    ax = rx.plot.training({"a": again, "b": found}, rx.plot.blank_axes(), field="rate")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a layers", "b layers"]


def test_a_task_whose_goal_the_loss_does_not_tell_is_never_solved():
    def own(params, batch, key):
        return loss(NETWORK.apply(params, batch.xs), batch), {}

    found = fit(4, cell=rx.train.model(NETWORK.init, loss=own), stop_when_solved=True)
    assert (found.step, found.solved) == (4, False)
    assert "mse" not in found.history


def test_both_directions_are_measured_by_name():
    both = rx.bidirectional(rx.cells.elman(2, 3))

    def begin(key):
        return {"both": both.init(key), "out": jnp.ones((6, 1))}

    def apply(params, xs, mask):
        state = both.initial_state(params["both"], xs.shape[1:-1])
        return rx.unroll(both, params["both"], state, xs)[1] @ params["out"]

    parts = {"both": lambda params, xs: (both, params["both"], xs)}
    found = fit(4, cell=rx.train.model(begin, apply, parts=parts), flow_every=2)
    flow = found.history["flow"]
    assert sorted(flow) == ["both/layer0/backward", "both/layer0/forward"]
    assert all(np.isfinite(own.rate).all() and own.step.tolist() == [0, 2] for own in flow.values())


# --- constraints, which are Optax's ---------------------------------------------------------------


def projected(project):
    """Keep params where a projection puts them: it is the last of a chain."""

    def update(updates, state, params):
        after = project(optax.apply_updates(params, updates))
        return jax.tree.map(lambda new, old: new - old, after, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def test_weights_that_may_not_be_negative():
    def begin(key):
        return jax.tree.map(jnp.abs, NETWORK.init(key))

    constrained = optax.chain(optax.sgd(1.0), optax.keep_params_nonnegative())
    leaves = jax.tree.leaves(fit(9, cell=(begin, plain), optimizer=constrained).params)
    smallest = [float(leaf.min()) for leaf in leaves]
    assert min(smallest) == 0  # it was needed


def test_weights_in_a_ball():
    def ball(params):
        return optax.projections.projection_l2_ball(params, 0.5)

    found = fit(9, cell=(NETWORK.init, plain), optimizer=optax.chain(OPTIMIZER, projected(ball)))
    assert float(optax.tree.norm(found.params)) == pytest.approx(0.5, rel=1e-5)


# --- bad input ------------------------------------------------------------------------------------


def three(params, xs, mask):
    return jnp.ones((*xs.shape[:2], 3))


def needs_a_key(params, xs, mask, key):
    return NETWORK.apply(params, xs) * jax.random.uniform(key)


def pair(found):
    return {"loss": lambda params, batch, key: found}


@pytest.mark.parametrize(
    ("made", "kind", "text"),
    [
        (
            {"apply": three},
            ValueError,
            r"apply must return .* = \[4, 8, 1\] for the task 'add",
        ),
        (
            {"apply": lambda p, x: x},
            TypeError,
            r"apply must be a function apply\(params, xs, mask\)",
        ),
        (
            {"apply": lambda p, key: p},
            TypeError,
            r"apply must be a function apply\(params, xs, mask, key=\); the one given takes \(p,",
        ),
        ({"apply": 3}, TypeError, r"apply must be a function apply\(params, xs, mask\), got int"),
        ({"init": lambda: 1.0}, TypeError, r"init must be a function init\(key\); the one given"),
        ({}, ValueError, "model takes either apply or loss, got neither"),
        ({"apply": plain, "loss": next_symbol}, ValueError, "model takes either .*, got both"),
        (
            {"loss": lambda params, batch: 1.0},
            TypeError,
            r"loss must be a function loss\(params, batch, key\); the one given takes \(par",
        ),
        (
            pair(jnp.float32(1)),
            TypeError,
            r"loss must return \(scalar, metrics\), the metrics a",
        ),
        (
            pair((jnp.ones(3), {})),
            TypeError,
            r"loss must return a real .* scalar, got float32",
        ),
        (
            pair((jnp.float32(1), 2)),
            TypeError,
            "metrics must return a dict of scalars by name, got",
        ),
        (
            pair((jnp.float32(1), {"learning_rate": jnp.float32(2)})),
            ValueError,
            "metrics may not be named 'learning_rate', which the history uses itself",
        ),
        (
            {"init": lambda key: {"n": jnp.arange(3)}, "apply": plain},
            TypeError,
            r"params\['n'\] must be floating-point, since it is trained, got int32\[3\]: leave out",
        ),
        ({"apply": plain, "parts": ["gru"]}, TypeError, "parts must be functions by name, got"),
        (
            {"apply": plain, "parts": {"gru": lambda params: params}},
            TypeError,
            r"parts\['gru'\] must be a function parts\['gru'\]\(params, xs\); the one given takes",
        ),
        (
            {"apply": plain, "parts": {"gru": lambda params, xs: (params, xs)}},
            TypeError,
            r"parts\['gru'\] must return \(cell, cell_params, cell_xs\) with a rx.Cell, got \(",
        ),
        ({"apply": plain}, ValueError, "flow_every needs to be told what is recurrent in a model"),
    ],
)
def test_functions_that_do_not_fit(made, kind, text):
    given = {"init": NETWORK.init} | made
    with pytest.raises(kind, match=text):
        fit(3, cell=rx.train.model(**given), flow_every=2)


def test_what_a_model_does_not_take():
    net = rx.train.model(NETWORK.init, loss=lambda params, batch, key: (jnp.float32(1), {}))
    with says(ValueError, "loss and metrics come with the model: leave them out"):
        fit(3, cell=net, loss=loss)
    with pytest.raises(ValueError, match="regularizer is a function of a cell's params and state"):
        fit(3, cell=net, regularizer=lambda cell, params, state, xs: 0.0)
    with says(TypeError, "cell must be a pair (init, apply) if a tuple, got 3 entries"):
        fit(3, cell=(NETWORK.init, plain, plain))
    with pytest.raises(TypeError, match="the functions of a model must be hashable, since a progr"):
        rx.train.model(NETWORK.init, Unhashable())
    with pytest.raises(TypeError) as caught:
        fit(3, cell=(NETWORK.init, needs_a_key), task=DATA)
    note = "This is about key=None, which a model is given where it is evaluated."
    assert note in caught.value.__notes__


class Unhashable:
    __hash__ = None

    def __call__(self, params, xs, mask):
        return xs
