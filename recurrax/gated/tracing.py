"""A traced function as a graph: inlined, every expression once, evaluated in part.

A jaxpr is the graph; what is added here is to take some of its values as given and compute others
from them. Every equation is bound to its own primitive, so what is computed can be differentiated,
vmapped and sharded like any other code.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var
from jax.extend.core.primitives import jit_p

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    Bind = Callable[[JaxprEqn, list[Any]], Any]


@dataclasses.dataclass(frozen=True)
class Graph:
    """The equations of a function, and the trees of its arguments and its result.

    Args:
      equations: in an order in which they can be evaluated.
      constants: the values of captured constants, by variable.
      inputs: the tuple of arguments, a `Var` in the place of each array.
      outputs: the result, a `Var` or `Literal` in the place of each array.
      effects: what the function does besides computing.
    """

    equations: tuple[JaxprEqn, ...]
    constants: dict[Var, Any]
    inputs: Any
    outputs: Any
    effects: Any

    def needed(self, wanted: Iterable[Any], known: Container[Var]) -> list[JaxprEqn]:
        """The equations between the known variables and the wanted ones, in order."""
        open_ = {v for v in wanted if isinstance(v, Var)}
        chosen = []
        for eqn in reversed(self.equations):
            if any(v in open_ and v not in known for v in eqn.outvars):
                chosen.append(eqn)
                open_.update(v for v in eqn.invars if isinstance(v, Var))
        return chosen[::-1]

    def evaluate(self, wanted: list[Any], known: dict[Var, Any]) -> list[Any]:
        """The values of the wanted variables, given those of the known ones."""
        values = self.constants | known

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else values[atom]

        for eqn in self.needed(wanted, known.keys() | self.constants.keys()):
            results = _bind(eqn, [read(v) for v in eqn.invars])
            values.update(
                (v, r) for v, r in zip(eqn.outvars, results, strict=True) if v not in known
            )
        return [jnp.asarray(read(v)) for v in wanted]


def trace(function: Callable[..., Any], *arguments: Any) -> Graph:
    """Trace a function of pytrees of arrays: nested jits inlined, equal expressions merged."""
    leaves, tree = jax.tree.flatten(arguments)
    closed, shape = jax.make_jaxpr(
        lambda *leaves: function(*jax.tree.unflatten(tree, leaves)), return_shape=True
    )(*leaves)

    def inlined(*leaves: Any) -> list[Any]:
        return [_whole(v) for v in _inline(closed.jaxpr, closed.consts, leaves, {})]

    flat = jax.make_jaxpr(inlined)(*leaves)
    return Graph(
        equations=tuple(flat.jaxpr.eqns),
        constants=dict(zip(flat.jaxpr.constvars, flat.consts, strict=True)),
        inputs=jax.tree.unflatten(tree, flat.jaxpr.invars),
        outputs=jax.tree.unflatten(jax.tree.structure(shape), flat.jaxpr.outvars),
        # That a mesh axis is named, as inside `jax.shard_map`, does nothing.
        effects={e for e in closed.effects if type(e).__name__ != "NamedAxisEffect"},
    )


def _bind(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    params = eqn.primitive.get_bind_params(eqn.params)
    result = eqn.primitive.bind(*values, **params)
    return list(result) if eqn.primitive.multiple_results else [result]


def _inline(jaxpr: Jaxpr, consts: Any, arguments: Any, seen: dict[Any, Any]) -> list[Any]:
    """Evaluate a jaxpr; what comes out may be `PaddedGates`."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def once(eqn: JaxprEqn, given: list[Any]) -> Any:
        key = _key(eqn, given)
        if key not in seen:
            # The arguments stay alive with the result: their id is what is compared.
            seen[key] = (_bind(eqn, given), given)
        return seen[key][0]

    for eqn in jaxpr.eqns:
        given = [v.val if isinstance(v, Literal) else values[v] for v in eqn.invars]
        if eqn.primitive is jit_p:
            inner = eqn.params["jaxpr"]
            results = _inline(inner.jaxpr, inner.consts, given, seen)
        else:
            found = evaluate_by_parts(eqn, given, lambda eqn, given: once(eqn, given)[0])
            results = [found]
            if found is NotImplemented:
                results = once(eqn, [_whole(v) for v in given])
        values.update(zip(eqn.outvars, results, strict=True))
    return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def _whole(value: Any) -> Any:
    return value.whole() if isinstance(value, PaddedGates) else value


def _key(eqn: JaxprEqn, given: list[Any]) -> Any:
    """Equal for equations that compute the same; unique where that cannot be told."""

    def mark(value: Any) -> Any:
        """Equal for equal numbers, -0 and 0 apart, and for the same array."""
        if isinstance(value, (int, float, bool, np.generic, np.ndarray)) and np.ndim(value) == 0:
            number = np.asarray(value)
            return str(number.dtype), repr(number.item())
        return id(value)

    params = tuple(sorted(eqn.params.items()))
    try:
        hash(params)
    except TypeError:
        return object()
    return eqn.primitive, tuple(mark(value) for value in given), params


def zeros(graph: Graph) -> set[Any]:
    """The variables that are zero by their structure, whatever the inputs."""
    found = {v for v, a in graph.constants.items() if isinstance(a, np.ndarray) and not a.any()}

    for eqn in graph.equations:
        inputs = [is_zero(v, found) for v in eqn.invars]
        name = eqn.primitive.name
        if (name in _ZERO_OF_ALL_ZERO and all(inputs)) or (name == "mul" and any(inputs)):
            found.update(eqn.outvars)
    return found


def is_zero(atom: Any, found: set[Any]) -> bool:
    """Whether an output is among those zeros, or is written as zero."""
    if isinstance(atom, Literal):
        return bool(np.all(np.asarray(atom.val) == 0))
    return atom in found


_ZERO_OF_ALL_ZERO = {
    "add", "add_any", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "neg",
    "pad", "pvary", "reshape", "slice", "squeeze", "stack", "sub", "transpose", "unstack",
}  # fmt: skip


# --- gates that were padded with zeros ----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PaddedGates:
    """An array that is zero outside some rows of its first axis.

    The transpose of unpacking gates, `i, f, g, o = z`, pads each gate's gradient with zeros and
    adds the padded ones up. Compilers do not see through that: it costs as much as all the rest. So
    while a function is inlined, a padded array stays the few rows that are not zero, elementwise
    operations work part by part, and taking a gate out again finds the part that went in.

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


def evaluate_by_parts(eqn: JaxprEqn, values: list[Any], bind: Bind) -> Any:
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
