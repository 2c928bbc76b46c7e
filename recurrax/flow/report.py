"""Bounds, predictions and measurement side by side, and which of them agree."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from recurrax import checks, keys
from recurrax.flow.bounds import Bounds, bounds_of
from recurrax.flow.decay import Decay, decay_of
from recurrax.flow.horizon import Horizon, horizon, rate, verdict
from recurrax.flow.lyapunov import Lyapunov, exponents_of
from recurrax.flow.predict import SAMPLES, Prediction, prediction_of
from recurrax.flow.spectrum import Spectrum, spectrum_of
from recurrax.flow.steps.trajectory import pose
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    from recurrax.cell import Cell, StepFn
    from recurrax.flow.steps.problem import Problem

_TIED_STEPS = 128  # its time grows as T^2, and it holds for T much smaller than sqrt(H) only
_EXPONENTS = 8  # how many of the leading ones


class Row(NamedTuple):
    """One line of a report: a number, and whether the measurement agrees with it."""

    name: str
    value: float | str | None  # natural log unless the name says otherwise; None: no promise
    measured: float | str | None  # what it is held against; None where it is no claim
    agrees: bool | None  # None where there is nothing to agree with
    reason: str


class Report(NamedTuple):
    """What is promised, what is predicted and what is measured of one network; prints as a table.

    The rows are for machines too: `report.row("tied").agrees`.
    """

    bounds: Bounds
    tied: Prediction | None  # None for a step that is not gated
    untied: Prediction | None
    decay: Decay
    rate: Any  # [*batch], measured
    horizon: Horizon  # measured
    verdict: Literal["vanishes", "explodes", "holds"]
    lyapunov: Lyapunov  # the leading exponents, 8 at most
    spectrum: Spectrum  # at T
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of that name."""
        found = [row for row in self.rows if row.name == name]
        if not found:
            names = ", ".join(repr(row.name) for row in self.rows)
            raise ValueError(f"name must be one of the rows ({names}), got {name!r}")
        return found[0]

    def __str__(self) -> str:
        return table(self.rows)

    def __repr__(self) -> str:
        return f"Report(verdict={self.verdict!r}, {len(self.rows)} rows; print it for the table)"


def report(
    cell: Cell | StepFn, params: Any, state: Any, xs: Any, *, tolerance: float = 0.02
) -> Report:
    """All that can be said of the decay, as a table: promised, predicted, measured.

    What the weights promise (`flow.bounds`), what the steps promise along the trajectory, what
    mean-field theory predicts with tied and with untied weights (`flow.predict`), and what is
    measured (`flow.decay`, `flow.rate`, `flow.horizon`, `flow.verdict`, the leading exponents of
    `flow.lyapunov`, `flow.spectrum` at T); and for every claim, whether the measurement bears it
    out.

    Args:
      cell: a `Cell` or a step function; only a gated one is predicted.
      params: the cell's params, concrete.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      tolerance: nats a step by which a prediction may miss at T and still agree: it does if
        `|predicted - measured| <= tolerance * T`.

    Returns:
      A `Report`. `print(report)` shows the table; `report.rows` holds it. The tied prediction,
      whose time grows as T^2, is of the first 128 steps, and is held against them.

    Raises:
      ValueError: if the tolerance is not positive.
      ValueError, TypeError: as `flow.decay` and `flow.bounds` do.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.elman(1, 16)
      >>> params = cell.init(jax.random.key(0))
      >>> params = params._replace(w_rec=0.5 * params.w_rec)
      >>> r = rx.flow.report(cell, params, None, jnp.zeros((50, 1)))
      >>> r.verdict, r.row("sufficient for vanishing").agrees
      ('vanishes', True)
      >>> print(str(r).splitlines()[0].split())
      ['question', 'claimed', 'measured', 'agrees', 'reason']
    """
    checks.check_number("tolerance", tolerance)
    if tolerance <= 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}")
    problem = pose(cell, params, state, xs)
    whole = ((0, problem.size),)
    found = decay_of(problem, whole, whole, None, keys.own(keys.DIRECTIONS))
    promised = bounds_of(problem.step, problem.params, problem)
    word = verdict(found)
    tied, untied = _predictions(problem)
    exponents = exponents_of(problem, min(_EXPONENTS, problem.size), None, None)[0]
    values = spectrum_of(problem, (problem.length,), 0.05)
    rows = [
        *_rows_of_measurement(found, word),
        *_rows_of_directions(exponents, values),
        *_rows_of_bounds(promised, found, word),
        *_rows_of_predictions(tied, untied, found, tolerance),
    ]
    measured = (found, rate(found), horizon(found), word, exponents, values)
    return Report(promised, tied, untied, *measured, rows=tuple(rows))


def _predictions(problem: Problem) -> tuple[Prediction | None, Prediction | None]:
    if not isinstance(problem.step, GatedStep):
        return None, None
    begin = dataclasses.replace(problem, xs=problem.xs[:_TIED_STEPS])
    key = keys.own(keys.FIELDS)
    return (
        prediction_of(begin, "tied", SAMPLES, key),
        prediction_of(problem, "untied", SAMPLES, key),
    )


# --- the rows ------------------------------------------------------------------------------------


def _rows_of_measurement(found: Decay, word: str) -> list[Row]:
    steps = horizon(found)
    length, reached = len(found.log_norm), bool(np.all(steps.reached))
    where = "seen within T" if reached else "beyond T: the rate carried on"
    median = {
        "rate (nats a step)": (float(np.median(rate(found))), "second half of the sequence"),
        "horizon (steps)": (float(np.median(steps.steps)), f"5 % of the gradient left, {where}"),
    }
    rows = [
        Row("log norm at T", None, float(np.median(found.log_norm[-1])), None, f"T = {length}"),
        *(Row(name, None, value, None, why) for name, (value, why) in median.items()),
    ]
    return [*rows, Row("verdict", None, word, None, "a factor of 20 over the sequence")]


