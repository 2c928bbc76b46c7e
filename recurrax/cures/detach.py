"""h-detach: now and then the gradient goes back through the memory alone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax import checks
from recurrax.cell import Cell, check_cell

if TYPE_CHECKING:
    import chex

    from recurrax.cell import InitialState, Params, State, StepFn


class DetachState(NamedTuple):
    """What a cell wrapped by `detach` carries through time."""

    state: Any  # the wrapped cell's own state
    key: chex.Array  # uint32 [*batch, words], the data of one random key an example


def detach(cell: Cell, p: float, key: chex.PRNGKey) -> Cell:
    """Block the gradient through h at random steps: the same cell, with another gradient.

    Step t reads `h_{t-1}` as a constant with probability p, drawn anew for each step and each
    example, and as it is otherwise; the other fields, such as an LSTM's c, are read as they are.
    Forward nothing changes, to the last bit. The path through h is the one with weights in it:
    what it adds to the gradient can bury what flows along c, and blocking it brings that out.

    **This changes the gradient on purpose**, and not its mean alone. What y_t, the output, sends
    back is never blocked.

    The draws follow from `key`: `initial_state` puts a key of its own beside each example's
    state, and each step moves it on. So the same start gives the same draws, and training wants
    another key for every update: build the cell inside the jitted loss, of which the key is an
    argument as any other, so that it compiles once.

        def loss(params, key, xs):
            cell = rx.cures.detach(lstm, 0.25, key)
            _, ys = rx.unroll(cell, params, None, xs)

    Args:
      cell: a `Cell` whose state is a NamedTuple with a field h and others. Wrap the cells of a
        stack before it is stacked; to clip the state's gradient as well, clip first.
      p: the probability that a step is blocked, from 0 (never) to 1 (always).
      key: a JAX random key.

    Returns:
      A `Cell` with the same params, whose state is a `DetachState`. Equal wraps of equal cells,
      with equal keys, are equal. `rx.unroll` runs it by scan, `engine="hoisted"` refuses it.

    Raises:
      TypeError: if `cell` is not a `Cell`, p not a number, or key not a random key; when the
        state is made, if it has no field h.
      ValueError: if p is not from 0 to 1, or there are several keys; when the state is made, if h
        is its only field.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cures.detach(rx.cells.lstm(3, 8), 0.25, jax.random.key(1))
      >>> params = cell.init(jax.random.key(0))
      >>> state, ys = rx.unroll(cell, params, None, jnp.ones((5, 2, 3)))
      >>> ys.shape, state.state.c.shape, state.key.shape
      ((5, 2, 8), (2, 8), (2, 2))

    Source: Arpit, Kanuparthi, Kerg, Ke, Mitliagkas and Bengio (2019), "h-detach: Modifying the
    LSTM Gradient Towards Better Optimization".
    """
    check_cell("detach", cell)
    checks.check_number("p", p)
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability from 0 to 1, got {p}")
    checks.check_key(key)
    if jax.random.key_data(key).ndim != 1:
        raise ValueError(
            f"key must be one random key, from which each example gets its own; got "
            f"{jax.random.key_data(key).shape[:-1]} keys"
        )
    return Cell(
        init=cell.init,
        initial_state=DetachInitialState(cell.initial_state, key),
        step=DetachStep(cell.step, float(p), str(jax.random.key_impl(key))),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class DetachInitialState:
    """The wrapped cell's initial state, and a key for each example."""

    initial_state: InitialState
    key: chex.PRNGKey

    def __call__(self, params: Params, batch_shape: tuple[int, ...] = ()) -> DetachState:
        state = self.initial_state(params, batch_shape)
        name, fields = type(state).__name__, getattr(state, "_fields", ())
        if "h" not in fields:
            raise TypeError(
                f"detach blocks the gradient through the field h of a state, and a {name} has "
                "none. Wrap the cells of a stack before it is stacked, and a wrapped cell before "
                "it is wrapped."
            )
        if len(fields) == 1:
            raise ValueError(
                f"detach leaves the gradient the other fields of a state, and a {name} has h "
                "alone: no gradient would pass a blocked step. Take a cell with a memory, such as "
                "rx.cells.lstm."
            )
        return DetachState(state, jax.random.key_data(jax.random.split(self.key, batch_shape)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DetachInitialState) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[Any, ...]:
        if isinstance(self.key, jax.core.Tracer):  # no value to compare: equal to itself alone
            return self.initial_state, id(self.key)
        with jax.ensure_compile_time_eval():  # a known key has its value also while tracing
            words = np.asarray(jax.random.key_data(self.key))
        return self.initial_state, str(jax.random.key_impl(self.key)), words.tobytes()


@dataclasses.dataclass(frozen=True)
class DetachStep:
    """`step(params, s, x)` with h in s a constant, where the draw of this step says so."""

    step: StepFn
    p: float
    impl: str  # of the random keys

    not_hoisted = "it blocks the gradient through h at random, step by step"

    def __call__(self, params: Params, state: State, x: Any) -> tuple[DetachState, Any]:
        _check_state(state)
        inner, words = state

        def draw(words: chex.Array) -> tuple[chex.Array, chex.Array]:
            """Return the key of the next step, and whether this one is blocked."""
            following, now = jax.random.split(jax.random.wrap_key_data(words, impl=self.impl))
            return jax.random.key_data(following), jax.random.bernoulli(now, self.p)

        following, blocked = jax.vmap(draw)(words.reshape(-1, words.shape[-1]))
        blocked = blocked.reshape(words.shape[:-1])
        flags = blocked.reshape(blocked.shape + (1,) * (jnp.ndim(inner.h) - blocked.ndim))
        read = inner._replace(h=jnp.where(flags, jax.lax.stop_gradient(inner.h), inner.h))
        new, y = self.step(params, read, x)
        return DetachState(new, following.reshape(words.shape)), y

    def check_inputs(self, params: Params, state: State, xs: Any) -> None:
        """The wrapped cell sees its own state, and the inputs as they are."""
        _check_state(state)
        if hasattr(self.step, "check_inputs"):
            self.step.check_inputs(params, state.state, xs)


def _check_state(state: Any) -> None:
    if not isinstance(state, DetachState):
        raise TypeError(
            f"state must be a DetachState, as cell.initial_state(params, batch_shape) returns; got "
            f"{type(state).__name__}"
        )
