"""One tanh for a row of gates."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import says

import recurrax as rx

KINDS = ("sigmoid", "tanh", "tanh", "sigmoid")


def separately(z):
    pairs = zip(KINDS, z, strict=True)
    return jnp.stack([jax.nn.sigmoid(a) if k == "sigmoid" else jnp.tanh(a) for k, a in pairs])


@pytest.fixture
def z():
    """Saturated on both sides, and dense around zero."""
    return jnp.broadcast_to(jnp.linspace(-30, 30, 241), (4, 2, 241))


def test_values(x64, z):
    got = rx.gate_activations(z.astype("float64"), *KINDS)
    np.testing.assert_allclose(got, separately(z.astype("float64")), rtol=0, atol=4e-15)


def test_values_in_float32(z):
    got = rx.gate_activations(z, *KINDS)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, separately(z), rtol=0, atol=2e-6)


def test_gradients(x64, z):
    z = z.astype("float64")
    weight = jnp.cos(jnp.arange(z.size, dtype=z.dtype)).reshape(z.shape)
    got = jax.grad(lambda z: jnp.sum(weight * rx.gate_activations(z, *KINDS)))(z)
    expected = jax.grad(lambda z: jnp.sum(weight * separately(z)))(z)
    np.testing.assert_allclose(got, expected, rtol=0, atol=4e-15)


def test_a_closed_gate_is_exactly_0_or_1():
    closed = rx.gate_activations(jnp.array([[-100.0, 100.0]]), "sigmoid")
    assert closed.tolist() == [[0.0, 1.0]]


def test_gates_are_never_outside_their_range():
    z = jnp.linspace(-20, 20, 10001)[None]
    (gate,) = rx.gate_activations(z, "sigmoid")
    assert 0 <= float(gate.min()) <= float(gate.max()) <= 1


def test_half_precision_stays_half():
    assert rx.gate_activations(jnp.zeros((1, 2), jnp.bfloat16), "tanh").dtype == jnp.bfloat16


def test_unknown_kind():
    with says(ValueError, 'kinds must be "sigmoid" or "tanh", got \'relu\''):
        rx.gate_activations(jnp.zeros((2, 3)), "tanh", "relu")


@pytest.mark.parametrize("shape", [(3, 2), ()])
def test_one_kind_for_each_gate(shape):
    message = (
        f"z must be [G, ..., H] with one kind for each gate: got 2 kinds for shape {shape}. "
        "The gate axis comes first."
    )
    with says(ValueError, message):
        rx.gate_activations(jnp.zeros(shape), "tanh", "tanh")
