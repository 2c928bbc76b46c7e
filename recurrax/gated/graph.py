"""A traced function as a graph: inlined, every expression once, evaluated in part.

A jaxpr is the graph; what is added here is to take some of its values as given and compute others
from them. Every equation is bound to its own primitive, so what is computed can be differentiated,
vmapped and sharded like any other code.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var
from jax.extend.core.primitives import jit_p

from recurrax.gated import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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

    def needed(self, wanted: Iterable[Any], known: Iterable[Var]) -> list[JaxprEqn]:
        """The equations between the known variables and the wanted ones, in order."""
        known, open_ = set(known), {v for v in wanted if isinstance(v, Var)}
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

        for eqn in self.needed(wanted, values):
            results = _bind(eqn, [read(v) for v in eqn.invars])
            values.update(
                (v, r) for v, r in zip(eqn.outvars, results, strict=True) if v not in known
            )
        return [jax.numpy.asarray(read(v)) for v in wanted]


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
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

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
            found = rows.evaluate(eqn, given, lambda eqn, given: once(eqn, given)[0])
            results = [found]
            if found is NotImplemented:
                results = once(eqn, [_whole(v) for v in given])
        values.update(zip(eqn.outvars, results, strict=True))
    return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def _whole(value: Any) -> Any:
    return value.whole() if isinstance(value, rows.PaddedGates) else value


def _key(eqn: JaxprEqn, given: list[Any]) -> Any:
    """Equal for equations that compute the same; unique where that cannot be told."""
    marks = tuple(_mark(value) for value in given)
    params = tuple(sorted(eqn.params.items()))
    try:
        hash(params)
    except TypeError:
        return object()
    return eqn.primitive, marks, params


def _mark(value: Any) -> Any:
    """Equal for equal numbers, -0 and 0 apart, and for the same array."""
    if isinstance(value, (int, float, bool, np.generic, np.ndarray)) and np.ndim(value) == 0:
        number = np.asarray(value)
        return str(number.dtype), repr(number.item())
    return id(value)


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
