"""The derivatives of a pointwise function: written once, for every engine and every question.

A gated cell's new state is `s' = p(u, z_in, z_rec, s)`, hidden unit by hidden unit, so all its
derivatives are diagonal: for each field k of the state and each gate g a number a unit,

    rec[k][g] = d s'_k / d z_rec_g        direct[k][j] = d s'_k / d s_j

Most questions of flow call the functions here as they are. The engines, and lag profiles, trace
them at the shapes of one instant and work on what was traced: with the derivatives at hand, the
backward pass through time is multiplications, additions and one matrix product a step. What they
are computed from is either the pre-activations, computed anew, or the fewest numbers that the
forward pass can keep instead (for an LSTM its four activated gates; for an Elman cell nothing, h
itself will do).
"""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from recurrax.gated.differentiable import Refusal, check_differentiable
from recurrax.gated.tracing import is_zero, trace, zeros

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    import chex

    from recurrax.gated.step import GatedStep

V = TypeVar("V", bound="Hashable")


def new_fields(step: GatedStep, unit: Any, z_in: Any, z_rec: Any, old: Any) -> tuple[Any, ...]:
    """The pointwise function on plain tuples of fields."""
    return tuple(step.pointwise(unit, z_in, z_rec, step.state(*old)))


def pull_back(
    step: GatedStep, unit: Any, z_in: Any, z_rec: Any, old: Any, error: Any
) -> tuple[Any, Any]:
    """The new fields, and the gradients of all four arguments given those of the new fields."""
    new, pull = jax.vjp(partial(new_fields, step), unit, z_in, z_rec, old)
    return new, pull(error)


def derivatives(
    step: GatedStep, unit: Any, z_in: Any, z_rec: Any, old: tuple[Any, ...]
) -> Derivatives:
    """`rec`, for each field `[G, ..., H]`, and `direct`, for each field and old field `[..., H]`.

    Each field is a function of its own unit alone, so its gradient for an error of ones is its
    diagonal.
    """
    rows = []
    for k in range(len(old)):
        new, pull = jax.vjp(lambda z, s, k=k: new_fields(step, unit, z_in, z, s)[k], z_rec, old)
        rows.append(pull(jnp.ones_like(new)))
    return Derivatives(tuple(rec for rec, _ in rows), tuple(tuple(direct) for _, direct in rows))


class Derivatives(NamedTuple):
    """The derivatives of a pointwise function; where it was traced, None stands for zero."""

    rec: tuple[Any, ...]  # for each field [G, ..., H], or its gates; for chunks [C, B, G*H]
    direct: tuple[tuple[Any, ...], ...]  # for each field and each old field: [..., H]


class Diagonals(NamedTuple):
    """A step of P hidden units, and its derivatives unit by unit."""

    state: Any  # the new state, fields [P]
    recurrent: chex.Array  # [G, S, P], d s_a / d z_rec_g
    direct: chex.Array  # [S, S, P], d s_a / d s_b at fixed z_rec


def diagonals(step: GatedStep, unit: Any, z_in: Any, z_rec: Any, state: Any) -> Diagonals:
    """The new state of units `[P]`, given `z_in`, `z_rec [G, P]`, and its derivatives."""
    rec, direct = derivatives(step, unit, z_in, z_rec, tuple(state))
    new = step.pointwise(unit, z_in, z_rec, state)
    return Diagonals(new, jnp.stack(rec, 1), jnp.stack([jnp.stack(row) for row in direct]))


def weighted(weights: Any, fields: Any, like: Any) -> Any:
    """`sum_k weight[k] field[k]` over the weights that are not zero."""
    parts = [w * a for w, a in zip(weights, fields, strict=True) if w is not None]
    return sum(parts[1:], parts[0]).astype(like.dtype) if parts else jnp.zeros_like(like)


def traced_pointwise(step: GatedStep, *shapes: Any) -> TracedPointwise:
    """A step traced at some shapes; once, since every pass over time asks for it."""
    leaves, tree = jax.tree.flatten(shapes)
    # What else a trace depends on: which float a Python number becomes.
    return _traced(step, tree, tuple(leaves), jnp.result_type(float))


@lru_cache(maxsize=128)
def _traced(step: GatedStep, tree: Any, leaves: tuple[Any, ...], float_: Any) -> TracedPointwise:
    return TracedPointwise(step, *jax.tree.unflatten(tree, leaves))


