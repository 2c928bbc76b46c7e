"""`engine="kernel"` against `engine="scan"`: by its plain twin, and by Pallas's interpreter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from close import assert_close, says
from halves import skip_without
from kernel_cells import all_cells, cumulative, gated

import recurrax as rx

LOOSE = {"rtol": 2e-4, "atol": 1e-4}
SLOW = pytest.mark.slow
ROUNDING = {"bfloat16": 0.02, "float16": 0.003}  # some units in the last place, over 12 steps


def problem(cell, *, length=6, batch=(3,), dtype=jnp.float32):
    params = cell.init(jax.random.key(0))
    params = jax.tree.map(lambda a: a + jnp.asarray(0.1, a.dtype), params)
    xs = jax.random.normal(jax.random.key(1), (length, *batch, 3), dtype)
    state = jax.tree.map(
        lambda a: jax.random.normal(jax.random.key(2), a.shape, a.dtype),
        cell.initial_state(params, batch),
    )
    return params, state, xs


def value_and_grad(cell, args, engine, *, run=rx.unroll_states, **options):
    def loss(params, state, xs):
        found = run(cell, params, state, xs, engine=engine, **options)
        leaves = jax.tree.leaves(found)
        return sum(jnp.sum(jnp.sin(1.7 * a.astype(jnp.float32))) for a in leaves), found

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*args)


def flags(length=6, batch=3):
    some = jax.random.bernoulli(jax.random.key(3), 0.7, (length, batch))
    few = jax.random.bernoulli(jax.random.key(4), 0.3, (length, batch))
    return {"mask": some.at[:, 0].set(False), "resets": few}


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("lstm", "leaky", "moving_gates") else pytest.param(name, marks=SLOW)
        for name in all_cells()
    ],
)
def test_values_and_gradients(name):
    cell = all_cells()[name]
    args = problem(cell)
    options = {**flags(), "reverse": True}  # plain ones are in test_any_batch
    expected = value_and_grad(cell, args, "scan", **options)
    for engine in ("kernel", "interpreted"):
        assert_close(value_and_grad(cell, args, engine, **options), expected, **LOOSE)


@pytest.mark.parametrize(("name", "dtype"), [("lstm", "bfloat16"), ("constant", "float16")])
def test_half_precision_accumulates_in_float32(name, dtype):
    """The states are nearer to float32 than those of a scan in half precision."""
    skip_without(dtype)
    cell = all_cells(jnp.dtype(dtype))[name]
    args = problem(cell, length=12, dtype=dtype)
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), args)
    (_, exact), exact_grads = value_and_grad(all_cells()[name], wide, "scan", **flags(12))
    (_, scanned), _ = value_and_grad(cell, args, "scan", **flags(12))
    for engine in ("kernel", "interpreted"):
        (_, states), grads = value_and_grad(cell, args, engine, **flags(12))
        assert distance(states, exact) < distance(scanned, exact)
        assert distance(grads, exact_grads) < ROUNDING[dtype]
        dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves((states, grads))}
        assert dtypes == {dtype}


def distance(tree, exact):
    """`||a - b|| / ||b||` over all leaves."""

    def norm(leaves):
        return float(sum(jnp.sum(a**2) for a in leaves)) ** 0.5

    wanted = jax.tree.leaves(exact)
    found = [a.astype(jnp.float32) for a in jax.tree.leaves(tree)]
    return norm([a - b for a, b in zip(found, wanted, strict=True)]) / norm(wanted)


@pytest.mark.parametrize("batch", [(), (17,), (2, 3)])
def test_any_batch(batch):
    """None, more than a tile of 16, and several axes that are less."""
    cell = rx.cells.gru(3, 5)
    args = problem(cell, length=4, batch=batch)
    expected = value_and_grad(cell, args, "scan", run=rx.unroll)
    assert_close(value_and_grad(cell, args, "interpreted", run=rx.unroll), expected, **LOOSE)


@pytest.mark.parametrize("hidden", [16, 17])
def test_a_full_tile_and_one_more(hidden):
    cell = rx.cells.lstm(3, hidden)
    args = problem(cell, length=3, batch=(16,))
    expected = value_and_grad(cell, args, "scan")
    assert_close(value_and_grad(cell, args, "interpreted"), expected, **LOOSE)


@pytest.mark.parametrize(("engine", "reverse"), [("kernel", False), ("interpreted", True)])
def test_remat(engine, reverse):
    cell = rx.cells.lstm(3, 5)
    args = problem(cell, length=7)
    options = {**flags(7), "remat": 3, "reverse": reverse}
    expected = value_and_grad(cell, args, "scan", **options)
    assert_close(value_and_grad(cell, args, engine, **options), expected, **LOOSE)


def test_stacks_and_residuals():
    cell = rx.stack(rx.residual(rx.cells.elman(3, 3)), rx.cells.lstm(3, 5))
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (5, 2, 3))
    found, expected = (rx.unroll(cell, params, None, xs, engine=e) for e in ("interpreted", "scan"))
    assert_close(found, expected, **LOOSE)


def test_an_empty_batch():
    cell = rx.cells.lstm(3, 5)
    args = problem(cell, batch=(0,))
    assert_close(value_and_grad(cell, args, "kernel"), value_and_grad(cell, args, "scan"))


def test_float32_where_float64_is_allowed(x64):
    cell = rx.cells.gru(3, 5, dtype=jnp.float32)
    args = problem(cell)
    expected = value_and_grad(cell, args, "scan")
    assert_close(value_and_grad(cell, args, "interpreted"), expected, **LOOSE)


def test_one_step():
    cell = rx.cells.elman(3, 4)
    args = problem(cell, length=1)
    expected = value_and_grad(cell, args, "scan")
    assert_close(value_and_grad(cell, args, "interpreted"), expected, **LOOSE)


def test_padding_that_makes_no_number_stays_outside():
    """H = 5 leaves 11 columns of a tile empty; what log makes of zeros there must not come in."""

    def logarithmic(unit, z_in, z_rec, state):
        return state._replace(h=jnp.tanh(jnp.log(unit) + (z_in + z_rec)[0]))

    cell = gated(logarithmic, gates=1, unit_init=jax.nn.initializers.ones)
    args = problem(cell)
    expected = value_and_grad(cell, args, "scan")
    assert_close(value_and_grad(cell, args, "interpreted"), expected, **LOOSE)


def test_errors():
    def run(cell, dtype=jnp.float32):
        params = cell.init(jax.random.key(0))
        xs = jnp.ones((4, 2, 3), dtype)
        return rx.unroll(cell, params, None, xs, engine="kernel")

    plain = rx.Cell(
        lambda key: jnp.ones(3), lambda p, batch=(): jnp.zeros((*batch, 3)), lambda p, s, x: (s, s)
    )
    with pytest.raises(TypeError, match='engine="kernel" runs gated cells, but the cell is not'):
        run(plain)
    with says(
        ValueError,
        'engine="kernel" cannot run cumulative: its pointwise function cannot be run gate by '
        'gate: cumsum is not elementwise. Use engine="auto" or "hoisted".',
    ):
        run(gated(cumulative, gates=2))
    with (
        jax.enable_x64(True),
        says(
            ValueError,
            'engine="kernel" cannot run lstm_pointwise: it takes float32, bfloat16, float16, got '
            'float64. Use engine="auto" or "hoisted".',
        ),
    ):
        run(rx.cells.lstm(3, 4, dtype=jnp.float64), jnp.float64)
    with pytest.raises(ValueError, match="must have one dtype, got bfloat16, float32"):
        run(rx.cells.lstm(3, 4), jnp.bfloat16)
