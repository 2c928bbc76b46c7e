"""`rx.gated_cell`: what it makes, and what it refuses."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close, assert_same, says
from contract import LeakyState, leaky_pointwise, like, make_case

import recurrax as rx


class H(NamedTuple):
    h: jax.Array


def pointwise(unit, z_in, z_rec, state):
    return H(jnp.tanh(z_in[0] + z_rec[0]))


def build(pointwise=pointwise, **changes):
    return rx.gated_cell(
        pointwise, **{"gates": 1, "state": H, "input_size": 3, "hidden_size": 4} | changes
    )


# --- what it makes -------------------------------------------------------------------------------


def test_the_step_is_two_affine_maps_and_the_update(x64):
    cell, params, state, xs = make_case("own_gated", "float64")
    z_in = (xs[0] @ params.w_in + params.b).reshape(3, 2, 5).swapaxes(0, 1)
    z_rec = (state.h @ params.w_rec).reshape(3, 2, 5).swapaxes(0, 1)
    new, y = cell.step(params, state, xs[0])
    assert_close(new, leaky_pointwise(params.unit, z_in, z_rec, state))
    assert y is new.h


def test_gates_come_first_for_the_pointwise_function():
    seen = []

    def look(unit, z_in, z_rec, state):
        seen.append((z_in.shape, z_rec.shape, state.h.shape))
        return H(z_in[1] + z_rec[0])

    cell = build(look, gates=2)
    seen.clear()
    params = rx.GatedParams(jnp.ones((3, 8)), jnp.ones((4, 8)), jnp.zeros(8))
    cell.step(params, H(jnp.zeros((5, 4))), jnp.ones((5, 3)))
    assert seen == [((2, 5, 4), (2, 5, 4), (5, 4))]


def test_split():
    z = jnp.arange(12.0).reshape(2, 6)
    assert build(lambda unit, z_in, z_rec, state: state, gates=3).step.split(z).tolist() == [
        [[0, 1], [6, 7]],
        [[2, 3], [8, 9]],
        [[4, 5], [10, 11]],
    ]


def test_a_tree_of_unit_params(key):
    ones, zeros = jax.nn.initializers.ones, jax.nn.initializers.zeros

    def peephole(unit, z_in, z_rec, state):
        return H(jnp.tanh(z_in[0] + z_rec[0] + unit["p"][0] * state.h + unit["p"][1] + unit["q"]))

    cell = build(peephole, unit_init={"p": (ones, zeros), "q": ones})
    unit = cell.init(key).unit
    assert jax.tree.map(lambda a: a.tolist(), unit) == {"p": ([1] * 4, [0] * 4), "q": [1] * 4}


def test_params_in_a_class_of_ones_own(key):
    params = build(params=rx.cells.ElmanParams).init(key)
    assert isinstance(params, rx.cells.ElmanParams)


def test_a_step_is_recognised_by_value():
    step = build().step
    assert step == rx.GatedStep(pointwise, gates=1, state=H)
    assert step != rx.GatedStep(pointwise, gates=1, state=H, slope=1.0)
    assert hash(step) == hash(rx.GatedStep(pointwise, gates=1, state=H))


# --- the view of its gates -----------------------------------------------------------------------


def gates(unit, z_in, z_rec):
    return jnp.tanh(z_in + z_rec)


VIEW = rx.GateView(("h",), ("tanh",), gates)


def test_a_view_is_part_of_the_value():
    step = build(view=VIEW).step
    assert step.view == rx.GateView(("h",), ("tanh",), gates)
    assert step == rx.GatedStep(pointwise, gates=1, state=H, view=VIEW)
    assert step != build().step
    assert len({step, build(view=VIEW).step, build().step}) == 2


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (rx.cells.elman, ("h",)),
        (rx.cells.lstm, ("i", "f", "g", "o")),
        (rx.cells.gru, ("r", "z", "n")),
    ],
)
def test_the_shipped_cells_take_their_gates_from_their_view(make, names, x64):
    """Worked out anew from the gates, the new state is the same to the last bit."""
    cell = make(3, 4, dtype="float64")
    params = like(1, jax.eval_shape(cell.init, jax.random.key(0)))
    state = like(2, cell.initial_state(params, (2,)))
    count = cell.step.gates
    z_in, z_rec = like(3, jnp.zeros((count, 2, 4))), like(4, jnp.zeros((count, 2, 4)))
    view = cell.step.view
    got = dict(zip(view.names, view.values(params.unit, z_in, z_rec), strict=True))
    assert tuple(got) == names
    for kind, value in zip(view.kinds, got.values(), strict=True):
        assert value.shape == (2, 4)
        assert (abs(value) < 1).all()
        assert (value > 0).all() == (kind == "sigmoid")
    new = cell.step.pointwise(params.unit, z_in, z_rec, state)
    if "f" in got:
        c = got["f"] * state.c + got["i"] * got["g"]
        assert_same(new, rx.cells.LSTMState(h=got["o"] * jnp.tanh(c), c=c))
    elif "z" in got:
        assert_same(new.h, (1 - got["z"]) * got["n"] + got["z"] * state.h)
    else:
        assert_same(new.h, got["h"])


def test_a_view_whose_values_are_of_another_shape():
    def of_two(unit, z_in, z_rec):
        return jnp.tanh(z_in), jnp.tanh(z_rec)

    with says(
        ValueError,
        "the view's values must be one activation (4,) for each of its names ('h',), got shapes "
        "[(1, 4), (1, 4)]",
    ):
        build(view=rx.GateView(("h",), ("tanh",), of_two))


def test_a_view_that_is_none():
    with says(TypeError, "view must be a rx.GateView or None, got function"):
        build(view=gates)


def test_names_and_kinds_of_a_view():
    with says(ValueError, "kinds must be one for each of the names ('i', 'f'), got ('tanh',)"):
        rx.GateView(("i", "f"), ("tanh",), gates)
    with says(ValueError, 'kinds must be "sigmoid" or "tanh", got \'relu\''):
        rx.GateView(("i",), ("relu",), gates)
    with says(TypeError, "names must be a tuple of strings, got ['i']"):
        rx.GateView(["i"], ("tanh",), gates)


def test_a_cell_can_be_built_while_tracing():
    def value(x):
        cell = build()
        params = cell.init(jax.random.key(0))
        return rx.unroll(cell, params, None, x)[1].sum()

    x = jnp.ones((2, 1, 3))
    np.testing.assert_allclose(jax.jit(value)(x), value(x), rtol=1e-5)


# --- arguments that it refuses -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gates", "input_size", "hidden_size"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [(0, ValueError), (-3, ValueError), (True, ValueError), (2.0, TypeError), ("2", TypeError)],
)
def test_sizes(name, value, kind):
    with says(kind, f"{name} must be a positive integer, got {value!r}"):
        build(**{name: value})


@pytest.mark.parametrize("make", [rx.cells.elman, rx.cells.lstm, rx.cells.gru])
def test_sizes_of_the_shipped_cells(make):
    with says(ValueError, "hidden_size must be a positive integer, got 0"):
        make(3, 0)
    with says(TypeError, "input_size must be a positive integer, got 3.0"):
        make(3.0, 4)


@pytest.mark.parametrize("state", [dict, H(jnp.zeros(4)), None])
def test_a_state_that_is_no_class(state):
    with says(TypeError, f"state must be a NamedTuple class, got {state!r}"):
        build(state=state)


def test_a_state_without_h():
    class Carry(NamedTuple):
        c: jax.Array
        m: jax.Array

    message = (
        "state must have a field h, the output that the recurrent product reads; Carry has c, m"
    )
    with says(ValueError, message):
        build(state=Carry)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_a_dtype_that_is_not_floating(dtype):
    message = f"dtype must be a floating-point type such as jnp.float32, got {dtype}"
    with says(TypeError, message):
        build(dtype=dtype)


def test_float64_while_it_is_switched_off(key):
    message = (
        "dtype float64 is switched off in JAX. Switch it on before the first array is made "
        'with jax.config.update("jax_enable_x64", True), or build the cell with '
        "dtype=jnp.float32."
    )
    with says(ValueError, message):
        build(dtype="float64").init(key)


@pytest.mark.parametrize("name", ["recurrent_init", "input_init", "bias_init"])
def test_a_row_of_initialisers_of_another_length(name):
    row = (jax.nn.initializers.zeros,) * 3
    message = (
        f"{name} must be one initialiser (key, shape, dtype) -> array, such as "
        f"jax.nn.initializers.orthogonal(), or one for each of the 2 gates; got {row!r}"
    )
    with says(ValueError, message):
        build(gates=2, **{name: row})
    with says(ValueError, message.replace("2 gates", "4 gates")):
        rx.cells.lstm(3, 4, **{name: row})


def test_a_row_of_something_else():
    message = (
        "bias_init must be one initialiser (key, shape, dtype) -> array, such as "
        "jax.nn.initializers.orthogonal(), or one for each of the 1 gates; got [0.0]"
    )
    with says(ValueError, message):
        build(bias_init=[0.0])


def short(key, shape, dtype):
    return jnp.zeros(shape[:-1], dtype)


def test_an_initialiser_that_returns_another_shape(key):
    message = (
        f"initialiser {short!r} returned float32[4] where an array of shape (4, 4) was asked for. "
        "An initialiser takes (key, shape, dtype), as jax.nn.initializers do."
    )
    with says(ValueError, message):
        build(recurrent_init=short).init(key)


@pytest.mark.parametrize("bias", ["1", [1.0], True])
def test_a_forget_bias_that_is_no_number(bias):
    with says(TypeError, f"forget_bias must be a number, got {bias!r}"):
        rx.cells.lstm(3, 4, forget_bias=bias)


def test_a_forget_bias_that_is_not_finite():
    with says(ValueError, "forget_bias must be finite, got nan"):
        rx.cells.lstm(3, 4, forget_bias=float("nan"))


def test_an_unknown_activation():
    with says(ValueError, "activation must be one of 'tanh', 'relu'; got 'sigmoid'"):
        rx.cells.elman(3, 4, activation="sigmoid")


@pytest.mark.parametrize("shape", [4, [4], (4.0,)])
def test_a_batch_shape_that_is_none(key, shape):
    cell = build()
    message = (
        "batch_shape must be a tuple of integers such as (32,), or () for one sequence; "
        f"got {shape!r}"
    )
    with says(TypeError, message):
        cell.initial_state(cell.init(key), shape)


# --- pointwise functions that it refuses ---------------------------------------------------------


def softmax(unit, z_in, z_rec, state):
    return H(jax.nn.softmax(z_in[0] + z_rec[0]))


def mean_of_state(unit, z_in, z_rec, state):
    return H(jnp.tanh(z_in[0]) + jnp.mean(state.h, -1, keepdims=True))


def neighbour_in_unit(unit, z_in, z_rec, state):
    return H(jnp.tanh(z_rec[0]) + jnp.roll(z_in[0], 1, -1))


@pytest.mark.parametrize("mixing", [softmax, mean_of_state, neighbour_in_unit])
def test_units_that_see_each_other(mixing):
    message = (
        f"pointwise must be elementwise over hidden units, but {mixing.__name__} lets one unit "
        "change another's state. Write such a cell as an ordinary step function and wrap it in "
        "rx.Cell."
    )
    with says(ValueError, message):
        build(mixing)


def test_units_that_see_each_other_in_a_second_field():
    def mixing(unit, z_in, z_rec, state):
        h = jnp.tanh(z_in[0] + z_rec[0])
        return LeakyState(h=h, trace=jnp.cumsum(state.trace, -1))

    with pytest.raises(ValueError, match="but mixing lets one unit change another's state"):
        build(mixing, state=LeakyState)


def test_something_else_than_the_state():
    def bare(unit, z_in, z_rec, state):
        return jnp.tanh(z_in[0])

    with pytest.raises(TypeError, match=r"\Abare must return the new state, a H; it returned "):
        build(bare)


def test_a_field_of_another_shape():
    def joined(unit, z_in, z_rec, state):
        return H(jnp.tanh(z_in + z_rec))

    message = (
        "pointwise returned h of shape (2, 7, 4) for pre-activations of shape (2, 7, 4), expected "
        "(7, 4): each field of the state has one number a unit. Unpack the gates on the first "
        "axis, as in r, z, n = z_in + z_rec."
    )
    with says(ValueError, message):
        build(joined, gates=2)


def test_one_hidden_unit_has_none_to_mix_with():
    assert build(softmax, hidden_size=1) == build(softmax, hidden_size=1)


@pytest.mark.parametrize("hidden_size", [4, 5, 16])
@pytest.mark.parametrize(
    "mix",
    [
        lambda z: jnp.roll(z, 2, -1),  # even stay even
        lambda z: z[..., ::-1],
        lambda z: z - z.mean(-1, keepdims=True),
        lambda z: jnp.log(z).mean(-1, keepdims=True) + z,
    ],
)
def test_mixing_at_any_distance_is_seen(mix, hidden_size):
    def mixing(unit, z_in, z_rec, state):
        return H(jnp.tanh(mix(z_in[0] + z_rec[0])))

    with pytest.raises(ValueError, match="mixing lets one unit change another's state"):
        build(mixing, hidden_size=hidden_size)


def test_unit_init_of_another_kind():
    with pytest.raises(TypeError, match="unit_init must be a pytree of initialisers"):
        build(tanh_unit, unit_init={"a": 1.0})


def tanh_unit(unit, z_in, z_rec, state):
    return H(jnp.tanh(z_in[0] + z_rec[0]))