class TracedPointwise:
    """The pointwise function of a step, traced at the shapes of one instant.

    Args:
      step: the gated step.
      unit: its per-unit parameters; this and what follows are shapes.
      z_in: the input's share of the pre-activations, `[G, B, H]`.
      z_rec: the state's share, `[G, B, H]`.
      state: the fields of the state, each `[B, H]`.

    Raises:
      Refusal: if it cannot be taken apart.
    """

    def __init__(
        self, step: GatedStep, unit: Any, z_in: Any, z_rec: Any, state: tuple[Any, ...]
    ) -> None:
        def everything(unit: Any, z_in: Any, z_rec: Any, old: Any, error: Any) -> Any:
            new, (d_unit, d_in, d_rec, _) = pull_back(step, unit, z_in, z_rec, old, error)
            rec, direct = derivatives(step, unit, z_in, z_rec, old)
            return new, (tuple(map(tuple, rec)), direct), (d_unit, tuple(d_in), tuple(d_rec))

        check_differentiable(partial(new_fields, step), unit, z_in, z_rec, state)
        graph = trace(everything, unit, z_in, z_rec, state, state)
        if any(isinstance(value, jax.core.Tracer) for value in graph.constants.values()):
            raise Refusal("it closes over a value that is being traced")
        if graph.effects:
            raise Refusal("it has side effects, such as a callback")
        self.graph = graph
        self.unit, self.z_in, self.z_rec, self.old, self.error = graph.inputs
        self.new, self.derivatives, self.rest = graph.outputs
        self.zeros = zeros(graph)
        self.kept = self._fewest_to_keep()

        # How much `forward` keeps of each instant.
        self.bytes_kept = sum(_bytes(v) for v in self.kept)
        # Whether z_in and z_rec always have the same gradient, as where only their sum counts.
        self.one_gate_gradient = all(
            a is b or (is_zero(a, self.zeros) and is_zero(b, self.zeros))
            for a, b in zip(self.rest[1], self.rest[2], strict=True)
        )
        # Whether the function takes gates out of z_in, instead of using it as a whole.
        users = {eqn.primitive.name for eqn in graph.equations if self.z_in in eqn.invars}
        self.unpacks_gates = not users.isdisjoint(("slice", "unstack", "split"))

    def forward(self, unit: Any, z_in: Any, z_rec: Any, old: tuple[Any, ...]) -> tuple[Any, Any]:
        """The new state's fields, and what must be kept for the derivatives."""
        known = self.known_by_gates(unit, z_in, z_rec, old)
        values = self.graph.evaluate([*self.new, *self.kept], known)
        return tuple(values[: len(old)]), tuple(values[len(old) :])

    def known_by_states(self, unit: Any, old: Any, new: Any, kept: Any) -> dict[Var, Any]:
        """What is known of an instant by the states around it and what was kept of it."""
        after = {v: a for v, a in zip(self.new, new, strict=True) if isinstance(v, Var)}
        # A new state that is an old one passed on is known twice; the old one is the input.
        given = _bind((self.unit, self.old), (unit, old))
        return after | given | dict(zip(self.kept, kept, strict=True))

    def known_by_gates(self, unit: Any, z_in: Any, z_rec: Any, old: Any) -> dict[Var, Any]:
        """What is known of an instant by its pre-activations."""
        return _bind((self.unit, self.z_in, self.z_rec, self.old), (unit, z_in, z_rec, old))

    def evaluate(self, known: dict[Var, Any]) -> Derivatives:
        """The derivatives of one instant."""
        leaves, tree = jax.tree.flatten(self.derivatives)
        zero = [is_zero(v, self.zeros) for v in leaves]
        wanted = [v for v, none in zip(leaves, zero, strict=True) if not none]
        values = iter(self.graph.evaluate(wanted, known))
        return Derivatives(*jax.tree.unflatten(tree, [None if z else next(values) for z in zero]))

    def pull(self, known: dict[Var, Any], error: tuple[chex.Array, ...]) -> tuple[Any, Any]:
        """Gradients of the unit parameters and of each gate of z_in, given the new state's."""
        leaves, tree = jax.tree.flatten(self.rest[:2])
        values = self.graph.evaluate(leaves, known | _bind(self.error, error))
        unit, z_in = jax.tree.unflatten(tree, values)
        return unit, z_in

    def _fewest_to_keep(self) -> list[Var]:
        """The fewest bytes from which, with both states, the derivatives can be computed."""
        free = set(jax.tree.leaves((self.unit, self.old, self.error)))
        free |= {v for v in self.new if isinstance(v, Var)}
        lost, computed = [self.z_in, self.z_rec], []
        by_error = set(self.error)  # not there yet when the forward pass keeps something
        edges = []
        for eqn in self.graph.equations:
            inputs = [v for v in eqn.invars if isinstance(v, Var)]
            edges += [(a, b) for a in inputs for b in eqn.outvars]
            computed += eqn.outvars
            if not by_error.isdisjoint(inputs):
                by_error.update(eqn.outvars)
        # One byte more, so that of two cuts of the same size the one in fewer arrays is taken.
        size = {v: 0.0 if v in free else _bytes(v) + 1.0 for v in [*lost, *free, *computed]}
        size |= dict.fromkeys(by_error - set(self.error), math.inf)
        edges = [(a, b) for a, b in edges if a in size]
        wanted = [v for v in jax.tree.leaves((self.derivatives, self.rest[:2])) if v in size]
        cut = minimum_cut(edges, size, lost, wanted)
        return [v for v in size if v in cut and size[v] > 0]


