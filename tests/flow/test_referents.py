"""A function is known again by what it refers to."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recurrax.flow.referents import referents, same

SCALE = 2.0


def scaled(ys):
    return SCALE * jnp.sum(ys)


def of_scaled(ys):
    return scaled(ys) + 1


def countdown(n):
    return countdown(n - 1) if n else 0


def of_closure(value):
    return lambda ys: jnp.sum(value * ys)


def test_rebound_names_are_seen(monkeypatch):
    before = referents(scaled), referents(of_scaled)
    assert same(before[0], referents(scaled))
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert not same(before[0], referents(scaled))
    assert not same(before[1], referents(of_scaled))  # through the function it calls


def test_rebound_closures_and_defaults_are_seen():
    goal = jnp.zeros(2)

    def loss(ys, scale=1.0):
        return scale * jnp.sum((ys - goal) ** 2)

    before = referents(loss)
    assert same(before, referents(loss))
    goal = jnp.ones(2)
    assert not same(before, referents(loss))
    before = referents(loss)
    loss.__defaults__ = (2.0,)
    assert not same(before, referents(loss))


def test_a_function_that_calls_itself():
    assert same(referents(countdown), referents(countdown))


@pytest.mark.parametrize(
    "value",
    [np.ones(2), [1.0], {"a": 1.0}, (1.0, [2.0]), pytest, functools.partial(jnp.sum)],
    ids=lambda value: type(value).__name__,
)
def test_what_may_change_in_place_is_refused(value):
    assert referents(of_closure(value)) is None


@pytest.mark.parametrize("value", [1.0, None, (1, "a"), jnp, jnp.sin, jax.nn.relu, jnp.float32])
def test_what_stays_is_taken(value):
    assert referents(of_closure(value)) is not None


def test_other_callables_are_refused():
    assert referents(functools.partial(scaled)) is None
    assert referents(type("Loss", (), {"__call__": scaled})()) is None


def test_traced_values_are_refused():
    seen = []
    jax.make_jaxpr(lambda x: seen.append(referents(of_closure(x))))(1.0)
    assert seen == [None]
