"""Every question of the microscope, put to one cell: numbers, a picture, a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import flow
from recurrax.cli.console import as_mistakes
from recurrax.plot.axes import blank_axes
from recurrax.plot.gradient_map import gradient_map
from recurrax.plot.lag_profile import lag_profile
from recurrax.plot.loss_gradients import loss_gradients
from recurrax.plot.lyapunov import lyapunov
from recurrax.plot.paths import paths
from recurrax.plot.report import report
from recurrax.plot.spectrum import spectrum
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from recurrax.cli.flow.measurement import Subject

_TIMES = 128  # of a gradient map, each way
_LARGEST = 512  # state N of which all directions are asked for
_PROBES = 16  # directions of a gradient map, above that many in all


class Case(NamedTuple):
    """What every question is asked about: the first arguments of the functions of `rx.flow`."""

    cell: Any
    params: Any
    state: Any
    xs: Any
    mask: Any = None  # bool [T, B]; None: every step is there

    def put(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Ask a function of `rx.flow`."""
        flags = {} if self.mask is None else {"mask": self.mask}
        return function(*self[:4], *args, **options, **flags)

    def ending_together(self) -> Case:
        """The same sequences moved to the right, so that the last output of each is that at T."""
        if self.mask is None:
            return self
        length = len(self.mask)
        gone = np.argmax(self.mask[::-1], 0)  # steps after the last that is there
        order = (np.arange(length)[:, None] - gone) % length
        mask = np.take_along_axis(self.mask, order, 0)
        return self._replace(xs=jnp.take_along_axis(self.xs, order[..., None], 0), mask=mask)

    @property
    def state_size(self) -> int:
        """The size N of the joint state."""
        return sum(leaf[0].size for leaf in jax.tree.leaves(self.state))


class Question(NamedTuple):
    """A question that the page answers, by a function of `rx.flow`."""

    name: str  # of the function
    title: str
    ask: Callable[[Case], tuple[Any, str]]  # the result, and a sentence on it
    draw: Callable[..., Axes]
    size: tuple[float, float] = (6.0, 3.8)  # of the picture, in inches
    also: tuple[str, ...] = ()  # other functions whose results are in it


class Answer(NamedTuple):
    """What came of one question."""

    question: Question
    result: Any | None  # None where it has no answer
    words: str  # a sentence on it, or why there is none

    def draw(self) -> Axes:
        """Draw the result on a figure of its own."""
        return self.question.draw(self.result, blank_axes(*self.question.size))

    def numbers(self) -> Any:
        """Return what goes into the JSON: all but the gradients of a loss themselves."""
        if self.result is None:
            return {"left_out": self.words}
        if isinstance(self.result, flow.LossGradients):
            return {"loss": self.result.loss, "log_norm": self.result.log_norm}
        return self.result


class _LeftOut(Exception):
    """A question does not apply to this cell; the message is the reason."""


def answer(
    question: Question, subject: Subject, xs: np.ndarray, mask: np.ndarray | None = None
) -> Answer:
    """Answer a question along the steps of `[T, B, I]` that a mask leaves, or say why not."""
    _, cell, params = subject
    state = cell.initial_state(params, (xs.shape[1],))
    case = Case(cell, params, state, jnp.asarray(xs, jax.tree.leaves(state)[0].dtype), mask)
    try:
        with as_mistakes(ValueError):
            result, words = question.ask(case)
    except _LeftOut as reason:
        result, words = None, str(reason)
    return Answer(question, result, words)


def last_output(ys: Any) -> Any:
    """Return a loss that looks at the last output only: half its mean square."""
    return 0.5 * jnp.mean(jnp.square(ys[-1]))


def _report(case: Case) -> tuple[Any, str]:
    found = case.put(flow.report)
    wrong = [row.name for row in found.rows if row.agrees is False]
    return found, (
        f"Not borne out: {', '.join(wrong)}." if wrong else "All that is claimed is borne out."
    )


