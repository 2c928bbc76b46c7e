"""How params begin."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same
from halves import skip_without

import recurrax as rx

I, H = 3, 16
CELLS = {
    "elman": (rx.cells.elman, 1),
    "lstm": (rx.cells.lstm, 4),
    "gru": (rx.cells.gru, 3),
    "gru_reset_before": (rx.cells.gru_reset_before, 3),
}


@pytest.fixture(params=CELLS)
def name(request):
    return request.param


@pytest.fixture
def build(name):
    return CELLS[name][0]


@pytest.fixture
def gates(name):
    return CELLS[name][1]


def constant(value):
    return jax.nn.initializers.constant(value)


def test_the_fields_and_their_shapes(build, gates, key):
    params = build(I, H).init(key)
    unit = () if build is rx.cells.gru_reset_before else ("unit",)
    assert params._fields == ("w_in", "w_rec", "b", *unit)
    assert params.w_in.shape == (I, gates * H)
    assert params.w_rec.shape == (H, gates * H)
    assert params.b.shape == (gates * H,)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float32"}


def test_only_the_gru_has_unit_params(name, build, key):
    unit = getattr(build(I, H).init(key), "unit", None)
    if name == "gru":
        assert_same(unit, rx.cells.GRUUnit(b_n=jnp.zeros(H)))
    else:
        assert unit is None


def test_an_option_that_no_cell_has_is_refused(name, build):
    for option in ("recurent_init", "unit_init", "gates"):
        with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected .* '{option}'$"):
            build(I, H, **{option: None})


def test_each_params_class_is_its_own(key):
    rows = rx.cells.CELLS.values()
    assert [type(row.build(I, H).init(key)) for row in rows] == [row.params for row in rows]
    assert len({row.params for row in rows}) == len(rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_recurrent_weights_are_orthogonal_gate_by_gate(build, gates, key, dtype):
    skip_without(dtype)
    w_rec = build(I, H, dtype=dtype).init(key).w_rec
    assert w_rec.dtype == dtype
    blocks = np.split(np.asarray(w_rec, np.float64), gates, -1)
    for block in blocks:  # an orthogonal joint kernel would have a gain of sqrt(1 / G) here
        gains = np.linalg.svd(block, compute_uv=False)
        np.testing.assert_allclose(gains, 1, atol=16 * float(jnp.finfo(dtype).eps))
    for other in blocks[1:]:
        assert np.abs(blocks[0] - other).max() > 0.1  # each is a draw of its own


def test_float64_draws_are_float64(x64, build, gates, key):
    w_rec = build(I, H, dtype="float64").init(key).w_rec
    assert w_rec.dtype == "float64"
    for block in np.split(np.asarray(w_rec), gates, -1):
        np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-14)


def test_input_weights_have_the_variance_of_lecun_in_each_gate(build, gates, key):
    w_in = np.asarray(build(64, 64).init(key).w_in)
    for block in np.split(w_in, gates, -1):
        assert abs(block.mean()) < 0.01  # four standard errors: 4 / sqrt(64 * 4096)
        assert abs(64 * block.var() - 1) < 0.1


def test_the_same_key_gives_the_same_params(build, key):
    params, again = build(I, H).init(key), build(I, H).init(jax.random.key(0))
    assert_same(params, again)
    other = build(I, H).init(jax.random.key(1))
    assert not np.array_equal(params.w_in, other.w_in)
    assert not np.array_equal(params.w_rec, other.w_rec)


def test_init_is_the_same_under_jit(build, key):
    cell = build(I, H)
    assert_close(jax.jit(cell.init)(key), cell.init(key))


def test_one_initialiser_serves_every_gate(build, gates, key):
    cell = build(I, H, recurrent_init=constant(2.0), input_init=constant(3.0))
    params = cell.init(key)
    assert_same(params.w_rec, jnp.full((H, gates * H), 2.0))
    assert_same(params.w_in, jnp.full((I, gates * H), 3.0))


def test_one_initialiser_for_each_gate(build, gates, key):
    row = tuple(constant(float(g)) for g in range(1, gates + 1))
    shift = {"forget_bias": 0.0} if build is rx.cells.lstm else {}
    cell = build(I, H, recurrent_init=row, input_init=row, bias_init=row, **shift)
    expected = jnp.repeat(jnp.arange(1.0, gates + 1), H)
    params = cell.init(key)
    assert_same(params.b, expected)
    assert_same(params.w_rec, jnp.broadcast_to(expected, (H, gates * H)))
    assert_same(params.w_in, jnp.broadcast_to(expected, (I, gates * H)))


def test_the_initial_state_is_zero_in_the_dtype_of_the_params(build, key):
    cell = build(I, H, dtype="bfloat16")
    params = cell.init(key)
    state = cell.initial_state(params, (2, 5))
    for leaf in state:
        assert_same(leaf, jnp.zeros((2, 5, H), jnp.bfloat16))
    assert {leaf.shape for leaf in cell.initial_state(params)} == {(H,)}


def test_no_two_fields_share_a_buffer(key):
    """A buffer that is donated once cannot be donated again."""
    cell = rx.cells.lstm(I, H)
    state = cell.initial_state(cell.init(key), (2,))
    assert state.h.unsafe_buffer_pointer() != state.c.unsafe_buffer_pointer()


# --- the LSTM's forget bias ----------------------------------------------------------------------


@pytest.mark.parametrize("by", [0.0, 1.0, 3.5])
def test_forget_bias_is_added_to_the_second_gate(key, by):
    b = rx.cells.lstm(I, H, forget_bias=by).init(key).b
    assert_same(b, jnp.zeros(4 * H).at[H : 2 * H].set(by))


def test_forget_bias_is_1_unless_told(key):
    assert_same(rx.cells.lstm(I, H).init(key).b, jnp.zeros(4 * H).at[H : 2 * H].set(1.0))


def test_forget_bias_comes_on_top_of_bias_init(key):
    cell = rx.cells.lstm(I, H, forget_bias=2, bias_init=constant(0.5), dtype="bfloat16")
    expected = jnp.full(4 * H, 0.5, jnp.bfloat16).at[H : 2 * H].set(2.5)
    assert_same(cell.init(key).b, expected)


# --- the LSTM's projection -----------------------------------------------------------------------


def test_an_lstm_with_a_projection(key):
    params = rx.cells.lstm_projection(I, H, 4, projection_init=constant(2.0)).init(key)
    assert params._fields == ("w_in", "w_rec", "b", "w_proj")
    assert params.w_in.shape == (I, 4 * H)
    assert_same(params.b, jnp.zeros(4 * H).at[H : 2 * H].set(1.0))
    assert_same(params.w_proj, jnp.full((H, 4), 2.0))
    for block in np.split(np.asarray(params.w_rec, np.float64), 4, -1):
        np.testing.assert_allclose(block @ block.T, np.eye(4), atol=1e-5)
    assert rx.cells.lstm_projection(I, 5).init(key).w_proj.shape == (5, 2)  # half of H
    cell = rx.cells.lstm_projection(I, H, 4, dtype="bfloat16")
    state = cell.initial_state(cell.init(key), (2,))
    assert {f: (x.shape, str(x.dtype)) for f, x in state._asdict().items()} == {
        "h": ((2, 4), "bfloat16"),
        "c": ((2, H), "bfloat16"),
    }
    for bad in (0, 1.5):
        with pytest.raises((ValueError, TypeError), match=r"^projection_size must be a positive"):
            rx.cells.lstm_projection(I, H, bad)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (rx.cells.gru_reset_before(I, H), f"gru_reset_before({I}, {H}, float32)"),
        (
            rx.cells.lstm_projection(I, H, 4, forget_bias=0.0, projection_init=constant(1.0)),
            f"lstm_projection({I}, {H}, float32, projection_size=4, forget_bias=0, "
            "projection_init=constant)",
        ),
    ],
)
def test_plain_cells_print_as_their_call(cell, text):
    assert repr(cell) == text


# --- values --------------------------------------------------------------------------------------


def test_cells_of_equal_arguments_are_equal(build):
    assert build(I, H) == build(I, H)
    assert hash(build(I, H)) == hash(build(I, H))
    assert len({build(I, H), build(I, H), build(I, H + 1)}) == 2
    for other in (build(I + 1, H), build(I, H + 1), build(I, H, dtype="bfloat16")):
        assert build(I, H) != other


def test_cells_of_other_arguments_are_not_equal():
    assert rx.cells.lstm(I, H) == rx.cells.lstm(I, H, forget_bias=1)
    assert rx.cells.lstm(I, H) != rx.cells.lstm(I, H, forget_bias=2.0)
    assert rx.cells.elman(I, H) != rx.cells.elman(I, H, activation="relu")
    ones = jax.nn.initializers.ones
    assert rx.cells.gru(I, H, bias_init=ones) == rx.cells.gru(I, H, bias_init=ones)
    assert rx.cells.gru(I, H, bias_init=ones) != rx.cells.gru(I, H)


def test_sizes_may_be_numpy_integers(build):
    assert build(np.int64(I), np.int32(H)) == build(I, H)
