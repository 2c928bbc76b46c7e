"""`rx.train.network`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from close import assert_close, says

import recurrax as rx


def test_it_is_the_cell_and_a_product(key):
    cell = rx.cells.lstm(2, 3)
    net = rx.train.network(cell, 4)
    params = net.init(key)
    xs = jax.random.normal(key, (5, 6, 2))
    _, ys = rx.unroll(cell, params.cell, cell.initial_state(params.cell, (6,)), xs)
    expected = np.asarray(ys) @ np.asarray(params.w_out) + np.asarray(params.b_out)
    assert_close(net.apply(params, xs), expected)
    assert net == rx.train.network(rx.cells.lstm(2, 3), 4)
    assert hash(net) == hash(rx.train.network(rx.cells.lstm(2, 3), 4))


def test_a_stack_reads_its_first_and_writes_its_last(key):
    net = rx.train.network(rx.stack(rx.cells.gru(2, 3), rx.cells.lstm(3, 5)), 4)
    assert net.input_size == 2
    assert net.init(key).w_out.shape == (5, 4)


def test_a_narrow_cell_takes_wide_inputs_and_answers_in_float32(key):
    net = rx.train.network(rx.cells.elman(2, 3, dtype=jnp.bfloat16), 1)
    params = net.init(key)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    assert net.apply(params, jnp.ones((4, 5, 2))).dtype == jnp.float32


def own_cell(ndim=1):
    def step(w, h, x):
        h = w * h + x.sum(-1, keepdims=True)
        return h, h if ndim else h[..., 0]

    return rx.Cell(
        init=lambda key: jnp.float32(0.5),
        initial_state=lambda w, batch_shape=(): jnp.zeros((*batch_shape, 1)),
        step=step,
    )


def test_a_cell_of_ones_own_needs_the_input_size(key):
    net = rx.train.network(own_cell(), 2, 3)
    assert net.apply(net.init(key), jnp.ones((4, 5, 3))).shape == (4, 5, 2)
    text = (
        "input_size is not told by this cell: name it, rx.train.network(cell, output_size, "
        "input_size)"
    )
    with says(ValueError, text):
        rx.train.network(own_cell(), 2)


def test_other_errors(key):
    with says(ValueError, "output_size must be a positive integer, got 0"):
        rx.train.network(rx.cells.gru(2, 3), 0)
    text = (
        "cell must be a rx.Cell, got type. Wrap a bare step function as rx.Cell(init=..., "
        "initial_state=..., step=...)."
    )
    with says(TypeError, text):
        rx.train.network(rx.Cell, 1)
    text = (
        "the output of the cell must be one array [H] for one example, got float32[]. Wrap the "
        "cell in one whose step returns such a y."
    )
    with says(ValueError, text):
        rx.train.network(own_cell(ndim=0), 2, 3).init(key)
