"""What a stack and a residual are made of, for the engines to take apart."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax

from recurrax import checks
from recurrax.cell import InitialState, Params, State, StepFn, cell_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


@dataclasses.dataclass(frozen=True)
class StackInit:
    """Each cell's params, in a tuple."""

    inits: tuple[Callable[[chex.PRNGKey], Params], ...]

    @property
    def gated_sizes(self) -> tuple[int | None, int | None]:
        """What the first cell takes and the last one gives, as far as they tell."""
        none = (None, None)  # what a cell gives or takes that is not gated is its own affair
        first, last = (getattr(self.inits[i], "gated_sizes", none) for i in (0, -1))
        return first[0], last[1]

    def __call__(self, key: chex.PRNGKey) -> tuple[Params, ...]:
        checks.check_key(key)
        keys = jax.random.split(key, len(self.inits))
        return tuple(init(k) for init, k in zip(self.inits, keys, strict=True))


@dataclasses.dataclass(frozen=True)
class StackInitialState:
    """Each cell's initial state, in a tuple."""

    initial_states: tuple[InitialState, ...]

    def __call__(self, params: Params, batch_shape: tuple[int, ...] = ()) -> tuple[State, ...]:
        check_entries("params", params, len(self.initial_states))
        pairs = zip(self.initial_states, params, strict=True)
        return tuple(initial(p, batch_shape) for initial, p in pairs)


@dataclasses.dataclass(frozen=True)
class StackStep:
    """The output of each cell is the input of the next, within one instant."""

    steps: tuple[StepFn, ...]

    def __call__(self, params: Params, state: State, x: Any) -> tuple[tuple[State, ...], Any]:
        new = []
        for step, p, s in zip(self.steps, params, state, strict=True):
            s, x = step(p, s, x)
            new.append(s)
        return tuple(new), x

    def call_text(self, init: Any) -> str:
        """A stack as the call that makes it."""
        inits = getattr(init, "inits", (None,) * len(self.steps))
        return f"stack({', '.join(map(cell_text, self.steps, inits))})"

    def check_inputs(self, params: Params, state: State, xs: Any) -> None:
        """The first cell sees the inputs."""
        for name, given in (("params", params), ("state", state)):
            check_entries(name, given, len(self.steps))
        if hasattr(self.steps[0], "check_inputs"):
            self.steps[0].check_inputs(params[0], state[0], xs)


@dataclasses.dataclass(frozen=True)
class ResidualStep:
    """`y = x + step(params, state, x)`."""

    step: StepFn

    def __call__(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        state, y = self.step(params, state, x)
        if y.shape != x.shape:
            raise ValueError(
                f"residual adds the cell's output {y.shape} to its input {x.shape}, which must "
                "have the same shape: build the cell with input_size == hidden_size"
            )
        return state, x + y

    def call_text(self, init: Any) -> str:
        """A residual as the call that makes it."""
        return f"residual({cell_text(self.step, init)})"

    def check_inputs(self, params: Params, state: State, xs: Any) -> None:
        """The wrapped cell sees the inputs as they are."""
        if hasattr(self.step, "check_inputs"):
            self.step.check_inputs(params, state, xs)


def check_entries(name: str, given: Any, count: int) -> None:
    """Raise unless there is one for each cell."""
    if not isinstance(given, tuple) or len(given) != count:
        came = f"{len(given)} of them" if type(given) is tuple else type(given).__name__
        raise TypeError(
            f"{name} of a stack of {count} cells must be a tuple with one entry for each, "
            f"got {came}"
        )
