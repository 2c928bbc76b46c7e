"""Every question of the microscope, put to one cell: numbers, a picture, a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import flow, plot
from recurrax.cli.mistakes import told
from recurrax.cli.to_json import plain
from recurrax.words import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes

    from recurrax.cli.cells_to_measure import Subject
    from recurrax.cli.data import Sequences

# The functions of rx.flow, by whether this page answers them.
ANSWERED = (
    "decay",
    "rate",
    "horizon",
    "verdict",
    "bounds",
    "predict",
    "report",
    "lyapunov",
    "spectrum",
    "gradient_map",
    "loss_gradients",
    "lag_profile",
    "truncation",
    "paths",
)
LEFT_TO_CODE = ("jacobians", "covariant_vectors", "watch")

EXAMPLES = 4  # sequences that are asked about, the first ones
_TIMES = 128  # of a gradient map, each way
_LARGEST = 512  # state N of which all directions are asked for
_PROBES = 16  # directions of a gradient map, above that many in all


class Case(NamedTuple):
    """What every question is asked about."""

    cell: Any
    params: Any
    state: Any
    xs: Any


class Answer(NamedTuple):
    """What came of one question."""

    name: str
    title: str
    result: Any | None  # None where it has no answer
    words: str  # a sentence on it, or why there is none
    draw: Callable[[], Axes] | None
    table: tuple[Any, ...] = ()  # rows of a flow.Report


class _LeftOut(Exception):
    """A question that does not apply to this cell, and why."""


def answer(subject: Subject, sequences: Sequences, advance: Callable[[], None]) -> Iterator[Answer]:
    """All questions in turn; one that does not apply says why."""
    _, cell, params = subject
    count = min(EXAMPLES, sequences.xs.shape[1])
    state = cell.initial_state(params, (count,))
    xs = jnp.asarray(sequences.xs[:, :count], jax.tree.leaves(state)[0].dtype)
    case = Case(cell, params, state, xs)
    for title, ask in QUESTIONS.items():
        try:
            with told(ValueError):
                yield ask(title, case)
        except _LeftOut as reason:
            yield Answer(ask.__name__.lstrip("_"), title, None, str(reason), None)
        advance()


def as_numbers(answers: list[Answer]) -> dict[str, Any]:
    """For JSON: the fields of each result, or the reason why there is none."""
    return {
        a.name: {"left_out": a.words} if a.result is None else plain(_without_vectors(a.result))
        for a in answers
    }


def _without_vectors(result: Any) -> Any:
    return {"loss": result.loss, "log_norm": result.log_norm} if _is_directed(result) else result


def _is_directed(result: Any) -> bool:
    return isinstance(result, flow.LossGradients)


# --- the questions -------------------------------------------------------------------------------


def last_output(ys: Any) -> Any:
    """A loss that looks at the last output only: half its mean square."""
    return 0.5 * jnp.mean(jnp.square(ys[-1]))


def _report(title: str, case: Case) -> Answer:
    found = flow.report(*case)
    wrong = [row.name for row in found.rows if row.agrees is False]
    words = f"Not borne out: {', '.join(wrong)}." if wrong else "All that is claimed is borne out."
    return Answer(
        "report", title, found, words, lambda: plot.report(found, _axes(8.0, 5.6)), found.rows
    )


def _lyapunov(title: str, case: Case) -> Answer:
    found = flow.lyapunov(*case, k=min(_size(case), _LARGEST))
    top = float(np.median(found.exponents[..., 0]))
    words = (
        f"Small differences {_growth(top)}; "
        f"{_median(jnp.sum(found.exponents > 0, -1)):.0f} of {found.exponents.shape[-1]} exponents "
        f"are positive, the dimension is {_median(found.dimension):.3g}."
    )
    return Answer("lyapunov", title, found, words, lambda: plot.lyapunov(found, _axes()))


def _growth(rate: float) -> str:
    """What becomes of small differences at a rate in nats a step."""
    if math.isinf(rate):
        return "are lost within a step"
    return f"{'grow' if rate > 0 else 'shrink'} by {abs(rate):.4g} nats a step"


def _spectrum(title: str, case: Case) -> Answer:
    if _size(case) > _LARGEST:
        raise _LeftOut(f"All singular values are found for a state of up to N = {_LARGEST}.")
    length = len(case.xs)
    times = sorted({1, math.isqrt(length), length // 4 or 1, length})
    found = flow.spectrum(*case, at=tuple(times))
    left = ", ".join(
        f"{_median(row):.0f} at t = {t}" for t, row in zip(found.t, found.surviving, strict=True)
    )
    words = f"Directions of {found.log_singular_values.shape[-1]} with 5 % or more left: {left}."
    return Answer("spectrum", title, found, words, lambda: plot.spectrum(found, _axes()))


def _gradient_map(title: str, case: Case) -> Answer:
    every = -(-len(case.xs) // _TIMES)
    found = flow.gradient_map(*case, probes=_PROBES, every=every)
    exact = (
        "Exact." if _size(case) <= _PROBES else f"Along {_PROBES} directions, a close lower bound."
    )
    words = (
        "A row shows from which times the gradient at t gets its error, a column how far an event "
        f"at s is felt. {exact}"
    )
    return Answer("gradient_map", title, found, words, lambda: plot.gradient_map(found, _axes()))


def _loss_gradients(title: str, case: Case) -> Answer:
    found = flow.loss_gradients(*case, last_output)
    first, last = (_median(found.log_norm[t]) for t in (0, -1))
    left = f"e^{first - last:.3g}" if math.isfinite(first - last) else "nothing"
    words = (
        f"Of the loss at the last output (half its mean square), {left} of the gradient at the "
        "last state is left at the first."
    )
    return Answer(
        "loss_gradients", title, found, words, lambda: plot.loss_gradients(found, _axes())
    )


def _lag_profile(title: str, case: Case) -> Answer:
    found = flow.lag_profile(*case, last_output)
    steps = int(flow.truncation(found))
    words = (
        f"Errors need to travel {steps_of(steps)} of {len(case.xs)} for 95 % of d L / d w_rec, of "
        "the same loss: the shortest truncation of backpropagation through time."
    )
    return Answer("lag_profile", title, found, words, lambda: plot.lag_profile(found, _axes()))


def _paths(title: str, case: Case) -> Answer:
    try:
        found = flow.paths(*case)
    except ValueError as reason:  # not gated, or without a direct path
        raise _LeftOut(str(reason)) from None
    half = np.asarray(jnp.median(found.share.reshape(len(found.share), -1), 1)) > 0.5
    when = f"from t = {int(np.argmax(half)) + 1} on" if half.any() else "at no t"
    words = f"More than half of the derivative has gone round by w_rec {when}."
    return Answer("paths", title, found, words, lambda: plot.paths(found, _axes(6.0, 4.6)))


def _axes(width: float = 6.0, height: float = 3.8) -> Axes:
    return plot.blank_axes(width, height)


def _size(case: Case) -> int:
    """N."""
    return sum(leaf[0].size for leaf in jax.tree.leaves(case.state))


def _median(values: Any) -> float:
    return float(np.median(np.asarray(values, np.float64)))


QUESTIONS: dict[str, Callable[[str, Case], Answer]] = {
    "Promised, predicted, measured": _report,
    "Lyapunov exponents": _lyapunov,
    "Singular values": _spectrum,
    "Every pair of times": _gradient_map,
    "The gradient of a loss": _loss_gradients,
    "How far errors travel": _lag_profile,
    "The direct path and the detour": _paths,
}
