"""The derivatives of a pointwise function at one instant, and what must be kept to have them.

A gated cell's new state is `s' = p(u, z_in, z_rec, s)`, hidden unit by hidden unit, so all its
derivatives are diagonal: for each field k of the state and each gate g a number a unit,

    rec[k][g] = d s'_k / d z_rec_g        direct[k][j] = d s'_k / d s_j

With them the backward pass through time is multiplications, additions and one matrix product a
step; nothing else of the cell is left in the loop. What the derivatives are computed from is
either the pre-activations, computed anew, or the fewest numbers that the forward pass can keep
instead (for an LSTM its four activated gates; for an Elman cell nothing, h itself will do).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from recurrax.gated.cut import minimum_cut
from recurrax.gated.diagonals import derivatives, fields_of, pull_of
from recurrax.gated.differentiable import (
    Refusal,
    check_differentiable,
    check_linear,
    is_elementary,
)
from recurrax.gated.tracing import Graph, is_zero, trace, zeros

if TYPE_CHECKING:
    import chex

    from recurrax.gated.cell import GatedStep


class Derivatives(NamedTuple):
    """Of one instant; None stands for zero."""

    rec: tuple[Any, ...]  # for each field and each gate: [B, H]
    direct: tuple[tuple[Any, ...], ...]  # for each field and each old field: [B, H]


def weighted(weights: Any, fields: Any, like: Any) -> Any:
    """`sum_k weight[k] field[k]` over the weights that are not zero."""
    parts = [w * a for w, a in zip(weights, fields, strict=True) if w is not None]
    return sum(parts[1:], parts[0]).astype(like.dtype) if parts else jnp.zeros_like(like)


def pointwise_at(step: GatedStep, *shapes: Any) -> PointwiseDerivatives:
    """A step traced at some shapes; once, since every pass over time asks for it."""
    leaves, tree = jax.tree.flatten(shapes)
    # What else a trace depends on: which float a Python number becomes.
    return _local(step, tree, tuple(leaves), jnp.result_type(float))


@lru_cache(maxsize=128)
def _local(
    step: GatedStep, tree: Any, leaves: tuple[Any, ...], float_: Any
) -> PointwiseDerivatives:
    return PointwiseDerivatives(step, *jax.tree.unflatten(tree, leaves))


class PointwiseDerivatives:
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
        self.fields = len(state)
        fields, shapes = fields_of(step), (unit, z_in, z_rec, state)
        elementary = is_elementary(fields, *shapes)
        if not elementary:
            check_differentiable(fields, *shapes)
        graph = trace(_everything(step), unit, z_in, z_rec, state, state)
        if any(isinstance(value, jax.core.Tracer) for value in graph.constants.values()):
            raise Refusal("it closes over a value that is being traced")
        if graph.effects:
            raise Refusal("it has side effects, such as a callback")
        if not elementary:
            check_linear(fields, *shapes)
        self.graph: Graph = graph
        self.unit, self.z_in, self.z_rec, self.old, self.error = graph.inputs
        self.new, self.derivatives, self.rest = graph.outputs
        self.zeros = zeros(graph)
        self.kept = self._cut()

    @property
    def bytes_kept(self) -> int:
        """How much `forward` keeps of each instant."""
        return sum(_bytes(v) for v in self.kept)

    @property
    def one_gate_gradient(self) -> bool:
        """Whether z_in and z_rec always have the same gradient, as where only their sum counts."""
        pairs = zip(self.rest[1], self.rest[2], strict=True)
        return all(a is b or self._both_zero(a, b) for a, b in pairs)

    def _both_zero(self, a: Any, b: Any) -> bool:
        return is_zero(a, self.zeros) and is_zero(b, self.zeros)

    @property
    def unpacks_gates(self) -> bool:
        """Whether the function takes gates out of z_in, instead of using it as a whole."""
        users = [eqn for eqn in self.graph.equations if self.z_in in eqn.invars]
        return any(eqn.primitive.name in ("slice", "unstack", "split") for eqn in users)

    def forward(self, unit: Any, z_in: Any, z_rec: Any, old: tuple[Any, ...]) -> tuple[Any, Any]:
        """The new state's fields, and what must be kept for the derivatives."""
        known = self._bind((self.unit, self.z_in, self.z_rec, self.old), (unit, z_in, z_rec, old))
        values = self.graph.evaluate([*self.new, *self.kept], known)
        return tuple(values[: self.fields]), tuple(values[self.fields :])

    def known(self, unit: Any, old: tuple[Any, ...], new: tuple[Any, ...], kept: Any) -> Any:
        """What is known of an instant by the states around it and what was kept of it."""
        given = self._bind((self.unit, self.old), (unit, old))
        after = {v: a for v, a in zip(self.new, new, strict=True) if isinstance(v, Var)}
        # A new state that is an old one passed on is known twice; the old one is the input.
        return after | given | dict(zip(self.kept, kept, strict=True))

    def known_again(self, unit: Any, z_in: Any, z_rec: Any, old: tuple[Any, ...]) -> Any:
        """What is known of an instant when its pre-activations have been computed anew."""
        return self._bind((self.unit, self.z_in, self.z_rec, self.old), (unit, z_in, z_rec, old))

    def evaluate(self, known: dict[Var, Any]) -> Derivatives:
        """The derivatives of one instant."""
        leaves, tree = jax.tree.flatten(self.derivatives)
        zero = [is_zero(v, self.zeros) for v in leaves]
        wanted = [v for v, none in zip(leaves, zero, strict=True) if not none]
        values = iter(self.graph.evaluate(wanted, known))
        return Derivatives(*jax.tree.unflatten(tree, [None if z else next(values) for z in zero]))

    def pull(self, known: dict[Var, Any], error: tuple[chex.Array, ...]) -> tuple[Any, Any]:
        """Gradients of the unit parameters and of each gate of z_in, given the new state's."""
        given = known | self._bind(self.error, error)
        leaves, tree = jax.tree.flatten(self.rest[:2])
        unit, z_in = jax.tree.unflatten(tree, self.graph.evaluate(leaves, given))
        return unit, z_in

    def _bind(self, variables: Any, values: Any) -> dict[Var, Any]:
        return dict(zip(jax.tree.leaves(variables), jax.tree.leaves(values), strict=True))

    def _cut(self) -> list[Var]:
        """The fewest bytes from which, with both states, the derivatives can be computed."""
        free = set(jax.tree.leaves((self.unit, self.old, self.error)))
        free |= {v for v in self.new if isinstance(v, Var)}
        size: dict[Var, float] = {}
        edges = []
        lost = [self.z_in, self.z_rec]
        for v in [*lost, *free, *(v for eqn in self.graph.equations for v in eqn.outvars)]:
            # One byte more, so that of two cuts of the same size the one in fewer arrays is taken.
            size[v] = 0 if v in free else _bytes(v) + 1
        for v in self._after_error():  # not there yet when the forward pass keeps something
            size[v] = math.inf
        for eqn in self.graph.equations:
            inputs = [v for v in eqn.invars if isinstance(v, Var) and v in size]
            edges += [(a, b) for a in inputs for b in eqn.outvars]
        wanted = [v for v in jax.tree.leaves((self.derivatives, self.rest[:2])) if v in size]
        cut = minimum_cut(edges, size, lost, wanted)
        return [v for v in size if v in cut and size[v] > 0]

    def _after_error(self) -> set[Var]:
        """What is computed from the error of the backward pass."""
        found = set(self.error)
        for eqn in self.graph.equations:
            if any(isinstance(v, Var) and v in found for v in eqn.invars):
                found.update(eqn.outvars)
        return found - set(self.error)


def _bytes(v: Any) -> int:
    return int(v.aval.size) * int(v.aval.dtype.itemsize)


def _everything(step: GatedStep) -> Any:
    """New state, derivatives, and the gradients that the loop does not need, as one function."""

    def everything(unit: Any, z_in: Any, z_rec: Any, old: Any, error: Any) -> Any:
        new, (d_unit, d_in, d_rec, _) = pull_of(step)(unit, z_in, z_rec, old, error)
        rec, direct = derivatives(step, unit, z_in, z_rec, old)
        return new, (tuple(map(tuple, rec)), direct), (d_unit, tuple(d_in), tuple(d_rec))

    return everything
