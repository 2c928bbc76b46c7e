"""Bounds, predictions and measurement side by side, and which of them agree."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from recurrax import checks
from recurrax.flow.bounds import Bounds, bounds_of
from recurrax.flow.decay import Decay, exact_decay
from recurrax.flow.horizon import Horizon, horizon, rate, verdict
from recurrax.flow.lyapunov import Lyapunov, exponents_of
from recurrax.flow.parts import by_layer
from recurrax.flow.predict import Prediction, prediction_of
from recurrax.flow.spectrum import Spectrum, spectrum_of
from recurrax.flow.steps.problem import Flags
from recurrax.flow.steps.trajectory import pose
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn

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


@by_layer
def report(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    tolerance: float = 0.02,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> Report:
    """All that can be said of the decay, as a table: promised, predicted, measured.

    What the weights and the steps promise (`flow.bounds`), what mean-field theory predicts with
    tied and with untied weights (`flow.predict`), what is measured (`flow.decay`, `flow.rate`,
    `flow.horizon`, `flow.verdict`, the leading exponents of `flow.lyapunov`, `flow.spectrum` at T),
    and whether the measurement bears out every claim.

    Args:
      cell: a `Cell` or a step function; only a gated one is predicted. Layers in
        both directions give a dict (`flow.parts`).
      params: the cell's params, concrete.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      tolerance: nats a step by which a prediction may miss at T and still agree: it does if
        `|predicted - measured| <= tolerance * T`.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is the identity, and is
        no time. Nothing is predicted then.
      resets: bool `[T, *batch]`, as in `rx.unroll`; one that is True leaves nothing to report of.

    Returns:
      A `Report`, which prints as a table; `report.rows` holds it. The tied prediction, whose time
      grows as T^2, is of the first 128 steps, and is held against them.

    Raises:
      ValueError: if the tolerance is not positive, a reset is True, or a row has no step that
        counts.
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
    problem = pose(cell, params, state, xs, mask, resets)
    if problem.flags.resets is not None:
        if np.any(problem.flags.resets):
            raise ValueError(
                "resets leaves nothing to report of: from the first one on nothing of s_0 is left, "
                "and every rate and exponent is -inf. Report of the pieces between them, or see "
                "flow.gradient_map, of which they are blocks."
            )
        problem = dataclasses.replace(problem, flags=Flags(problem.flags.mask), start=None)
    whole = ((0, problem.size),)
    found = Decay(*exact_decay(problem, whole, whole))._replace(steps=problem.counted)
    tied = untied = None
    if isinstance(problem.step, GatedStep) and mask is None:
        begin = dataclasses.replace(problem, xs=problem.xs[:_TIED_STEPS])
        tied, untied = prediction_of(begin, "tied"), prediction_of(problem, "untied")
    answers = Report(
        bounds=bounds_of(problem.step, problem.params, problem),
        tied=tied,
        untied=untied,
        decay=found,
        rate=rate(found),
        horizon=horizon(found),
        verdict=verdict(found),
        lyapunov=exponents_of(problem, min(_EXPONENTS, problem.size))[0],
        spectrum=spectrum_of(problem, (problem.length,), 0.05),
        rows=(),
    )
    rows = _rows_of_measurement(answers) + _rows_of_bounds(answers)
    rows += _rows_of_predictions(answers, tolerance)
    return answers._replace(rows=tuple(rows))


def _rows_of_measurement(of: Report) -> list[Row]:
    where = "seen within T" if np.all(of.horizon.reached) else "beyond T: the rate carried on"
    top = _median(of.lyapunov.exponents[..., 0])
    error = _median(of.lyapunov.standard_errors[..., 0])
    spread = f"+- {error:.2g}" if np.isfinite(error) else "too short for an error"
    if np.isneginf(top):
        spread = "singular: a step erases every difference"
    condition = _median(of.spectrum.log_condition[-1])
    apart = "singular" if np.isinf(condition) else f"condition e^{condition:.4g}"
    left, size = _median(of.spectrum.surviving[-1]), of.spectrum.log_singular_values.shape[-1]
    length = f"T = {len(of.decay.log_norm)}"
    if of.decay.steps is not None:
        counts = np.asarray(of.decay.steps[-1])
        length += f", of which {counts.min()} to {counts.max()} steps count in each row"
    rows: list[tuple[str, float | str, str]] = [
        ("log norm at T", _median(of.decay.log_norm[-1]), length),
        ("rate (nats a step)", _median(of.rate), "second half of the sequence"),
        ("horizon (steps)", _median(of.horizon.steps), f"5 % of the gradient left, {where}"),
        ("verdict", of.verdict, "a factor of 20 over the sequence"),
        ("top exponent (nats a step)", top, f"{spread}; after a tenth of T"),
        ("directions left at T", left, f"of {size}, 5 % or more; {apart}"),
    ]
    return [Row(name, None, value, None, why) for name, value, why in rows]


