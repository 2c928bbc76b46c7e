"""All that is measured of one layer: how its gradient travels, and what its units do meanwhile.

A measurement is of a few whole sequences of one length (`Layer.xs [T, E, I]`), so that a copy of
the layer with other weights runs through the programs that are compiled already.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from recurrax.diagnosis.activity import Activity, activity_of, look
from recurrax.diagnosis.records import GradientFlow
from recurrax.flow.decay import Decay, decay
from recurrax.flow.horizon import horizon, rate, verdict
from recurrax.flow.loss_gradients import loss_gradients
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.trajectory import pose, walk_together

if TYPE_CHECKING:
    from recurrax.flow.steps.problem import Problem

_EXACT = 64  # the size of a state up to which whole products are as fast as a few directions
_PROBES = 8


class Layer(NamedTuple):
    """One layer in one direction, and what runs through it."""

    name: str
    kind: str
    cell: Any
    params: Any
    state: Any  # before the first step, [E, ...]
    xs: Any  # [T, E, I]


class Measured(NamedTuple):
    """What was measured of a layer; what depends on gates is in its activity."""

    flow: GradientFlow
    decay: Decay
    exponent: float
    verdict: str
    overflow: int | None  # the step at which the state is no longer finite; counted from 1
    steps: int  # T, up to there
    activity: Activity


def measure(layer: Layer) -> Measured:
    """Measure a layer as it is, up to where its state overflows.

    Raises:
      ValueError, TypeError: as `rx.unroll` does; if weights or data are not finite, or the first
        step overflows.
    """
    problem = pose(layer.cell, layer.params, layer.state, layer.xs)
    seen = look(problem, layer.kind)
    finite = np.asarray(seen.finite)
    overflow = None if finite.all() else int(np.argmin(finite)) + 1
    if overflow is not None:
        if overflow == 1:
            raise ValueError(
                f"the state of {layer.name} overflows at the first step, so there is nothing to "
                "measure: are its weights or the inputs that large?"
            )
        layer = layer._replace(xs=layer.xs[: overflow - 1])
        problem = pose(layer.cell, layer.params, layer.state, layer.xs)
        seen = look(problem, layer.kind)
    activity = activity_of(layer.kind, problem.step, layer.params, seen)
    probes = None if problem.size <= _EXACT else _PROBES
    found = decay(layer.cell, layer.params, layer.state, layer.xs, probes=probes)
    felt, per_step = (float(np.median(each)) for each in _horizon_and_rate(found))
    flow = GradientFlow(felt, per_step, activity.flat_mean)
    word = "overflows" if overflow else verdict(found)
    return Measured(flow, found, leading_exponent(found), word, overflow, problem.length, activity)


@jax.jit
def _horizon_and_rate(found: Decay) -> tuple[Any, Any]:
    return horizon(found).steps, rate(found)


def leading_exponent(found: Decay) -> float:
    """The growth of the log Frobenius norm a step after the first tenth, median of the examples.

    All directions begin with the same weight, so the fastest takes over, as in Benettin's way.
    """
    logs = np.asarray(found.log_frobenius, np.float64)
    length, start = len(logs), len(logs) // 10
    if np.isneginf(logs[-1]).any():
        return float("-inf")
    begin = logs[start - 1] if start else np.zeros_like(logs[0]) + logs[0] - logs[0]
    return float(np.median((logs[-1] - begin) / (length - start)))


def last_output(ys: Any) -> Any:
    """A loss that looks at the last output alone."""
    return sum(leaf[-1].sum() for leaf in jax.tree.leaves(ys))


def felt_by_the_last_output(layer: Layer) -> np.ndarray:
    """`log || d sum(y_T) / d s_t ||`, `[T, E]`."""
    found = loss_gradients(layer.cell, layer.params, layer.state, layer.xs, last_output)
    return np.asarray(found.log_norm)


def of_jacobians(layer: Layer) -> tuple[float, float]:
    """Spectral radius and norm of d s_t / d s_{t-1}: medians over some steps of an example."""
    problem = pose(layer.cell, layer.params, layer.state, layer.xs)
    few = problem.size > _EXACT  # eigenvalues of a large matrix take a second each
    matrices = np.asarray(_jacobians(problem, 2 if few else 8), np.float64)
    radii = np.abs(np.linalg.eigvals(matrices)).max(-1)
    norms = np.linalg.norm(matrices, 2, axis=(-2, -1))
    return float(np.median(radii)), float(np.median(norms))


@partial(jax.jit, static_argnums=1)
def _jacobians(problem: Problem, count: int) -> Any:
    path = walk_together(problem)
    places = np.unique(np.linspace(0, problem.length - 1, count).round().astype(int))
    one = problem.at((0,), ())
    befores, xs = jax.tree.map(lambda leaf: leaf[places, 0], (path.befores, problem.xs))
    return jax.vmap(lambda state, x: linear_map(one.step, one.params, state, x).matrix())(
        befores, xs
    )
