"""Each kernel alone, by Pallas's interpreter, against its plain twin: several groups at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from close import assert_close
from kernel_cells import all_cells

from recurrax.unrolling.kernel import reference
from recurrax.unrolling.kernel.backward_kernel import backward_kernel
from recurrax.unrolling.kernel.by_gate import backward_by_gate, forward_by_gate
from recurrax.unrolling.kernel.forward_kernel import forward_kernel
from recurrax.unrolling.kernel.kernel_spec import Backward, Forward, KernelSpec
from recurrax.unrolling.kernel.placement import Plan

pytestmark = pytest.mark.slow
N, T, B = 2, 3, 5
LOOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("name", ["gru", "minimal", "leaky"])
def test_against_the_reference(name):
    cell = all_cells()[name]
    step, params = cell.step, cell.init(jax.random.key(0))
    hidden, fields = params.w_rec.shape[0], len(step.state._fields)
    keys = iter(jax.random.split(jax.random.key(1), 40))

    def draw(*shape):
        return jax.random.normal(next(keys), (N, *shape))

    def several(*shape):
        return tuple(draw(*shape, hidden) for _ in range(fields))

    plan = Plan(16, 16, 4, 1, jax.lax.Precision.HIGHEST)
    task = KernelSpec(step, True, (True,) + (False,) * (fields - 1), plan, interpret=True)
    mask, resets = draw(T, B) > -0.5, draw(T, B) > 0.8
    unit = jax.tree.map(lambda a: draw(hidden), params.unit)
    z, w_rec = draw(T, B, step.gates * hidden), draw(hidden, step.gates * hidden)
    given = Forward(mask, resets, z, w_rec, unit, (), several(B), several(B))
    by_gate = forward_by_gate(step, unit, hidden)
    assert_close(forward_kernel(task, by_gate, given), reference.forward(task, given), **LOOSE)
    errors = several(T, B)[:1] + (None,) * (fields - 1)
    given = Backward(mask, resets, (z, -z), w_rec, unit, (), several(T, B), errors, several(B))
    by_gate = backward_by_gate(step, unit, hidden)
    assert_close(backward_kernel(task, by_gate, given), reference.backward(task, given), **LOOSE)


def test_the_twin_of_the_backward_pass_is_the_gradient_of_the_forward_one():
    """So both kernels are held to one function and its derivative, and not to each other."""
    cell = all_cells()["lstm"]
    params = cell.init(jax.random.key(0))
    plan = Plan(16, 16, 4, 1, None)
    task = KernelSpec(cell.step, False, (True, True), plan)
    z = jax.random.normal(jax.random.key(1), (1, T, B, 20))
    zero = (jnp.zeros((1, B, 5)),) * 2

    def states(z):
        given = Forward(None, None, z, params.w_rec[None], None, (), zero, None)
        return reference.forward(task, given).stacks

    stacks, pull = jax.vjp(states, z)
    errors = jax.tree.map(jnp.cos, stacks)
    old = tuple(jnp.concatenate([jnp.zeros_like(a[:, :1]), a[:, :-1]], 1) for a in stacks)
    total = z + old[0] @ params.w_rec
    given = Backward(None, None, (total,), params.w_rec[None], None, (), old, errors, zero)
    assert_close(reference.backward(task, given).z[0], pull(errors)[0], **LOOSE)
