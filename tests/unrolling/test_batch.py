"""Which axes are the batch's, decided by the cell or the step and not by sizes that agree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, says
from contract import CELLS, PLAIN, like

import recurrax as rx
from recurrax.unrolling.batch import Batch, batch_of


def zeros(*shape, dtype="float32"):
    return jnp.zeros(shape, dtype)


# --- what a cell says -----------------------------------------------------------------------------


def mixing(w, state, x):
    """A memory of each example, a table that all share, a counter."""
    h = jnp.tanh(state["h"] @ w + x + state["table"].sum())
    return {"h": h, "n": state["n"] + 1, "table": 0.9 * state["table"]}, h


def cell_with(table, h=4):
    def initial_state(w, batch_shape=()):
        return {"h": zeros(*batch_shape, h), "n": zeros(dtype="int32"), "table": zeros(*table)}

    return rx.Cell(init=None, initial_state=initial_state, step=mixing)


BATCHES = [(), (1,), (3,), (4,), (5,), (4, 4), (1, 4)]


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("table", [(4,), (1,), (5, 4), (4, 4), ()], ids=str)
def test_a_cell_tells_which_leaves_of_the_state_are_shared(table, batch):
    cell, w = cell_with(table), zeros(4, 4)
    found = batch_of(cell, w, cell.initial_state(w, batch), zeros(4, *batch, 4))
    if batch:
        assert found == Batch(batch, (True, False, False), (True,))
    else:
        assert found.shape == ()


@pytest.mark.parametrize("name", [name for name in CELLS if name not in PLAIN])
def test_every_leaf_of_a_gated_cell_has_the_batch(name):
    """With B = H, B = G, B = I, B = T and B = 1; gated layers are known, and not tried."""
    cell = CELLS[name]("float32")
    params = jax.eval_shape(cell.init, jax.random.key(0))
    for shape in ((), (1,), (2,), (3,), (4,), (5,), (4, 5)):
        state = jax.eval_shape(lambda p, shape=shape: cell.initial_state(p, shape), params)
        found = batch_of(cell, params, state, zeros(4, *shape, 3))
        assert found == Batch(shape, (True,) * len(jax.tree.leaves(state)), (True,))


def test_a_cell_that_says_nothing_of_a_batch():
    """Its initial state is that of one example, whatever it is asked for."""
    cell = rx.Cell(init=None, initial_state=lambda w, batch_shape=(): zeros(4), step=linear)
    assert batch_of(cell, zeros(4, 4), zeros(4, 4), zeros(5, 4, 4)).shape == (4,)
    assert batch_of(cell, zeros(4, 4), zeros(4), zeros(5, 4)).shape == ()


def test_a_wrapped_cell():
    cell = rx.cures.detach(rx.cells.lstm(3, 4), 0.5, jax.random.key(0))
    params = cell.init(jax.random.key(1))
    for batch in ((2,), (4,), (4, 2)):  # a key has two words
        state = cell.initial_state(params, batch)
        assert batch_of(cell, params, state, zeros(4, *batch, 3)).state == (True, True, True)


def test_a_counter_may_be_shared_though_the_cell_gives_each_row_its_own():
    def initial_state(w, batch_shape=()):
        return {"h": zeros(*batch_shape, 4), "n": jnp.zeros(batch_shape, jnp.int32)}

    def step(w, state, x):
        h = jnp.tanh(state["h"] @ w + x)
        return {"h": h, "n": state["n"] + 1}, h

    cell = rx.Cell(init=None, initial_state=initial_state, step=step)
    state = initial_state(None, (4,))
    assert batch_of(cell, zeros(4, 4), state, zeros(2, 4, 4)).state == (True, True)
    state["n"] = jnp.int32(0)
    assert batch_of(cell, zeros(4, 4), state, zeros(2, 4, 4)).state == (True, False)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"h": (3, 5)}, "state['h'] has shape (3, 5), expected (*batch, 4) as"),
        ({"h": ()}, "state['h'] has shape (), expected (*batch, 4) as"),
        ({"table": (7,)}, "state['table'] has shape (7,), expected (*batch, 4) as"),
        ({"table": (2, 4)}, "the leaves of state disagree about the batch axes, [(2,), (3,)]: got"),
        ({"h": (4,), "table": (3, 4)}, "the leaves of state disagree about the batch axes"),
    ],
)
def test_a_state_that_is_not_the_cells(change, text):
    cell = cell_with((4,))
    state = cell.initial_state(None, (3,)) | {name: zeros(*s) for name, s in change.items()}
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        batch_of(cell, zeros(4, 4), state, zeros(4, 3, 4))
    assert str(caught.value).startswith(text)
    assert str(caught.value).endswith(("Start from that state.", "(params, batch_shape)."))


def test_a_state_with_another_number_of_leaves():
    with says(
        TypeError,
        "state must look like what cell.initial_state(params, batch_shape) returns, {'h': "
        "float32[4], 'n': int32[], 'table': float32[4]}, got float32[3,4]",
    ):
        batch_of(cell_with((4,)), zeros(4, 4), zeros(3, 4), zeros(4, 3, 4))


# --- what a bare step shows -----------------------------------------------------------------------


def linear(w, h, x):
    h = h @ w + x
    return h, h


def read(params, h, x):
    """Inputs that are a matrix each instant, a gain for each unit."""
    h = jnp.tanh(params["gain"] * (h @ params["w"]) + x @ params["v"])
    return h, h


@pytest.mark.parametrize(("B", "T"), [(1, 4), (3, 4), (4, 4), (4, 6)])
def test_a_batch_of_a_bare_step(B, T):
    assert batch_of(linear, zeros(4, 4), zeros(B, 4), zeros(T, B, 4)).shape == (B,)
    assert batch_of(linear, zeros(4, 4), zeros(4), zeros(T, 4)).shape == ()


def test_hidden_units_are_no_batch_though_the_inputs_have_as_many_rows():
    params = {"gain": zeros(4), "w": zeros(4, 4), "v": zeros(3)}
    assert batch_of(read, params, zeros(4), zeros(5, 4, 3)).shape == ()
    assert batch_of(read, params, zeros(4, 4), zeros(5, 4, 4, 3)).shape == (4,)


def test_an_integer_leaf_of_as_many_entries_as_there_are_examples():
    def step(w, state, x):
        h = jnp.tanh(state["h"] @ w + x + jnp.sin(state["phase"]))
        return {"h": h, "phase": state["phase"] + 1}, h

    state = {"h": zeros(4, 4), "phase": jnp.arange(4)}  # of each unit
    found = batch_of(step, zeros(4, 4), state, zeros(5, 4, 4))
    assert found == Batch((4,), (True, False), (True,))


def test_leaves_of_the_inputs_that_all_examples_share():
    def step(w, h, x):
        h = jnp.tanh(h @ w + x["row"] * x["scale"][..., None] + x["unit"] * x["clock"])
        return h, h

    xs = {"row": zeros(5, 4, 4), "scale": zeros(5, 4), "unit": zeros(5, 4), "clock": zeros(5)}
    found = batch_of(step, zeros(4, 4), zeros(4, 4), xs)
    assert dict(zip(sorted(xs), found.xs, strict=True)) == {
        "clock": False,
        "row": True,
        "scale": True,
        "unit": False,
    }


# --- masks and resets, which go row by row --------------------------------------------------------


@pytest.mark.parametrize("table", [(3,), (5,), (3, 4)], ids=str)
@pytest.mark.parametrize("name", ["mask", "resets"])
def test_a_shared_leaf_is_not_masked_row_by_row(name, table):
    """B = 3: by its size alone, a table of three entries would be one entry a row."""
    cell, w, flags = cell_with(table), zeros(4, 4), jnp.ones((2, 3), bool)
    with pytest.raises(ValueError, match=r"state\['(table|n)'\]"):
        rx.unroll(cell, w, cell.initial_state(w, (3,)), zeros(2, 3, 4), **{name: flags})


def test_the_sentence_about_a_shared_leaf():
    def initial_state(w, batch_shape=()):
        return {"h": zeros(*batch_shape, 4), "table": zeros(3)}

    def step(w, state, x):
        h = jnp.tanh(state["h"] @ w + x) + state["table"].sum()
        return {"h": h, "table": state["table"]}, h

    cell = rx.Cell(init=None, initial_state=initial_state, step=step)
    with says(
        ValueError,
        "mask goes row by row of the batch, but state['table'] is shared by all rows: "
        "cell.initial_state(params, batch_shape) gives it no batch axes. Let each row have its own "
        "there.",
    ):
        flags = jnp.ones((2, 3), bool)
        rx.unroll(cell, zeros(4, 4), initial_state(None, (3,)), zeros(2, 3, 4), mask=flags)


def test_what_is_not_finite_in_shared_inputs_is_not_blanked_by_a_mask():
    """Row 0 is masked; entry 0 of what all rows read is not of that row."""

    def step(w, h, x):
        h = jnp.tanh(h @ w + x["row"] + x["unit"])
        return h, h

    w, h = 0.5 * jnp.eye(3), zeros(3, 3)
    xs = {"row": like(1, zeros(2, 3, 3)), "unit": zeros(2, 3).at[0, 0].set(jnp.nan)}
    mask = jnp.ones((2, 3), bool).at[:, 0].set(False)
    ys = np.asarray(rx.unroll(step, w, h, xs, mask=mask)[1])
    assert np.isnan(ys[:, 1:, 0]).all()
    assert (ys[:, 0] == 0).all()
    xs["row"] = xs["row"].at[:, 0].set(jnp.nan)  # of that row, and blanked
    xs["unit"] = zeros(2, 3)
    ys, slope = rx.unroll(step, w, h, xs, mask=mask)[1], jax.grad(total)(w, step, h, xs, mask)
    assert np.isfinite(np.asarray(ys)).all()
    assert np.isfinite(np.asarray(slope)).all()
    assert_close(ys[:, 0], np.zeros((2, 3)))


def total(w, step, h, xs, mask):
    return rx.unroll(step, w, h, xs, mask=mask)[1].sum()