def _rows_of_directions(exponents: Lyapunov, values: Spectrum) -> list[Row]:
    """How single directions grow in the long run, and how many are left at T."""
    top, error = (np.median(a[..., 0]) for a in (exponents.exponents, exponents.standard_errors))
    spread = f"+- {error:.2g}" if np.isfinite(error) else "too short for an error"
    if np.isneginf(top):
        spread = "singular: a step erases every difference"
    condition = float(np.median(values.log_condition[-1]))
    apart = "singular" if np.isinf(condition) else f"condition e^{condition:.4g}"
    surviving = float(np.median(values.surviving[-1]))
    of = values.log_singular_values.shape[-1]
    return [
        Row("top exponent (nats a step)", None, float(top), None, f"{spread}; after a tenth of T"),
        Row("directions left at T", None, surviving, None, f"of {of}, 5 % or more; {apart}"),
    ]


def _rows_of_bounds(promised: Bounds, found: Decay, word: str) -> list[Row]:
    rows = []
    measured = np.asarray(found.log_norm, np.float64)
    last = float(np.median(measured[-1]))
    if promised.spectral_radius is not None and promised.largest_singular_value is not None:
        for name, values in (
            ("spectral radius", promised.spectral_radius),
            ("largest singular value", promised.largest_singular_value),
        ):
            rows.append(Row(name, float(values.max()), None, None, "of w_rec, its largest gate"))
        if promised.critical_singular_value is not None:
            sigma = float(promised.largest_singular_value.sum())
            rows += _rows_of_conditions(promised, sigma, measured, word)
        else:
            why = "none: a direct path from state to state, or no slope given"
            rows.append(Row("sufficient for vanishing", None, word, None, why))
    if promised.log_upper is not None and promised.log_lower is not None:
        slack = _rounding(found)
        upper, lower = (np.asarray(b, np.float64) for b in (promised.log_upper, promised.log_lower))
        for name, values, kept in (
            ("upper bound at T", upper, measured <= upper + slack),
            ("lower bound at T", lower, measured >= lower - slack),
        ):
            good = bool(kept.all())
            why = "sum of log sigma of every step, kept at every t" if good else "broken at some t"
            rows.append(Row(name, float(np.median(values[-1])), last, good, why))
    return rows


def _rows_of_conditions(
    promised: Bounds, sigma: float, measured: np.ndarray, word: str
) -> list[Row]:
    condition = f"sigma_max {sigma:.4g} against 1/gamma {promised.critical_singular_value:.4g}"
    steps = np.arange(1, len(measured) + 1).reshape((-1,) + (1,) * (measured.ndim - 1))
    below = bool((measured <= promised.log_rate * steps + 1e-3 * steps).all())
    rows = []
    for name, holds, promises, kept in (
        ("sufficient for vanishing", promised.vanishing_guaranteed, True, below),
        ("necessary for exploding", promised.exploding_possible, False, word != "explodes"),
    ):
        says = holds == promises
        claim, why = "holds" if holds else "fails", "" if says else "; promises nothing"
        rows.append(Row(name, claim, word, kept if says else None, condition + why))
    return rows


def _rounding(found: Decay) -> np.ndarray:
    """What the logs of norms may be off by, `[T, 1...]`."""
    steps = np.arange(1, len(found.log_norm) + 1)
    eps = float(np.finfo(np.asarray(found.log_norm).dtype).eps)
    slack = 100 * eps * (steps + np.sqrt(steps))
    return slack.reshape((-1,) + (1,) * (found.log_norm.ndim - 1))


def _rows_of_predictions(
    tied: Prediction | None, untied: Prediction | None, found: Decay, tolerance: float
) -> list[Row]:
    rows = []
    measured = _log_mean_square(found)
    for name, prediction in (("tied", tied), ("untied", untied)):
        if prediction is None:
            rows.append(Row(name, None, None, None, "no prediction: not a gated cell"))
            continue
        length = len(prediction.log_frobenius)
        claim, truth = float(prediction.log_frobenius[-1]), float(measured[length - 1])
        miss = 0.0 if claim == truth else abs(claim - truth) / length
        good = miss <= tolerance
        why = f"off by {miss:.2g} a step (allowed {tolerance:g}); log Frobenius at t = {length}"
        rows.append(Row(name, claim, truth, good, why))
    return rows


def _log_mean_square(found: Decay) -> np.ndarray:
    """1/2 log of the batch's mean of ||d s_t / d s_0||_F^2, `[T]`: what is predicted."""
    logs = np.asarray(found.log_frobenius, np.float64)
    logs = logs.reshape(len(logs), -1)
    return np.asarray(np.logaddexp.reduce(2 * logs, axis=1) - np.log(logs.shape[1])) / 2


# --- the table -----------------------------------------------------------------------------------


def table(rows: tuple[Row, ...]) -> str:
    """Rows as plain text in aligned columns."""
    cells = [("question", "claimed", "measured", "agrees", "reason")]
    words = {True: "yes", False: "NO", None: ""}
    cells += [
        (row.name, _text(row.value), _text(row.measured), words[row.agrees], row.reason)
        for row in rows
    ]
    columns = []
    for i, column in enumerate(zip(*cells, strict=True)):
        width = max(map(len, column))
        columns.append([text.rjust(width) if i in (1, 2) else text.ljust(width) for text in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _text(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"