def _bind(variables: Any, values: Any) -> dict[Var, Any]:
    return dict(zip(jax.tree.leaves(variables), jax.tree.leaves(values), strict=True))


def _bytes(v: Any) -> int:
    return int(v.aval.size) * int(v.aval.dtype.itemsize)


def minimum_cut(
    edges: Iterable[tuple[V, V]], size: Mapping[V, float], lost: Iterable[V], wanted: Iterable[V]
) -> set[V]:
    """The vertices of least total size whose removal separates the lost from the wanted.

    A minimum vertex cut by maximum flow (Ford and Fulkerson, 1956) along shortest paths (Edmonds
    and Karp, 1972); of cuts of the same size the one nearest to the wanted.

    Args:
      edges: pairs (from, to): `to` is computed from `from`.
      size: of each vertex; a vertex of size 0 may be removed for nothing, an infinite one never.
      lost: vertices that paths begin at; they may be in the cut themselves.
      wanted: vertices that paths end at; they too.

    Example:
      >>> sorted(minimum_cut([("z", "a"), ("a", "b"), ("a", "c")],
      ...                    {"z": 4, "a": 1, "b": 1, "c": 1}, ["z"], ["b", "c"]))
      ['a']
    """
    infinite = 1.0 + sum(amount for amount in size.values() if amount < math.inf)
    # Each vertex is an edge from its "in" to its "out", with its size as the capacity.
    pipes: list[tuple[Any, Any, float]]
    pipes = [(("in", v), ("out", v), min(amount, infinite)) for v, amount in size.items()]
    pipes += [(("out", a), ("in", b), infinite) for a, b in edges]
    pipes += [("source", ("in", v), infinite) for v in lost]
    pipes += [(("out", v), "sink", infinite) for v in wanted]
    left: dict[Any, dict[Any, float]] = {"source": {}, "sink": {}}
    for a, b, amount in pipes:
        left.setdefault(a, {})[b] = amount
        left.setdefault(b, {}).setdefault(a, 0.0)
    while "source" in (onward := _ways_to_sink(left)):
        path: list[Any] = ["source"]
        while path[-1] != "sink":
            path.append(onward[path[-1]])
        steps = list(pairwise(path))
        amount = min(left[a][b] for a, b in steps)
        for a, b in steps:
            left[a][b] -= amount
            left[b][a] += amount
    return {v for v in size if ("out", v) in onward and ("in", v) not in onward}


def _ways_to_sink(left: dict[Any, dict[Any, float]]) -> dict[Any, Any]:
    """The next vertex on a shortest way to the sink, for all from which there is one."""
    onward: dict[Any, Any] = {"sink": None}
    queue = deque(["sink"])
    while queue:
        b = queue.popleft()
        for a in left[b]:
            if a not in onward and left[a][b] > 0:
                onward[a] = b
                queue.append(a)
    return onward
