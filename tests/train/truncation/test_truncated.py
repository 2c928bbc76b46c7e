"""Truncated backpropagation against a plain unroll whose gradient is stopped by hand."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from close import says
from train.small import CELL, KEY, TASK, fit, loss, same, stream

import recurrax as rx
from recurrax.train import loop
from recurrax.train.truncation.truncated import in_chunks

T, B = 11, 3
TWO = rx.stack(rx.cells.lstm(2, 4), rx.cells.gru(4, 3))


def learned_start(cell):
    """A cell whose initial state is made of its params, so that the first chunk has a gradient."""

    def start(params, batch_shape=()):
        first = cell.initial_state(params, batch_shape)
        return jax.tree.map(lambda leaf: leaf + jnp.sum(params.b), first)

    return rx.Cell(cell.init, start, cell.step)


def by_hand(cell, params, state, xs, mask, size):
    """The plain loop over steps, with the gradient stopped where a chunk ends."""
    length, outputs = len(xs), []
    for t in range(length):
        if t and (length - t) % size == 0:
            state = jax.lax.stop_gradient(state)
        new, y = cell.step(params, state, xs[t])
        if mask is not None:
            keep = mask[t][:, None]
            new = jax.tree.map(lambda a, b, keep=keep: jnp.where(keep, a, b), new, state)
            y = jnp.where(keep, y, 0)
        state = new
        outputs.append(y)
    return state, jnp.stack(outputs)


def chunked(cell, params, state, xs, mask, size, remat=None):
    def run(state, piece):
        xs, mask = piece
        return rx.unroll(cell, params, state, xs, mask=mask, remat=remat)

    return in_chunks(run, state, (xs, mask), size)


def loss_and_gradient(way, cell, params, xs, mask, size):
    """Of a loss that looks at every output, by the params and the inputs."""

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def loss(params, xs):
        ys = way(cell, params, cell.initial_state(params, (B,)), xs, mask, size)[1]
        looks = jnp.sin(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape)
        return jnp.sum(looks * ys**2)

    return loss(params, xs)


def close(found, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), found, expected)


@pytest.mark.parametrize(
    ("cell", "size", "masked", "remat"),
    [
        (learned_start(rx.cells.elman(2, 4)), 4, False, None),
        (learned_start(rx.cells.gru(2, 4)), 11, False, None),  # the whole
        (rx.cells.lstm(2, 4), 1, True, None),
        (TWO, 5, True, 2),
    ],
)
def test_it_is_the_unroll_with_its_gradient_stopped(cell, size, masked, remat, key):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: a.astype(np.float64), cell.init(key))
        rng = np.random.default_rng(0)
        xs = jnp.asarray(rng.normal(size=(T, B, 2)))
        mask = jnp.asarray(rng.random((T, B)) < 0.7) if masked else None
        way = partial(chunked, remat=remat)
        found = loss_and_gradient(way, cell, params, xs, mask, size)
        close(found, loss_and_gradient(by_hand, cell, params, xs, mask, size))


def test_no_error_crosses_into_the_chunk_before(key):
    cell = rx.cells.gru(2, 4)
    params, xs = cell.init(key), jnp.ones((T, B, 2))

    def last(xs):
        state = cell.initial_state(params, (B,))
        return chunked(cell, params, state, xs, None, 4)[1][-1].sum()

    reached = np.asarray(jnp.any(jax.grad(last)(xs) != 0, axis=(1, 2)))
    assert reached.tolist() == [False] * 7 + [True] * 4  # the last chunk is whole


def test_from_all_steps_on_it_is_the_plain_run_to_the_bit(key):
    cell = rx.cells.gru(2, 4)
    params, xs = cell.init(key), jax.random.normal(key, (T, B, 2))

    def whole(cell, params, state, xs, mask, size):
        return rx.unroll(cell, params, state, xs)

    expected = loss_and_gradient(whole, cell, params, xs, None, 0)
    for size in (T, T + 50):
        found = loss_and_gradient(chunked, cell, params, xs, None, size)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


# --- in fit ---------------------------------------------------------------------------------------


def rounded(found, expected):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, expected)


def trained_by_hand(net, batches, size):
    """Plain gradient descent, with the state handed on in the open."""
    params, left = net.init(KEY), net.cell.initial_state(net.init(KEY).cell, (2,))
    for batch in batches:

        def objective(params, batch=batch, left=left):
            start = net.cell.initial_state(params.cell, (2,))
            rows = batch.begins[:, None]
            state = jax.tree.map(lambda a, b: jnp.where(rows, a, b), start, left)
            last, ys = by_hand(net.cell, params.cell, state, batch.xs, batch.mask, size)
            return loss(ys @ params.w_out + params.b_out, batch), last

        gradient, left = jax.grad(objective, has_aux=True)(params)
        params = jax.tree.map(lambda a, g: a - 0.1 * g, params, gradient)
    return params


@pytest.mark.parametrize("size", [None, 2])
def test_batches_that_go_on_where_the_one_before_ended(size, tmp_path):
    net = rx.train.network(learned_start(CELL), 1)
    options = {"cell": net, "loss": loss, "optimizer": optax.sgd(0.1), "truncate": size}
    whole = fit(6, task=stream(), **options)
    rounded(whole.params, trained_by_hand(net, stream(), size or 5))
    assert ("truncate" in whole.history) == (size is not None)
    # To the bit after a stop in the middle of rows.
    fit(3, task=stream(), directory=tmp_path, **options)
    again = fit(6, task=stream(), directory=tmp_path, resume=True, **options)
    assert same(again.params, whole.params)


def test_the_whole_as_one_chunk_is_full_backpropagation_to_the_bit():
    expected = fit(4)
    for size in (4, 100):
        found = fit(4, truncate=size)
        assert same(found.params, expected.params)
        assert found.history["truncate"].tolist() == [size]
    assert not same(fit(4, truncate=1).params, expected.params)


def test_chunks_that_are_chosen_on_the_way(tmp_path, monkeypatch):
    at = []

    def choose(program, carry, data):
        at.append(int(carry.step))
        return {0: 1, 3: 2, 6: 2, 9: 4}[at[-1]]

    monkeypatch.setattr(loop, "chunk_length", choose)
    options = {"truncate": "auto", "truncate_every": 3, "report_every": 50}
    whole = fit(11, **options)
    assert at == [0, 3, 6, 9]
    assert whole.history["step"].tolist() == [3, 6, 9, 11]
    assert whole.history["truncate"].tolist() == [1, 2, 2, 4]
    for stop in (5, 9):  # between two choices, and where one is due
        directory = tmp_path / str(stop)
        fit(stop, directory=directory, **options)
        found = fit(11, directory=directory, resume=True, **options)
        assert same(found.params, whole.params)
        assert found.history["truncate"].tolist()[-1] == 4
    begun = fit(2, truncate=1, report_every=2)
    assert same(fit(2, **options).params, begun.params)


def test_chunks_by_the_lag_profile_of_the_loss_that_is_trained():
    # The only error is that of the last step; of an Elman of three units it fades at once or not.
    found = fit(8, truncate="auto", truncate_every=4)
    assert found.history["truncate"].tolist() == [4.0, 4.0]  # T = 4
    task = rx.tasks.adding(200)
    found = fit(2, task=task, truncate="auto", batch_size=2)
    assert 4 <= found.history["truncate"][0] < 200


def test_a_run_goes_on_with_the_truncation_that_it_began_with(tmp_path):
    fit(2, directory=tmp_path)
    with pytest.raises(ValueError, match="another truncate: it was trained with none, and this"):
        fit(4, directory=tmp_path, resume=True, truncate=2)


@pytest.mark.parametrize(
    ("error", "truncate", "message"),
    [
        (ValueError, 0, "truncate must be a positive integer, got 0"),
        (ValueError, -3, "truncate must be a positive integer, got -3"),
        (TypeError, 2.5, "truncate must be a positive integer, got 2.5"),
        (ValueError, True, "truncate must be a positive integer, got True"),
        (
            ValueError,
            "full",
            'truncate must be a number of steps, "auto" or None, got \'full\'. "auto" measures '
            "how many are needed.",
        ),
    ],
)
def test_what_is_no_truncation(error, truncate, message):
    with says(error, message):
        fit(1, truncate=truncate)


def test_a_network_whose_state_is_not_known():
    def apply(params, xs, mask):
        return params * xs[..., :1]

    own = (lambda key: jnp.ones(()), apply)
    text = (
        "needs a cell, or a rx.train.network of one, whose state fit can carry on: a network of "
        "your own (init, apply) keeps its state to itself. Cut the gradient inside of it with "
        "jax.lax.stop_gradient, and hand a state on in a loop of your own."
    )
    with says(ValueError, f"truncate {text}"):
        fit(1, cell=own, truncate=2)
    with says(ValueError, f"a batch with begins {text}"):
        fit(1, cell=own, task=stream(), loss=loss)


def test_a_loss_of_ones_own_sees_where_rows_begin():
    def beginning(params, batch, key):
        return params * batch.begins.mean(), {}

    own = rx.train.model(lambda key: jnp.ones(()), loss=beginning)
    found = fit(1, cell=own, task=stream(), optimizer=optax.sgd(0.1), report_every=1)
    np.testing.assert_allclose(found.history["loss"], [0.5], rtol=1e-6)


def test_how_often_is_a_positive_integer():
    with says(ValueError, "truncate_every must be a positive integer, got 0"):
        fit(1, truncate="auto", truncate_every=0)


def test_a_state_that_all_rows_share_cannot_begin_anew_in_one():
    def start(params, batch_shape=()):
        return jnp.zeros((*batch_shape, 1)), jnp.zeros(())

    def step(params, state, x):
        h = params * state[0] + x[..., :1]
        return (h, state[1] + 1), h

    cell = rx.Cell(lambda key: jnp.ones(1), start, step)
    with pytest.raises(ValueError, match=r"begins goes row by row of the batch, but state\[1\]"):
        fit(1, cell=rx.train.network(cell, 1, 2), task=stream(), loss=TASK.loss)
