"""How results print."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import recurrax as rx

SHAPES = "log_norm=float32[3,2], log_frobenius=float32[3,2]"


def decay(of=jnp.asarray):
    logs = of(np.array([[-1, -2], [-3, -4], [-5, -6]], np.float32))
    return rx.flow.Decay(logs, logs)


def test_names_shapes_and_a_headline():
    for of in (jnp.asarray, np.asarray):
        assert repr(decay(of)) == f"Decay({SHAPES}, median at T -5.5)"
    one = jax.tree.map(lambda leaf: leaf[:, 0], decay())
    assert repr(one) == "Decay(log_norm=float32[3], log_frobenius=float32[3], at T -5)"


def test_traced_values_and_shapes_have_no_headline():
    seen = []
    jax.jit(lambda found: seen.append(repr(found)))(decay())
    assert seen == [f"Decay({SHAPES})"]
    assert repr(jax.eval_shape(decay)) == f"Decay({SHAPES})"


def test_whatever_stands_in_the_fields():
    assert repr(jax.tree.map(lambda leaf: leaf[-1, 0], decay())) == (
        "Decay(log_norm=-5, log_frobenius=-5)"
    )
    assert repr(rx.flow.Decay(0, None)) == "Decay(log_norm=0, log_frobenius=None)"
    assert repr(decay()._replace(log_norm=jnp.zeros((0, 2)))) == (
        "Decay(log_norm=float32[0,2], log_frobenius=float32[3,2])"
    )


def test_results_within_results():
    gates = rx.flow.GateStatistics(("i", "f"), *[jnp.zeros((3, 2))] * 3)
    logs = jnp.array([0.0, 0.5, 0.25])
    assert repr(rx.flow.Paths(logs, logs, logs, logs, gates)) == (
        "Paths(log_total=float32[3], log_direct=float32[3], log_detour=float32[3], "
        "share=float32[3], gates=GateStatistics(names=('i', 'f'), mean=float32[3,2], "
        "low=float32[3,2], high=float32[3,2]), share at T 0.25)"
    )


def test_records_of_numbers():
    record = rx.flow.Watched(
        *(jnp.int32(7), jnp.float32(-1.5), jnp.float32(-1), jnp.float32(-0.1)),
        *(jnp.float32(jnp.inf), None, {"f": jnp.float32(0.25)}, {}),
    )
    assert repr(record) == (
        "Watched(step=7, log_norm=-1.5, log_frobenius=-1, rate=-0.1, horizon=inf, "
        "largest_singular_value=None, gates={'f': 0.25}, saturated={})"
    )


def test_a_report_is_not_its_table():
    cell = rx.cells.elman(1, 4)
    found = rx.flow.report(cell, cell.init(jax.random.key(0)), None, jnp.zeros((5, 1)))
    assert repr(found) == f"Report(verdict='holds', {len(found.rows)} rows; print it for the table)"