def _lyapunov(case: Case) -> tuple[Any, str]:
    found = case.put(flow.lyapunov, k=min(case.state_size, _LARGEST))
    top = float(np.median(found.exponents[..., 0]))
    return found, (
        f"Small differences {growth_in_words(top)}; "
        f"{_median(jnp.sum(found.exponents > 0, -1)):.0f} of {found.exponents.shape[-1]} exponents "
        f"are positive, the dimension is {_median(found.dimension):.3g}."
    )


def growth_in_words(rate: float) -> str:
    """Return what becomes of small differences at a rate in nats a step."""
    if math.isinf(rate):
        return "are lost within a step"
    return f"{'grow' if rate > 0 else 'shrink'} by {abs(rate):.4g} nats a step"


def _spectrum(case: Case) -> tuple[Any, str]:
    if case.state_size > _LARGEST:
        raise _LeftOut(f"All singular values are found for a state of up to N = {_LARGEST}.")
    length = len(case.xs)
    times = sorted({1, math.isqrt(length), length // 4 or 1, length})
    found = case.put(flow.spectrum, at=tuple(times))
    left = ", ".join(
        f"{_median(row):.0f} at t = {t}" for t, row in zip(found.t, found.surviving, strict=True)
    )
    count = found.log_singular_values.shape[-1]
    return found, f"Directions of {count} with 5 % or more left: {left}."


def _gradient_map(case: Case) -> tuple[Any, str]:
    every = -(-len(case.xs) // _TIMES)
    found = case.put(flow.gradient_map, probes=_PROBES, every=every)
    exact = case.state_size <= _PROBES
    return found, (
        "A row shows from which times the gradient at t gets its error, a column how far an event "
        f"at s is felt. {'Exact' if exact else f'Along {_PROBES} directions, a close lower bound'}."
    )


def _loss_gradients(case: Case) -> tuple[Any, str]:
    found = case.ending_together().put(flow.loss_gradients, last_output)
    left = _median(found.log_norm[0]) - _median(found.log_norm[-1])
    return found, (
        "Of the loss at the last output (half its mean square), "
        f"{f'e^{left:.3g}' if math.isfinite(left) else 'nothing'} of the gradient at the last "
        "state is left at the first."
    )


def _lag_profile(case: Case) -> tuple[Any, str]:
    found = case.ending_together().put(flow.lag_profile, last_output)
    return found, (
        f"Errors need to travel {steps_of(int(flow.truncation(found)))} of {len(case.xs)} for 95 % "
        "of d L / d w_rec, of the same loss: the shortest truncation of backpropagation through "
        "time."
    )


def _paths(case: Case) -> tuple[Any, str]:
    try:
        found = case.put(flow.paths)
    except ValueError as reason:  # not gated, or without a direct path
        raise _LeftOut(str(reason)) from None
    half = np.asarray(jnp.median(found.share.reshape(len(found.share), -1), 1)) > 0.5
    when = f"from t = {int(np.argmax(half)) + 1} on" if half.any() else "at no t"
    return found, f"More than half of the derivative has gone round by w_rec {when}."


def _median(values: Any) -> float:
    return float(np.median(np.asarray(values, np.float64)))


QUESTIONS = (
    Question(
        "report",
        "Promised, predicted, measured",
        _report,
        report,
        (8.0, 5.6),
        ("decay", "rate", "horizon", "verdict", "bounds", "predict"),
    ),
    Question("lyapunov", "Lyapunov exponents", _lyapunov, lyapunov),
    Question("spectrum", "Singular values", _spectrum, spectrum),
    Question("gradient_map", "Every pair of times", _gradient_map, gradient_map),
    Question("loss_gradients", "The gradient of a loss", _loss_gradients, loss_gradients),
    Question(
        "lag_profile", "How far errors travel", _lag_profile, lag_profile, also=("truncation",)
    ),
    Question("paths", "The direct path and the detour", _paths, paths, (6.0, 4.6)),
)
# The functions of rx.flow that the page answers, and the others.
ANSWERED = ", ".join(name for question in QUESTIONS for name in (*question.also, question.name))
LEFT_TO_CODE = ", ".join(
    name for name in flow.__all__ if name.islower() and name not in ANSWERED.split(", ")
)
