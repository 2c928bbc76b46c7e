"""The pointwise function gate by gate, against itself on whole arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
from kernel_cells import all_cells, cumulative, gated

import recurrax as rx
from recurrax.unrolling.kernel.by_gate import backward_by_gate, forward_by_gate

pytestmark = pytest.mark.slow
ROWS = 3


def case(cell):
    step, params = cell.step, cell.init(jax.random.key(0))
    hidden, fields = params.w_rec.shape[0], len(step.state._fields)
    keys = iter(jax.random.split(jax.random.key(1), 2 + 2 * fields))

    def draw(*shape):
        return jax.random.normal(next(keys), (*shape, ROWS, hidden))

    unit = jax.tree.map(lambda a: jnp.broadcast_to(a + 0.3, (ROWS, hidden)), params.unit)
    z = draw(step.gates), draw(step.gates)
    old, error = (tuple(draw() for _ in range(fields)) for _ in range(2))
    return unit, *z, old, error


@pytest.mark.parametrize("name", all_cells())
def test_values_and_gradients(name):
    step = all_cells()[name].step
    unit, z_in, z_rec, old, error = case(all_cells()[name])
    hidden = z_in.shape[-1]

    def fields(unit, z_in, z_rec, old):
        return tuple(step.pointwise(unit, z_in, z_rec, step.state(*old)))

    def by_gate(made, *args):
        found = made([jnp.asarray(c)[None] for c in made.columns], *args)
        # What does not depend on the example is a row or a number.
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (ROWS, hidden)), found)

    new, pull = jax.vjp(fields, unit, z_in, z_rec, old)
    args = unit, tuple(z_in), tuple(z_rec), old
    assert_close(by_gate(forward_by_gate(step, unit, hidden), *args), new)
    d_unit, d_in, d_rec, d_old = pull(error)
    found = by_gate(backward_by_gate(step, unit, hidden), *args, error)
    assert_close(found, (d_unit, tuple(d_in), tuple(d_rec), d_old))


def test_columns_are_what_a_kernel_must_be_given():
    made = forward_by_gate(all_cells()["closing_over"].step, None, 5)
    assert [c.shape for c in made.columns] == [(5,)]


def test_derivative_rules_of_the_user_are_kept():
    """`jax.nn.relu` has a slope of 0 at 0 by its own rule, and not of a half."""
    step = all_cells()["moving_gates"].step
    zero = jnp.zeros((1, 5))
    pull = backward_by_gate(step, None, 5)
    d_in = pull([], None, (zero, zero), (zero, zero), (zero, zero), (zero + 1, zero + 1))[1]
    assert float(abs(d_in[1]).sum()) == 0.0


@pytest.mark.parametrize(
    ("pointwise", "reason"),
    [
        (cumulative, "cumsum is not elementwise"),
        (lambda u, z_in, z_rec, s: s._replace(h=jnp.sort(z_in + z_rec, 0)[0]), "sort is not"),
        (
            lambda u, z_in, z_rec, s: s._replace(h=(z_in[:, None] * z_rec[None]).sum((0, 1))),
            "two axes of gates",
        ),
        (
            lambda u, z_in, z_rec, s: s._replace(h=jnp.stack([z_in, z_rec]).sum((0, 1))),
            "two axes of gates",
        ),
        (
            lambda u, z_in, z_rec, s: s._replace(
                h=jax.jit(lambda z: z * np.arange(5, dtype=np.float32))(z_in[0] + z_rec[0])
            ),
            "closes over an array|it makes an array|mixes gates",
        ),
    ],
)
def test_what_cannot_be_done_says_so(pointwise, reason):
    cell = gated(pointwise, gates=2)
    made = forward_by_gate(cell.step, None, 5)
    tile = jnp.zeros((ROWS, 5))
    columns = [tile for _ in made.columns]
    with pytest.raises(NotImplementedError, match=reason):
        made(columns, None, (tile, tile), (tile, tile), (tile,))


def test_fewer_units_than_gates():
    """Nothing tells an axis of H numbers from one of G then."""
    with pytest.raises(NotImplementedError, match="H = 4 is no more than its 4 gates"):
        forward_by_gate(rx.cells.lstm(3, 4).step, None, 4)


@pytest.mark.parametrize(
    ("name", "sum_alone"), [("lstm", True), ("gru", False), ("looking", False)]
)
def test_whether_the_sum_tells_everything(name, sum_alone):
    cell = all_cells()[name]
    params = cell.init(jax.random.key(0))
    made = forward_by_gate(cell.step, params.unit, params.w_rec.shape[0])
    place = len(jax.tree.leaves(params.unit))
    assert made.counts_the_sum(place, place + 1) == sum_alone
