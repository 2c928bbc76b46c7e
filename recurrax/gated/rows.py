"""Arrays that are known to be zero outside some rows of their first axis.

The transpose of unpacking gates, `i, f, g, o = z`, pads each gate's gradient with zeros and adds
the padded ones up. Compilers do not see through that: it costs as much as all the rest. So while a
function is inlined, a padded array stays the few rows that are not zero, elementwise operations
work part by part, and taking a gate out again finds the part that went in.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from jax.extend.core import JaxprEqn

    Bind = Callable[[JaxprEqn, list[Any]], Any]


@dataclasses.dataclass(frozen=True)
class PaddedGates:
    """An array that is zero but for some parts.

    Args:
      shape: of the whole.
      dtype: of the whole.
      parts: by (first row, row after the last), disjoint: what stands there.
    """

    shape: tuple[int, ...]
    dtype: Any
    parts: dict[tuple[int, int], Any]

    def whole(self) -> Any:
        """The array itself."""
        pieces, at = [], 0
        for (first, after), part in sorted(self.parts.items(), key=lambda item: item[0]):
            if first > at:
                pieces.append(jnp.zeros((first - at, *self.shape[1:]), self.dtype))
            pieces.append(part)
            at = after
        if at < self.shape[0]:
            pieces.append(jnp.zeros((self.shape[0] - at, *self.shape[1:]), self.dtype))
        if not pieces:
            return jnp.zeros(self.shape, self.dtype)
        return jnp.concatenate(pieces) if len(pieces) > 1 else pieces[0]

    def part(self, first: int, after: int) -> Any:
        """The rows from first to after, which no part begins or ends within; None for zero."""
        for (low, high), part in self.parts.items():
            if low <= first and after <= high:
                inside = first - low, after - low
                return part if inside == (0, high - low) else jax.lax.slice_in_dim(part, *inside)
        return None


def evaluate(eqn: JaxprEqn, values: list[Any], bind: Bind) -> Any:
    """The result of an equation with one output, some of whose inputs may be `PaddedGates`.

    Returns NotImplemented where the equation is none of those that keep to the parts.
    """
    name = eqn.primitive.name
    if name == "pad":
        return _pad(eqn, *values)
    if not any(isinstance(v, PaddedGates) for v in values):
        return NotImplemented
    if name == "slice":
        return _slice(eqn, values[0])
    if name in _ELEMENTWISE:
        return _by_parts(eqn, values, bind)
    return NotImplemented


def _pad(eqn: JaxprEqn, operand: Any, value: Any) -> Any:
    config = eqn.params["padding_config"]
    if not config:
        return NotImplemented
    low, high, inside = config[0]
    plain = low >= 0 and high >= 0 and inside == 0 and all(c == (0, 0, 0) for c in config[1:])
    number = isinstance(value, (int, float, np.generic, np.ndarray))
    zero = number and bool(np.all(np.asarray(value) == 0))
    if not plain or not zero or isinstance(operand, PaddedGates):
        return NotImplemented
    aval: Any = eqn.outvars[0].aval
    return PaddedGates(aval.shape, aval.dtype, {(low, low + operand.shape[0]): operand})


def _slice(eqn: JaxprEqn, rows: PaddedGates) -> Any:
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    whole = all(a == 0 for a in start[1:]) and tuple(limit[1:]) == rows.shape[1:]
    if not whole or (eqn.params["strides"] or ()) not in ((), (1,) * len(rows.shape)):
        return NotImplemented
    first, after = start[0], limit[0]
    inside = {}
    for low, high in rows.parts:
        low, high = max(low, first), min(high, after)
        if low < high:
            inside[low - first, high - first] = rows.part(low, high)
    found = PaddedGates((after - first, *rows.shape[1:]), rows.dtype, inside)
    return found.whole() if (0, after - first) in inside or not inside else found


# What an operation gives where its inputs are zero (None) or not.
def _add(bind: Any, a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else bind(a, b)


def _multiply(bind: Any, a: Any, b: Any) -> Any:
    return None if a is None or b is None else bind(a, b)


def _one(bind: Any, a: Any) -> Any:
    return None if a is None else bind(a)


def _select(bind: Any, which: Any, *cases: Any) -> Any:
    like = next((case for case in cases if case is not None), None)
    if which is None or like is None:
        return cases[0] if which is None else None
    return bind(which, *(jnp.zeros_like(like) if case is None else case for case in cases))


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": _add,
    "add_any": _add,
    "mul": _multiply,
    "neg": _one,
    "convert_element_type": _one,
    "copy": _one,
    "select_n": _select,
}


def _by_parts(eqn: JaxprEqn, values: list[Any], bind: Bind) -> Any:
    aval: Any = eqn.outvars[0].aval
    edges = {0, aval.shape[0]}
    for v in values:
        if isinstance(v, PaddedGates) and v.shape[0] == aval.shape[0]:
            edges.update(edge for pair in v.parts for edge in pair)
    borders = sorted(edges)
    parts = {}
    for first, after in itertools.pairwise(borders):
        here = [_part(v, first, after, aval.shape[0]) for v in values]
        found = _ELEMENTWISE[eqn.primitive.name](lambda *a: bind(eqn, list(a)), *here)
        if found is not None:
            # One row or a number may have stood for all of them.
            found = jnp.asarray(found, aval.dtype)
            parts[first, after] = jnp.broadcast_to(found, (after - first, *aval.shape[1:]))
    return PaddedGates(aval.shape, aval.dtype, parts)


def _part(value: Any, first: int, after: int, rows: int) -> Any:
    """Some rows of an operand; a number, or one row that stands for all, is taken as it is."""
    if isinstance(value, PaddedGates):
        return value.whole() if value.shape[0] < rows else value.part(first, after)
    if np.ndim(value) == 0 or (value.shape[0] == 1 and rows > 1):
        return value
    return jax.lax.slice_in_dim(value, first, after)
