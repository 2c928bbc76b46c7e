"""The ways to begin that fit a cell, and why the others do not."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from recurrax.advice.outcome import Candidate
from recurrax.cells import CELLS, Gates
from recurrax.cures import init
from recurrax.cures.calibration.calibrate import calibrate
from recurrax.gated.cell import GatedInit
from recurrax.gated.step import GatedStep
from recurrax.train.presets import CURES, Cure
from recurrax.words import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recurrax.cell import Cell


class Subject(NamedTuple):
    """What is to be cured, and on what."""

    cell: Cell
    params: Any  # of one seed
    xs: Any  # [T, B, I]
    wanted: float  # the horizon, in steps
    family: str | None  # in `recurrax.cells.CELLS`

    @property
    def gates(self) -> Gates | None:
        """Which gates the cell has, by the table of cells or by the names in its view."""
        if self.family is not None:
            return CELLS[self.family].gates
        view = getattr(self.cell.step, "view", None)
        names = () if view is None else view.names
        forget = next((name for name in ("f", "z", "u") if name in names), None)
        if forget is None or len(names) != self.cell.step.gates:
            return None
        into = names.index("i") if "i" in names else None
        return Gates(len(names), names.index(forget), into)


class DoesNotFit(Exception):
    """Why a cure does not fit the cell."""


@dataclasses.dataclass(frozen=True)
class Scaled:
    """`init(key) -> params` of another one, with w_rec times a factor."""

    init: Any
    factor: float

    def __getattr__(self, name: str) -> Any:
        """What else the other one tells, such as its sizes."""
        if name.startswith("__") or name == "init":
            raise AttributeError(name)
        return getattr(self.init, name)

    def __call__(self, key: Any) -> Any:
        params = self.init(key)
        w_rec = params.w_rec * jax.numpy.asarray(self.factor, params.w_rec.dtype)
        return params._replace(w_rec=w_rec)


def candidates(subject: Subject) -> tuple[list[Candidate], dict[str, str]]:
    """The cell as it is, each cure that fits it, and the reason for each that does not."""
    found = [Candidate("default", "begin as the cell does", subject.cell, Cure(), "")]
    skipped: dict[str, str] = {}
    for name, make in _CURES.items():
        try:
            found += make(subject)
        except DoesNotFit as reason:
            skipped[name] = str(reason)
    return found, skipped


# --- recurrent weights ----------------------------------------------------------------------------


def _gain(subject: Subject) -> Iterator[Candidate]:
    """The factor of the recurrent weights at which the gradient has the wanted horizon, or none."""
    if not hasattr(subject.params, "w_rec"):
        raise DoesNotFit("the params have no w_rec to scale")
    asked = {"critical gain": "", "gain": f", horizon={short(subject.wanted)}"}
    why = "where the gradient neither shrinks nor grows", "where it is felt as long as wanted"
    reasons = []
    for (name, option), words in zip(asked.items(), why, strict=True):
        horizon = subject.wanted if option else None
        try:
            found = calibrate(subject.cell, subject.params, subject.xs, horizon=horizon)
        except ValueError as error:
            reasons.append(str(error))
            continue
        factor = float(f"{found.adjusted:.3g}")
        yield Candidate(
            name,
            f"begin with the recurrent weights times {short(factor)}, {words}",
            dataclasses.replace(subject.cell, init=Scaled(subject.cell.init, factor)),
            Cure(),
            f"params = rx.cures.calibrate(cell, params, xs{option}).params",
        )
    if len(reasons) == len(asked):
        raise DoesNotFit(reasons[0])


def _orthogonal(subject: Subject) -> Iterator[Candidate]:
    words = "begin with orthogonal recurrent weights"
    yield _begun(subject, "orthogonal", words, "recurrent_init", init.orthogonal(), "orthogonal()")


def _identity(subject: Subject) -> Iterator[Candidate]:
    if subject.family != "elman-relu":
        raise DoesNotFit("it is for relu units")
    words = "begin with the identity as recurrent weights"
    yield _begun(subject, "identity", words, "recurrent_init", init.identity(), "identity()")


def _critical(subject: Subject) -> Iterator[Candidate]:
    if subject.family != "elman":
        raise DoesNotFit("the closed form is that of a tanh network without gates")
    variance = float(f"{float(np.mean(np.square(np.asarray(subject.xs, np.float64)))):.3g}")
    yield _begun(
        subject,
        "critical",
        "begin at the edge of chaos by mean-field theory",
        "recurrent_init",
        init.critical(input_variance=variance),
        f"critical(input_variance={short(variance)})",
    )


# --- gates ----------------------------------------------------------------------------------------


def _forget_bias(subject: Subject) -> Iterator[Candidate]:
    gates, wanted = _gates(subject), max(subject.wanted, 2.0)
    # A gate that is as wide open keeps 1/20, no longer felt, after the wanted horizon.
    value = round(math.log(1 / (math.exp(math.log(20) / wanted) - 1)), 1)
    options = f"gates={gates.number}, forget_gate={gates.forget}"
    row = init.forget_bias(value, gates=gates.number, forget_gate=gates.forget)
    words = f"begin with {short(value)} as the bias of the gate that forgets"
    call = f"forget_bias({short(value)}, {options})"
    yield _begun(subject, "forget bias", words, "bias_init", row, call)


def _chrono(subject: Subject) -> Iterator[Candidate]:
    gates, longest = _gates(subject), max(2.0, subject.wanted)
    options = f"gates={gates.number}, forget_gate={gates.forget}, input_gate={gates.input}"
    row = init.chrono(longest, gates=gates.number, forget_gate=gates.forget, input_gate=gates.input)
    words = f"begin with gates that remember for times up to {short(longest)} steps"
    call = f"chrono({short(longest)}, {options})"
    yield _begun(subject, "chrono", words, "bias_init", row, call)


def _uniform_gate(subject: Subject) -> Iterator[Candidate]:
    gates = _gates(subject)
    row = init.uniform_gate(gates=gates.number, forget_gate=gates.forget)
    words = "begin with forget gates spread evenly between 0 and 1"
    call = f"uniform_gate(gates={gates.number}, forget_gate={gates.forget})"
    yield _begun(subject, "uniform gate", words, "bias_init", row, call)


def _gates(subject: Subject) -> Gates:
    if subject.gates is None:
        raise DoesNotFit("no gate of the cell is known to forget")
    return subject.gates


def _begun(subject: Subject, name: str, words: str, field: str, value: Any, call: str) -> Candidate:
    """A candidate of another initialiser, which a gated cell takes as a field of its `init`."""
    start = subject.cell.init
    if not isinstance(start, GatedInit) or not isinstance(subject.cell.step, GatedStep):
        raise DoesNotFit("the cell is no gated cell, so its initialisers are not known")
    row = (value,) * subject.cell.step.gates if callable(value) else value
    begin: Any = dataclasses.replace(start, **{field: row}, call="")
    code = (
        f"row = rx.cures.init.{call}\n"
        f"init = dataclasses.replace(cell.init, {field}="
        f"{f'(row,) * {len(row)}' if callable(value) else 'row'})\n"
        "cell = dataclasses.replace(cell, init=init)"
    )
    return Candidate(name, words, dataclasses.replace(subject.cell, init=begin), Cure(), code)


# --- while training -------------------------------------------------------------------------------


def _penalties(subject: Subject) -> Iterator[Candidate]:
    for name in ("omega", "flossing"):
        yield Candidate(
            name,
            f"add rx.cures.{name} to the loss; the start is what 50 steps of it alone make of the "
            "default one",
            subject.cell,
            CURES[name],
            f'regularizer = rx.train.CURES["{name}"].regularizer  # of rx.train.fit',
        )


# --- another cell ---------------------------------------------------------------------------------

_OTHERS: dict[str, Callable[[float], dict[str, Any]]] = {
    "lstm": lambda wanted: {"forget_bias": 0.0, "bias_init": init.chrono(wanted)},
    "gru": lambda wanted: {"bias_init": init.chrono(wanted, gates=3, input_gate=None)},
    "elman-relu": lambda wanted: {"recurrent_init": init.identity()},
}
_SPELLED = {
    "lstm": "bias_init=rx.cures.init.chrono({wanted})",
    "gru": "bias_init=rx.cures.init.chrono({wanted}, gates=3, input_gate=None)",
    "elman-relu": 'activation="relu", recurrent_init=rx.cures.init.identity()',
}


def _other_cells(subject: Subject) -> Iterator[Candidate]:
    """Cells of the library, remembering, at as many parameters as near as whole units come."""
    features = int(subject.xs.shape[-1])
    dtype = jax.tree.leaves(subject.params)[0].dtype
    count, wanted = parameters(subject.params), max(2.0, subject.wanted)
    for family, options in _OTHERS.items():
        if family == subject.family:
            continue

        def build(hidden: int, family: str = family, options: Any = options) -> Cell:
            return CELLS[family].build(features, hidden, dtype=dtype, **options(wanted))

        hidden = _hidden_size(build, count)
        name = "elman" if family == "elman-relu" else family
        yield Candidate(
            f"another cell: {family}",
            f"use {family} with {hidden} units and as many parameters, "
            + ("its memory up to the horizon" if family != "elman-relu" else "from the identity"),
            build(hidden),
            Cure(),
            f"cell = rx.cells.{name}({features}, {hidden}, "
            f"{_SPELLED[family].format(wanted=short(wanted))})",
        )


def parameters(params: Any) -> int:
    """How many numbers there are in a tree of params."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _hidden_size(build: Callable[[int], Cell], count: int) -> int:
    """The number of units whose parameters come nearest to a count."""

    def excess(hidden: int) -> int:
        return parameters(jax.eval_shape(build(hidden).init, jax.random.key(0))) - count

    low, high = 1, 1
    while excess(high) < 0:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return min((low, high), key=lambda hidden: abs(excess(hidden)))


_CURES: dict[str, Callable[[Subject], Iterator[Candidate] | Any]] = {
    "gain": _gain,
    "forget bias": _forget_bias,
    "chrono": _chrono,
    "uniform gate": _uniform_gate,
    "orthogonal": _orthogonal,
    "identity": _identity,
    "critical": _critical,
    "penalties": _penalties,
    "another cell": _other_cells,
}
