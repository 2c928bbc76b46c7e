"""Layers and directions, each as a cell of its own on what it was given."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.cell import Cell
from recurrax.cells.bidirectional import Bidirectional, check_pair
from recurrax.cells.combined import StackInit, StackInitialState, StackStep, check_entries
from recurrax.cells.stack import BidirectionalStack, BothWays, unless_both_ways
from recurrax.flow.summary import summary
from recurrax.unrolling.unroll import prepare, unroll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import chex

    from recurrax.cell import StepFn


class Part(NamedTuple):
    """One layer in one direction: what any question of `recurrax.flow` is asked of."""

    cell: Cell | StepFn
    params: Any
    state: Any  # before its own first step
    xs: Any  # [T, *batch, I], in the order in which it reads them; None where none were given
    mask: chex.Array | None  # bool [T, *batch], in that order too
    resets: chex.Array | None

    def __repr__(self) -> str:
        return summary(self)


def parts(
    cell: Cell | StepFn | BothWays,
    params: Any,
    state: Any,
    xs: Any,
    *,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
) -> dict[str, Part]:
    """Take layers and directions apart: each is a cell of its own on the outputs of the one below.

    These outputs are given data here: a derivative of one part's state by its own earlier state
    goes through no other layer. Every question about time that is asked of what `rx.bidirectional`
    makes, or of a stack of such, is asked of each part and answered by name.

    Args:
      cell: what `rx.bidirectional` or `rx.stack` makes, a `Cell`, or a step function.
      params: its params.
      state: the state before the first step, or None for the initial state.
      xs: the inputs `[T, *batch, I]`, or None for the cells and their weights alone.
      mask: bool `[T, *batch]`, as in `rx.unroll`; each part has the same.
      resets: bool `[T, *batch]`, as in `rx.unroll`; each part has the same.

    Returns:
      A `Part(cell, params, state, xs, mask, resets)` for each, by name: `layer0`, `layer1` and so
      on from the inputs up, what is no stack being `layer0`; of a bidirectional layer
      `layer0/forward` and `layer0/backward`. A backward part has its inputs and flags turned
      round, so that it is measured as a plain cell from its own first step. A stack that is a
      direction, or a layer of a stack of cells, is one part; one with bidirectional layers goes on
      below its own name, `layer0/layer1/forward`.

    Raises:
      ValueError, TypeError: as `rx.unroll` does.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> both = rx.bidirectional(rx.cells.gru(3, 4))
      >>> deep = rx.stack(both, rx.cells.lstm(8, 2))
      >>> params = deep.init(jax.random.key(0))
      >>> found = rx.flow.parts(deep, params, None, jnp.ones((9, 3)))
      >>> {name: part.xs.shape for name, part in found.items()}
      {'layer0/forward': (9, 3), 'layer0/backward': (9, 3), 'layer1': (9, 8)}
      >>> decays = rx.flow.decay(deep, params, None, jnp.ones((9, 3)))
      >>> decays["layer0/backward"].log_norm.shape
      (9,)
    """
    flags = {"mask": mask, "resets": resets}
    return {name: part for name, part, _ in _taken_apart(cell, params, state, xs, flags)}


_Question = TypeVar("_Question", bound="Callable[..., Any]")


def by_layer(question: _Question) -> _Question:
    """Ask each layer in each direction, and answer by name, where what is asked is no cell."""
    return unless_both_ways(question, functools.partial(_ask_each, question))


def _ask_each(question: Callable[..., Any], *args: Any, **options: Any) -> dict[str, Any]:
    """A loss is of the outputs of all layers together, and to each part that of its own outputs."""
    given = inspect.signature(question).bind(*args, **options).arguments
    cell, params, state, xs = (given.pop(name, None) for name in ("cell", "params", "state", "xs"))
    flags = {name: given.pop(name, None) for name in ("mask", "resets")}
    if given.get("length") is not None:
        raise ValueError(
            "length is for an autonomous cell; layers in both directions read what is given below "
            "them: give xs, such as jnp.zeros((length, *batch, I))"
        )
    loss, found = given.get("loss"), {}
    for name, part, above in _taken_apart(cell, params, state, xs, flags):
        if callable(loss):
            given["loss"] = lambda ys, above=above: loss(above(ys))
        own = {flag: getattr(part, flag) for flag in flags if getattr(part, flag) is not None}
        try:
            found[name] = question(*part[:4], **own, **given)
        except (TypeError, ValueError) as error:
            error.add_note(f"This is about {name} of {cell}.")
            raise
    return found


# A part, its name, and what all layers make of the part's own outputs.
_Named: TypeAlias = tuple[str, Part, "Callable[[Any], Any]"]


def _taken_apart(
    cell: Any, params: Any, state: Any, xs: Any, flags: dict[str, Any]
) -> Iterator[_Named]:
    layers = cell.layers if isinstance(cell, BidirectionalStack) else _cells_of(cell)
    if layers is None:
        layers, params, state = (cell,), (params,), (state,)
    return _walk(layers, params, state, xs, flags, lambda ys: ys)


def _cells_of(cell: Any) -> tuple[Cell, ...] | None:
    """Return the cells that `rx.stack` made a cell of."""
    fields = {"init": StackInit, "initial_state": StackInitialState, "step": StackStep}
    if not isinstance(cell, Cell) or not all(
        isinstance(getattr(cell, field), kind) for field, kind in fields.items()
    ):
        return None
    init: Any = cell.init
    start: Any = cell.initial_state
    step: Any = cell.step
    return tuple(map(Cell, init.inits, start.initial_states, step.steps))


def _walk(
    layers: tuple[Any, ...],
    params: Any,
    state: Any,
    xs: Any,
    flags: dict[str, Any],
    above: Callable[[Any], Any],
    prefix: str = "",
) -> Iterator[_Named]:
    check_entries("params", params, len(layers))
    states = (None,) * len(layers) if state is None else state
    check_entries("state", states, len(layers))
    every = tuple(zip(layers, params, states, strict=True))
    for i, (cell, own, start) in enumerate(every):
        name = f"{prefix}layer{i}"
        rest = functools.partial(_outputs, every[i + 1 :], flags, above)
        if isinstance(cell, BidirectionalStack):
            yield from _walk(cell.layers, own, start, xs, flags, rest, f"{name}/")
        elif isinstance(cell, Bidirectional):
            yield from _both(cell, own, start, xs, flags, rest, name)
        else:
            yield name, _part(cell, own, start, xs, flags), rest
        if xs is not None and i < len(every) - 1:
            xs = unroll(cell, own, start, xs, **flags)[1]


def _both(
    cell: Bidirectional,
    params: Any,
    state: Any,
    xs: Any,
    flags: dict[str, Any],
    rest: Callable[[Any], Any],
    name: str,
) -> Iterator[_Named]:
    check_pair("params", params)
    states = (None, None) if state is None else state
    check_pair("state", states)

    def ahead(ys: Any) -> Any:
        other = unroll(cell.backward, params[1], states[1], xs, reverse=True, **flags)[1]
        return rest(cell.join(ys, other))

    def back(ys: Any) -> Any:
        other = unroll(cell.forward, params[0], states[0], xs, **flags)[1]
        return rest(cell.join(other, _turned(ys)))

    yield f"{name}/forward", _part(cell.forward, params[0], states[0], xs, flags), ahead
    turned = _part(cell.backward, params[1], states[1], xs, flags)
    turned = turned._replace(**{f: _turned(getattr(turned, f)) for f in ("xs", "mask", "resets")})
    yield f"{name}/backward", turned, back


def _part(cell: Any, params: Any, state: Any, xs: Any, flags: dict[str, Any]) -> Part:
    if xs is None:  # asked about the weights alone
        return Part(cell, params, state, None, None, None)
    state, xs = prepare(cell, params, state, xs)
    for name, given in flags.items():
        if given is not None:
            checks.check_flags(name, given, checks.check_time(xs), state)
    return Part(cell, params, state, xs, **flags)


def _turned(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.flip(leaf, 0), tree)


def _outputs(
    layers: tuple[Any, ...], flags: dict[str, Any], above: Callable[[Any], Any], ys: Any
) -> Any:
    for cell, params, state in layers:
        ys = unroll(cell, params, state, ys, **flags)[1]
    return above(ys)
