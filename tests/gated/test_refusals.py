"""What the fast engines refuse, by a list of known reasons, and what they do not: their own faults.

A fault behind `engine="auto"` would only be seen as a slow program, so it must come out.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_close
from contract import CELLS, PLAIN, like, make_case
from jax.extend.core import Primitive
from jax.interpreters import mlir

import recurrax as rx
from recurrax.gated import derivatives
from recurrax.unrolling.gated.engine import layers_of, reason_not_hoisted
from recurrax.unrolling.kernel import by_gate, choose

GATED = [name for name in CELLS if name not in PLAIN]
T, B, I, H = 5, 3, 2, 4


class One(NamedTuple):
    h: jax.Array


def case(function, batch=(B,)):
    """A gated step whose new state is a function of its only pre-activation."""

    def pointwise(unit, z_in, z_rec, state):
        return One(function(z_in[0] + z_rec[0]))

    shapes = rx.GatedParams(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in ((I, H), (H, H), (H,))))
    xs = like(2, jax.ShapeDtypeStruct((T, *batch, I), jnp.float32))
    return rx.GatedStep(pointwise, 1, One), like(1, shapes), One(jnp.zeros((*batch, H))), xs


# --- no shipped cell is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float32") for name in GATED),
        *((name, dtype) for name in ("own_gated", "stack") for dtype in ("bfloat16", "float64")),
    ],
)
def test_no_cell_of_the_table_is_refused(name, dtype, x64):
    """By no engine, in any dtype, with any batch axes; without running them."""
    cell, params, _, xs = make_case(name, jnp.dtype(dtype))
    layers = [layer for _, layer in layers_of(cell.step)]
    stacked = params if name == "stack" else (params,)
    for step, own in zip(layers, stacked, strict=True):
        size, hidden = own.w_in.shape[0], own.w_rec.shape[0]
        for batch in ((), (step.gates,), (2, 3)):
            field = jnp.zeros((*batch, hidden), dtype)
            state = step.state(*[field] * len(step.state._fields))
            x = jnp.zeros((T, *batch, size), xs.dtype)
            assert reason_not_hoisted(step, own, state, x) is None
        if hidden > step.gates and dtype != "float64":
            assert written(step, own) is None


def written(step, params):
    """Why the kernel cannot write a step's pointwise function."""

    class Ops(NamedTuple):
        w_rec: object
        unit: object

    return choose._unwritten(step, Ops(params.w_rec, params.unit))


# --- a fault comes out ---------------------------------------------------------------------------

FAULTS = [RuntimeError, TypeError, NotImplementedError, AssertionError]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", ["trace", "minimum_cut", "zeros"])
def test_a_fault_of_the_analysis_comes_out_of_auto(name, kind, monkeypatch):
    def fail(*_):
        raise kind("ours")

    monkeypatch.setattr(derivatives, name, fail)
    for engine in ("auto", "hoisted"):
        with pytest.raises(kind, match="ours"):
            rx.unroll(*case(jnp.tanh), engine=engine)


def test_a_fault_of_the_analysis_comes_out_where_the_function_is_unusual(monkeypatch):
    def fail(*_):
        raise TypeError("ours")

    monkeypatch.setattr(derivatives, "trace", fail)
    with pytest.raises(TypeError, match="ours"):
        rx.unroll(*case(jax.nn.relu))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_the_kernels_analysis_comes_out(kind, monkeypatch):
    def fail(*_):
        raise kind("ours")

    monkeypatch.setattr(by_gate, "_evaluate", fail)
    step, params, _, _ = case(jnp.tanh)
    with pytest.raises(kind, match="ours"):
        written(step, params)


def test_a_fault_of_a_lag_profile_comes_out_at_once(monkeypatch):
    calls = []

    def fail(*_):
        calls.append(1)
        raise RuntimeError("ours")

    monkeypatch.setattr("recurrax.flow.lags.by_lag.traced_pointwise", fail)
    with pytest.raises(RuntimeError, match="ours"):
        rx.flow.lag_profile(*case(jnp.tanh), lambda ys: ys.sum())
    assert len(calls) == 1


# --- what is known is refused, and run by scan ---------------------------------------------------


def with_gradient(rule):
    """The identity with a gradient of one's own."""

    @jax.custom_vjp
    def same(x):
        return x

    same.defvjp(lambda x: (x, None), lambda _, g: (rule(g),))
    return same


def fails(_):
    raise LookupError("no gradient today")


foreign = Primitive("foreign")
foreign.def_impl(lambda x: x)
foreign.def_abstract_eval(lambda x: x)
mlir.register_lowering(foreign, mlir.lower_fun(lambda x: x, multiple_results=False))

NOT_LINEAR = {
    "plus": lambda g: g + 1,
    "constant": jnp.ones_like,
    "norm": lambda g: g / jnp.sqrt(jnp.sum(g * g) + 1),
    "relu": lambda g: jnp.where(g > 0, g, 0),
    "square": lambda g: g * g,
    "sort": jnp.sort,
    "loop": lambda g: jax.lax.while_loop(lambda v: v.max() > 1, lambda v: v / 2, g),
}


@pytest.mark.parametrize("rule", NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_a_gradient_that_is_not_linear_is_refused(rule):
    reason = reason_not_hoisted(*case(with_gradient(rule)))
    assert reason == (
        "its pointwise function cannot be taken apart: its gradient is not linear (a custom_vjp?)"
    )


def test_a_gradient_of_ones_own_that_is_linear_is_not_refused():
    assert reason_not_hoisted(*case(with_gradient(lambda g: -3 * g))) is None
    assert (
        reason_not_hoisted(*case(jax.jit(with_gradient(lambda g: g.at[..., 0].set(0.0))))) is None
    )


def test_a_gradient_with_a_constant_term_is_that_of_scan():
    """It can be transposed, and yet it is not linear."""
    step, params, state, xs = case(with_gradient(lambda g: g + 1))

    def gradient(engine):
        def number(w_rec):
            return rx.unroll(step, params._replace(w_rec=w_rec), state, xs, engine=engine)[1].sum()

        return jax.grad(number)(params.w_rec)

    assert_close(gradient("auto"), gradient("scan"))


def calls_back(x):
    return jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


KNOWN = {
    "rule that raises": (with_gradient(fails), "no gradient today"),
    "primitive": (foreign.bind, "Differentiation rule for 'foreign' not implemented"),
    "callback": (calls_back, "Pure callbacks do not support JVP"),
    "loop": (
        lambda x: jax.lax.while_loop(lambda v: v.max() > 1, lambda v: v / 2, x),
        "Reverse-mode differentiation does not work for lax.while_loop",
    ),
}


@pytest.mark.parametrize(("function", "reason"), KNOWN.values(), ids=KNOWN)
def test_what_has_no_gradient_runs_forward(function, reason):
    given = case(function)
    said = reason_not_hoisted(*given)
    assert said.startswith(f"its pointwise function cannot be taken apart: {reason}")
    ys = rx.unroll(*given)[1]
    assert_close(ys, rx.unroll(*given, engine="scan")[1])


def test_a_function_for_its_own_batch_axes_is_run_by_scan():
    """The engine gives it one batch axis, whatever there was."""
    scale = like(4, jax.ShapeDtypeStruct((2, 3, H), jnp.float32))
    given = case(lambda x: jnp.tanh(scale * x), batch=(2, 3))
    assert reason_not_hoisted(*given) is not None
    assert_close(rx.unroll(*given)[1], rx.unroll(*given, engine="scan")[1])
