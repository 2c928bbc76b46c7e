"""The derivatives of a pointwise function, against those of `jax.jacfwd`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from close import assert_close
from contract import CELLS, like

from recurrax.gated.derivatives import traced_pointwise

B, H = 2, 5
KEPT = {"elman_tanh": 0, "lstm_forget_bias": 4, "gru": 4, "own_gated": 3}  # numbers a unit
SUMS = {"elman_tanh": True, "lstm_forget_bias": True, "gru": False, "own_gated": False}


class Instant:
    """A cell of the table at one instant; both pre-activations and the state are noise."""

    def __init__(self, name):
        cell = CELLS[name](jnp.float64)
        self.step = cell.step
        params = jax.eval_shape(cell.init, jax.random.key(0))
        hidden = params.w_rec.shape[0]
        z = jax.ShapeDtypeStruct((self.step.gates, B, hidden), jnp.float64)
        field = jax.ShapeDtypeStruct((B, hidden), jnp.float64)
        self.unit, self.z_in, self.z_rec = like(1, params.unit), like(2, z), like(3, z)
        self.old = like(4, (field,) * len(self.step.state._fields))
        self.args = self.unit, self.z_in, self.z_rec, self.old
        self.traced = traced_pointwise(self.step, *jax.eval_shape(lambda *a: a, *self.args))
        self.new, self.kept = jax.jit(self.traced.forward)(*self.args)

    def fields(self, unit, z_in, z_rec, old):
        return tuple(self.step.pointwise(unit, z_in, z_rec, self.step.state(*old)))


@pytest.fixture(params=KEPT)
def name(request):
    return request.param


@pytest.fixture
def at(name, x64):
    return Instant(name)


def test_forward_is_the_pointwise_function(at):
    assert_close(at.new, at.fields(*at.args))


def test_the_fewest_numbers_are_kept(at, name):
    assert at.traced.bytes_kept == KEPT[name] * at.new[0].size * 8
    assert at.traced.one_gate_gradient == SUMS[name]


def diagonal(jacobian):
    """`[..., B, H, B, H]` to `[..., B, H]`."""
    return jnp.einsum("bhbh->bh", jacobian)


@pytest.mark.parametrize("again", [False, True])
def test_derivatives(at, again):
    traced = at.traced
    known = (
        traced.known_by_gates(*at.args)
        if again
        else traced.known_by_states(at.unit, at.old, at.new, at.kept)
    )
    found = traced.evaluate(known)
    jacobian = jax.jit(jax.jacfwd(at.fields, argnums=(2, 3)))(*at.args)
    for k in range(len(at.old)):
        for g in range(at.step.gates):
            rec = 0.0 if found.rec[k][g] is None else found.rec[k][g]
            assert_close(rec + 0 * at.new[k], diagonal(jacobian[k][0][:, :, g]))
        for j in range(len(at.old)):
            direct = 0.0 if found.direct[k][j] is None else found.direct[k][j]
            assert_close(direct + 0 * at.new[k], diagonal(jacobian[k][1][j]))


def test_pull(at):
    error = like(7, at.new)
    found = at.traced.pull(at.traced.known_by_states(at.unit, at.old, at.new, at.kept), error)
    unit, z_in, _, _ = jax.vjp(at.fields, *at.args)[1](error)
    assert_close((found[0], jnp.stack(found[1])), (unit, z_in))
