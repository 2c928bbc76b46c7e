"""The ways to begin that fit a cell, and why the others do not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurrax.advice.another_cell import other_cells
from recurrax.advice.outcome import Candidate
from recurrax.advice.subject import DoesNotFit, begun
from recurrax.cells.combined import StackInit
from recurrax.cures import init
from recurrax.cures.calibration.adjustments import scaled
from recurrax.cures.calibration.calibrate import calibrate
from recurrax.gated.cell import ORTHOGONAL
from recurrax.train.presets import CURES, Cure
from recurrax.words import first_line, short, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recurrax.advice.subject import Subject


def check_cures(names: Any) -> tuple[str, ...]:
    """The names of cures to try, all of them for None."""
    if names is None:
        return tuple(_CURES)
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"cures must be a list of names such as ['chrono', 'gain'], got {names!r}")
    for name in names:
        if name not in _CURES:
            raise ValueError(f"cures: {unknown('cure', name, _CURES)}")
    return tuple(dict.fromkeys(names))


def cures_that_fit(
    subject: Subject, names: Sequence[str] | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """Each of these cures that fits a cell, and the reason for each that does not."""
    found: list[Candidate] = []
    skipped: dict[str, str] = {}
    for name in check_cures(names):
        try:
            found += _CURES[name](subject)
        except DoesNotFit as reason:
            skipped[name] = str(reason)
    return found, skipped


# --- recurrent weights ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scaled:
    """`init(key) -> params` of another one, with w_rec times a factor."""

    init: Any
    factor: float

    def __getattr__(self, name: str) -> Any:
        """What else the other one tells, such as its sizes."""
        if name.startswith("__") or name in ("init", "call"):
            raise AttributeError(name)
        return getattr(self.init, name)

    def __call__(self, key: Any) -> Any:
        return scaled("w_rec", self.init(key), self.factor)


def _critical_gain(subject: Subject) -> Iterator[Candidate]:
    yield _gained(subject, "critical gain", "where the gradient neither shrinks nor grows", "")


def _gain(subject: Subject) -> Iterator[Candidate]:
    words = "where it is felt as long as wanted"
    yield _gained(subject, "gain", words, f", horizon={short(subject.wanted)}")


def _gained(subject: Subject, name: str, words: str, option: str) -> Candidate:
    """The recurrent weights times the factor at which the gradient has the wanted rate."""
    horizon = subject.wanted if option else None
    try:
        given = subject.cell, subject.params, subject.xs
        found = calibrate(*given, mask=subject.mask, horizon=horizon)
    except (TypeError, ValueError) as error:
        raise DoesNotFit(first_line(error)) from None
    factors = found.adjusted if isinstance(found.adjusted, dict) else {"": found.adjusted}
    factors = {layer: float(f"{factor:.3g}") for layer, factor in factors.items()}
    begin: Any = subject.cell.init
    if isinstance(begin, StackInit):
        if len(factors) != len(begin.inits):
            raise DoesNotFit("a layer is a stack itself: stack its cells side by side with others")
        pairs = zip(begin.inits, factors.values(), strict=True)
        begin = StackInit(tuple(Scaled(*pair) for pair in pairs))
    else:
        begin = Scaled(begin, factors[""])
    return Candidate(
        name,
        f"begin with w_rec times {' and '.join(map(short, factors.values()))}, {words}",
        dataclasses.replace(subject.cell, init=begin),
        Cure(),
        f"params = rx.cures.calibrate(cell, params, xs{option}).params",
    )


def _orthogonal(subject: Subject) -> Iterator[Candidate]:
    words = "begin with orthogonal recurrent weights"
    if all(set(_rows(layer.init)) == {ORTHOGONAL} for layer in subject.layers):
        raise DoesNotFit("it is how the cell begins")
    yield begun(subject, "orthogonal", words, "recurrent_init", init.orthogonal(), "orthogonal()")


def _identity(subject: Subject) -> Iterator[Candidate]:
    if subject.family != "elman-relu":
        raise DoesNotFit("it is for an Elman network of relu units")
    words = "begin with the identity as recurrent weights"
    yield begun(subject, "identity", words, "recurrent_init", init.identity(), "identity()")


def _critical(subject: Subject) -> Iterator[Candidate]:
    if subject.family != "elman" or len(subject.layers) > 1:
        raise DoesNotFit("the closed form is that of one layer of tanh units without gates")
    params: Any = subject.params
    z = np.asarray(subject.xs @ params.w_in + params.b, np.float64)
    variance = float(f"{np.mean(np.square(z)):.3g}")
    words = "begin at the edge of chaos of mean-field theory"
    row, call = init.critical(input_variance=variance), f"critical(input_variance={variance:g})"
    yield begun(subject, "critical", words, "recurrent_init", row, call)


def _rows(start: Any) -> tuple[Any, ...]:
    return tuple(getattr(start, "recurrent_init", ()))


# --- gates ----------------------------------------------------------------------------------------


def _forget_bias(subject: Subject) -> Iterator[Candidate]:
    memory, wanted = subject.memory, max(subject.wanted, 2.0)
    # A gate that is as wide open keeps 1/20, no longer felt, after the wanted horizon.
    value = memory.sign * round(-math.log(math.expm1(math.log(20) / wanted)), 1)
    options = f"gates={memory.gates}, forget_gate={memory.forget}"
    row = init.forget_bias(value, gates=memory.gates, forget_gate=memory.forget)
    words = f"begin with {short(value)} as the bias of the gate that keeps the state"
    call = f"forget_bias({short(value)}, {options})"
    yield begun(subject, "forget bias", words, "bias_init", row, call)


def _chrono(subject: Subject) -> Iterator[Candidate]:
    memory, longest = subject.memory, max(2.0, subject.wanted)
    if memory.sign < 0:
        raise DoesNotFit("its gate keeps the state where it is shut, and chrono opens gates")
    roles = {"gates": memory.gates, "forget_gate": memory.forget, "input_gate": memory.input}
    row = init.chrono(longest, **roles)  # type: ignore[arg-type]
    words = f"begin with gates that remember for times up to {short(longest)} steps"
    call = f"chrono({short(longest)}, {', '.join(f'{k}={v}' for k, v in roles.items())})"
    yield begun(subject, "chrono", words, "bias_init", row, call)


def _uniform_gate(subject: Subject) -> Iterator[Candidate]:
    memory = subject.memory
    row = init.uniform_gate(gates=memory.gates, forget_gate=memory.forget)
    words = "begin with the gate that keeps the state spread evenly between 0 and 1"
    call = f"uniform_gate(gates={memory.gates}, forget_gate={memory.forget})"
    yield begun(subject, "uniform gate", words, "bias_init", row, call)


# --- while training -------------------------------------------------------------------------------


def _penalty(name: str) -> Callable[[Subject], Iterator[Candidate]]:
    def make(subject: Subject) -> Iterator[Candidate]:
        words = f"add the penalty {name} to the loss; measured after a few steps of it alone"
        code = f'regularizer = rx.train.CURES["{name}"].regularizer  # an argument of rx.train.fit'
        yield Candidate(name, words, subject.cell, CURES[name], code)

    return make


_CURES: dict[str, Callable[[Subject], Iterator[Candidate]]] = {
    "critical gain": _critical_gain,
    "gain": _gain,
    "critical": _critical,
    "orthogonal": _orthogonal,
    "identity": _identity,
    "forget bias": _forget_bias,
    "chrono": _chrono,
    "uniform gate": _uniform_gate,
    "omega": _penalty("omega"),
    "flossing": _penalty("flossing"),
    "another cell": other_cells,
}
