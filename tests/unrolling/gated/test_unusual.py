"""Pointwise functions and arrays that the fast engine does not take: `auto` runs them by scan."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from close import assert_close, assert_finite, says
from contract import like
from slow_twin import total

import recurrax as rx

T, B, I, H = 6, 3, 2, 4


class One(NamedTuple):
    h: jax.Array


class Counted(NamedTuple):
    h: jax.Array
    n: jax.Array


@jax.custom_vjp
def clipped(x):
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))


def clips_its_gradient(unit, z_in, z_rec, state):
    return One(clipped(jnp.tanh(z_in[0] + z_rec[0])))


def counts(unit, z_in, z_rec, state):
    return Counted(jnp.tanh(z_in[0] + z_rec[0]), state.n + 1)


def calls_back(unit, z_in, z_rec, state):
    jax.debug.callback(lambda: None)
    return One(jnp.tanh(z_in[0] + z_rec[0]))


def leaks(unit, z_in, z_rec, state):
    return One(jnp.tanh(z_in[0] * unit["gain"] + z_rec[0]))


def case(pointwise, state=One, unit=None):
    step = rx.GatedStep(pointwise, 1, state)
    params = like(
        1, rx.GatedParams(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in ((I, H), (H, H), (H,))))
    )
    h = jnp.zeros((B, H))
    start = One(h) if state is One else Counted(h, jnp.zeros((B, H), jnp.int32))
    return (
        step,
        params._replace(unit=unit),
        start,
        like(2, jax.ShapeDtypeStruct((T, B, I), jnp.float32)),
    )


def gradient(step, params, state, xs, engine):
    def number(weights):
        w_in, w_rec = weights
        return total(
            rx.unroll(step, params._replace(w_in=w_in, w_rec=w_rec), state, xs, engine=engine)[1]
        )

    return jax.jit(jax.grad(number))((params.w_in, params.w_rec))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            case(clips_its_gradient),
            "its pointwise function cannot be taken apart: its gradient is not linear (a "
            "custom_vjp?)",
        ),
        (case(counts, Counted), "a field of the state or a unit parameter is not floating point"),
        (
            case(calls_back),
            "its pointwise function cannot be taken apart: it has side effects, such as a callback",
        ),
        (case(leaks, unit={"gain": jnp.ones((B, H))}), f"a unit parameter is not [H] = ({H},)"),
    ],
    ids=["custom_vjp", "integers", "callback", "unit"],
)
def test_auto_runs_it_by_scan_and_hoisted_says_why(given, reason):
    assert_close(gradient(*given, "auto"), gradient(*given, "scan"))
    message = f'engine="hoisted" cannot run {given[0].pointwise.__name__}: {reason}. '
    with says(TypeError, message + 'Use engine="auto" or "scan".'):
        rx.unroll(*given, engine="hoisted")


def test_a_pointwise_function_that_closes_over_what_is_traced():
    _, *rest = case(clips_its_gradient)

    def number(gain):
        step = rx.GatedStep(lambda u, a, b, s: One(jnp.tanh(gain * a[0] + b[0])), 1, One)
        return total(rx.unroll(step, *rest)[1])

    assert bool(jnp.isfinite(jax.grad(number)(jnp.asarray(0.5))))


def test_gradients_of_unit_parameters_at_masked_steps_are_finite():
    """A derivative that is infinite where the carried state is not what the gates gave."""

    def root(unit, z_in, z_rec, state):
        return One(jnp.sqrt(jax.nn.softplus(unit["a"] * (z_in[0] + z_rec[0]))))

    given = case(root, unit={"a": jnp.ones(H)})
    mask = rx.length_mask(jnp.array([T, 3, 0]), T)

    def run(engine, remat):
        def number(params):
            return total(
                rx.unroll(given[0], params, *given[2:], engine=engine, mask=mask, remat=remat)
            )

        return jax.jit(jax.grad(number))(given[1])

    found = run("hoisted", 2)
    assert_finite(found)
    assert_close(found, run("scan", None))


def test_states_of_two_dtypes():
    def lstm(unit, z_in, z_rec, state):
        c = 0.5 * state.n + jnp.tanh(z_in[0] + z_rec[0]).astype(jnp.float32)
        return Counted(jnp.tanh(c).astype(jnp.bfloat16), c)

    step, params, _, xs = case(lstm, Counted)
    params, xs = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, xs))
    state = Counted(jnp.zeros((B, H), jnp.bfloat16), jnp.zeros((B, H)))

    def run(engine):
        def number(params):
            return total(rx.unroll(step, params, state, xs, engine=engine)[0].n)

        slope = jax.jvp(number, (params,), (params,))[1]
        return jax.jit(jax.grad(number))(params), slope

    assert_close(run("hoisted"), run("scan"), rtol=6e-2, atol=6e-2)