def _rows_of_bounds(of: Report) -> list[Row]:
    rows = []
    promised, word, measured = of.bounds, of.verdict, np.asarray(of.decay.log_norm, np.float64)
    times = np.arange(1, len(measured) + 1).reshape(-1, *(1,) * (measured.ndim - 1))
    steps = times if of.decay.steps is None else np.asarray(of.decay.steps)
    radius, sigma = promised.spectral_radius, promised.largest_singular_value
    if radius is not None and sigma is not None:
        why = "of w_rec, its largest gate"
        rows.append(Row("spectral radius", float(radius.max()), None, None, why))
        rows.append(Row("largest singular value", float(sigma.max()), None, None, why))
        critical = promised.critical_singular_value
        if critical is None:
            why = "none: a direct path from state to state, or no slope given"
            rows.append(Row("sufficient for vanishing", None, word, None, why))
        else:
            condition = f"sigma_max {float(sigma.sum()):.4g} against 1/gamma {critical:.4g}"
            below = bool((measured <= promised.log_rate * steps + 1e-3 * times).all())
            for name, holds, promises, kept in (
                ("sufficient for vanishing", promised.vanishing_guaranteed, True, below),
                ("necessary for exploding", promised.exploding_possible, False, word != "explodes"),
            ):
                says = holds == promises
                why = condition if says else f"{condition}; promises nothing"
                claim = "holds" if holds else "fails"
                rows.append(Row(name, claim, word, kept if says else None, why))
    if promised.log_upper is not None and promised.log_lower is not None:
        eps = float(np.finfo(np.asarray(of.decay.log_norm).dtype).eps)
        slack = 100 * eps * (times + np.sqrt(times))  # what the logs of norms may be off by
        upper, lower = (np.asarray(b, np.float64) for b in (promised.log_upper, promised.log_lower))
        for name, values, within in (
            ("upper bound at T", upper, measured <= upper + slack),
            ("lower bound at T", lower, measured >= lower - slack),
        ):
            good = bool(within.all())
            why = "sum of log sigma of every step, kept at every t" if good else "broken at some t"
            rows.append(Row(name, _median(values[-1]), _median(measured[-1]), good, why))
    return rows


def _rows_of_predictions(of: Report, tolerance: float) -> list[Row]:
    rows = []
    logs = np.asarray(of.decay.log_frobenius, np.float64)
    logs = logs.reshape(len(logs), -1)
    # What is predicted: 1/2 log of the batch's mean of ||d s_t / d s_0||_F^2.
    measured = (np.logaddexp.reduce(2 * logs, axis=1) - np.log(logs.shape[1])) / 2
    for name, prediction in (("tied", of.tied), ("untied", of.untied)):
        if prediction is None:
            gated = of.bounds.spectral_radius is not None
            why = "units of one population, all in step" if gated else "a gated cell"
            rows.append(Row(name, None, None, None, f"no prediction: not {why}"))
            continue
        length = len(prediction.log_frobenius)
        claim, truth = float(prediction.log_frobenius[-1]), float(measured[length - 1])
        miss = 0.0 if claim == truth else abs(claim - truth) / length
        why = f"off by {miss:.2g} a step (allowed {tolerance:g}); log Frobenius at t = {length}"
        rows.append(Row(name, claim, truth, miss <= tolerance, why))
    return rows


def _median(values: Any) -> float:
    return float(np.median(values))


def table(rows: tuple[Row, ...]) -> str:
    """Rows as plain text in aligned columns."""

    def text(value: float | str | None) -> str:
        if value is None:
            return "-"
        return value if isinstance(value, str) else f"{value:.4g}"

    words = {True: "yes", False: "NO", None: ""}
    lines = [("question", "claimed", "measured", "agrees", "reason")]
    for row in rows:
        numbers = text(row.value), text(row.measured)
        lines.append((row.name, *numbers, words[row.agrees], row.reason))
    a, b, c, d, _ = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        f"{name:{a}}  {claimed:>{b}}  {measured:>{c}}  {agrees:{d}}  {reason}".rstrip()
        for name, claimed, measured, agrees, reason in lines
    )
