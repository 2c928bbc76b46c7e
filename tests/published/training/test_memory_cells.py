"""The network of 1997: its size, and the truncated rule against the equations of its appendix."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.published.training import memory_cells
from recurrax.published.training.memory_cells import BLOCKS, CELLS, HIDDEN, SIZE


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _appendix(network, xs, target):
    """The outputs, and what half the squared error is changed by, from equations (3) to (28).

    Derivatives of the internal states travel forward in time, in float64.
    """
    network = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), network)
    w_in, w_rec, b = network.cell
    heard_by = np.concatenate([w_in, w_rec, b[None]])  # [I + HIDDEN + 1, HIDDEN]
    s, y = np.zeros(CELLS), np.zeros(HIDDEN)
    by_cell = np.zeros((len(heard_by), CELLS))  # d s_c / d the weights of its own unit
    by_gate = np.zeros((len(heard_by), CELLS))  # d s_c / d the weights of its input gate
    block = np.arange(CELLS) // SIZE
    for x in xs:
        heard = np.concatenate([x, y, [1.0]])
        z = heard @ heard_by
        y_in, y_out = _sigmoid(z[CELLS : CELLS + BLOCKS]), _sigmoid(z[CELLS + BLOCKS :])
        squashed = _sigmoid(z[:CELLS])
        g, g_slope = 4 * squashed - 2, 4 * squashed * (1 - squashed)
        by_cell += np.outer(heard, y_in[block] * g_slope)
        by_gate += np.outer(heard, g * (y_in * (1 - y_in))[block])
        s = s + y_in[block] * g
        h = 2 * _sigmoid(s) - 1
        y = np.concatenate([y_out[block] * h, y_in, y_out])
    answer = _sigmoid(y[:CELLS] @ network.w_out + network.b_out)
    error = (answer - target) * answer * (1 - answer)
    at_y = network.w_out @ error
    at_s = at_y * y_out[block] * (1 - h**2) / 2
    slope = np.zeros_like(heard_by)
    slope[:, :CELLS] = by_cell * at_s
    for j in range(BLOCKS):
        own = block == j
        slope[:, CELLS + j] = by_gate[:, own] @ at_s[own]
        at_gate = y_out[j] * (1 - y_out[j]) * (at_y[own] @ h[own])
        slope[:, CELLS + BLOCKS + j] = heard * at_gate
    rows = np.split(slope, [len(w_in), len(w_in) + HIDDEN])
    return answer, [rows[0], rows[1], rows[2][0], np.outer(y[:CELLS], error), error]


def test_the_truncated_rule_is_that_of_the_appendix():
    keys = jax.random.split(jax.random.key(0), 4)
    network = memory_cells.init(keys[0], 3, 2, (-0.5, 0.5))
    larger = jax.tree.map(lambda leaf: leaf * 8, network.cell)  # so that loops would show
    network = network._replace(cell=larger)
    xs = jax.random.normal(keys[1], (9, 3))
    target = jax.random.uniform(keys[2], (2,))
    ahead = jnp.arange(9) < 7  # what stands behind the end is not looked at

    def half_error(network):
        answer = memory_cells.answer(network, xs, ahead)
        return jnp.sum((answer - target) ** 2) / 2, answer

    slope, answer = jax.grad(half_error, has_aux=True)(network)
    expected, slopes = _appendix(network, np.asarray(xs[:7], np.float64), np.asarray(target))
    np.testing.assert_allclose(answer, expected, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(slope), slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        assert np.abs(theirs).max() > 1e-4


def test_weights_begin_near_zero_and_input_gates_closed():
    network = memory_cells.init(jax.random.key(1), 8, 4, (-2.0, -4.0))
    gates = network.cell.b[CELLS : CELLS + BLOCKS]
    np.testing.assert_array_equal(gates, [-2, -4])
    others = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(network)])
    others = others[others > -1]
    assert len(others) == 156 - BLOCKS
    assert np.abs(others).max() <= 0.1
    np.testing.assert_allclose(np.std(others), 0.1 / 3**0.5, rtol=0.15)
