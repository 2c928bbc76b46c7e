"""The table of promises, predictions and measurements."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import linear
from close import says
from contract import I, like, make_case

import recurrax as rx
from recurrax.flow.report import Row, table


def elman(scale, hidden=16):
    """Orthogonal weights times a number, no inputs: the gradient is scale^t."""
    cell = rx.cells.elman(I, hidden)
    params = cell.init(jax.random.key(0))
    return cell, params._replace(w_rec=scale * params.w_rec)


# --- what it holds -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "own_gated"])
def test_is_made_of_what_the_single_questions_answer(name):
    case = make_case(name, "float32")
    cell, params, state, xs = case
    got = rx.flow.report(*case)
    tied, untied = (
        rx.flow.predict(cell, params, state, xs, weights=weights) for weights in ("tied", "untied")
    )
    decay = rx.flow.decay(*case)
    for mine, theirs in (
        (got.decay, decay),
        (got.bounds, rx.flow.bounds(*case)),
        (got.tied, tied),
        (got.untied, untied),
        (got.horizon, rx.flow.horizon(decay)),
    ):
        assert jax.tree.structure(mine) == jax.tree.structure(theirs)
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            assert np.array_equal(a, b)
    assert got.verdict == rx.flow.verdict(decay)
    assert (got.rate == rx.flow.rate(decay)).all()
    row = got.row("tied")
    squares = np.exp(2 * np.float64(decay.log_frobenius[-1]))
    np.testing.assert_allclose(row.measured, 0.5 * np.log(squares.mean()), rtol=1e-6)
    assert row.value == float(tied.log_frobenius[-1])


def test_step_that_is_not_gated_is_measured_and_bounded():
    got = rx.flow.report(linear, 0.5 * jnp.eye(2), jnp.zeros(2), jnp.zeros((10, 2)))
    assert got.tied is got.untied is None
    assert got.row("tied") == Row("tied", None, None, None, "no prediction: not a gated cell")
    assert got.row("upper bound at T").agrees
    assert got.row("lower bound at T").agrees
    np.testing.assert_allclose(got.row("lower bound at T").value, 10 * np.log(0.5), rtol=1e-5)
    assert "spectral radius" not in str(got)


# --- what agrees ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "word", "sufficient", "necessary"),
    [(0.5, "vanishes", ("holds", True), ("fails", True)),
     (1.0, "holds", ("fails", None), ("fails", True)),
     (1.5, "explodes", ("fails", None), ("holds", None))],
)  # fmt: skip
def test_conditions(scale, word, sufficient, necessary):
    got = rx.flow.report(*elman(scale), None, jnp.zeros((30, I)))
    assert got.verdict == word
    for name, expected in (
        ("sufficient for vanishing", sufficient),
        ("necessary for exploding", necessary),
    ):
        row = got.row(name)
        assert (row.value, row.agrees) == expected
        assert row.measured == word
    for name in ("upper bound at T", "lower bound at T", "tied", "untied"):
        assert got.row(name).agrees, name
        np.testing.assert_allclose(
            got.row(name).value, got.row(name).measured, rtol=1e-3, atol=1e-2
        )


def test_untied_prediction_of_an_lstm_is_wrong_and_says_so():
    cell = rx.cells.lstm(8, 64)
    params = cell.init(jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (40, 8))
    got = rx.flow.report(cell, params, None, xs)
    assert got.row("tied").agrees
    assert not got.row("untied").agrees
    line = next(line for line in str(got).splitlines() if line.startswith("untied"))
    assert " NO " in line
    assert "(allowed 0.02)" in line


def test_tolerance_decides():
    case = make_case("lstm", "float32")
    row = rx.flow.report(*case).row("tied")
    per_step = abs(row.value - row.measured) / 6
    assert rx.flow.report(*case, tolerance=1.01 * per_step).row("tied").agrees
    assert not rx.flow.report(*case, tolerance=0.99 * per_step).row("tied").agrees


def test_dead_weights():
    """All is exactly zero: minus infinity agrees with minus infinity."""
    got = rx.flow.report(*elman(0.0), None, jnp.zeros((30, I)))
    for name in ("tied", "untied", "upper bound at T", "lower bound at T"):
        assert got.row(name).value == got.row(name).measured == -np.inf, name
        assert got.row(name).agrees, name
    assert got.row("sufficient for vanishing").agrees


def test_tied_prediction_of_a_long_sequence_is_of_its_beginning():
    cell, params = elman(0.9, 4)
    xs = like(3, jnp.zeros((300, I)), 0.1)
    got = rx.flow.report(cell, params, None, xs)
    assert len(got.tied.log_frobenius) == 128
    assert len(got.untied.log_frobenius) == 300
    np.testing.assert_allclose(got.row("tied").measured, got.decay.log_frobenius[127], rtol=1e-6)
    assert "t = 128" in got.row("tied").reason


# --- the table -----------------------------------------------------------------------------------


def test_table_in_full():
    rows = (
        Row("log norm at T", None, -43.325, None, "T = 100"),
        Row("verdict", None, "vanishes", None, "why"),
        Row("tied", -42.79, -43.28, True, "near"),
        Row("untied", float("-inf"), 1e-20, False, "far"),
    )
    expected = """\
question       claimed  measured  agrees  reason
log norm at T        -    -43.33          T = 100
verdict              -  vanishes          why
tied            -42.79    -43.28  yes     near
untied            -inf     1e-20  NO      far"""
    assert table(rows) == expected


def test_report_prints_its_rows():
    got = rx.flow.report(*make_case("lstm", "float32"))
    assert str(got) == table(got.rows)
    assert len({row.name for row in got.rows}) == len(got.rows)


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tolerance", [0, -1.0])
def test_tolerance_that_is_not_positive(tolerance):
    with says(ValueError, f"tolerance must be above 0, got {tolerance}"):
        rx.flow.report(*make_case("gru", "float32"), tolerance=tolerance)


def test_row_that_is_not_there():
    got = rx.flow.report(linear, jnp.eye(2), jnp.zeros(2), jnp.zeros((10, 2)))
    with says(
        ValueError,
        "name must be one of the rows ('log norm at T', 'rate (nats a step)', 'horizon (steps)', "
        "'verdict', 'top exponent (nats a step)', 'directions left at T', 'upper bound at T', "
        "'lower bound at T', 'tied', 'untied'), got 'chi'",
    ):
        got.row("chi")
