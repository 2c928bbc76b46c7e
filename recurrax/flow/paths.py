"""How much of a derivative stays inside its hidden units, and how much goes round by `w_rec`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.flow.numbers.scaled import (
    ZERO,
    Scaled,
    add,
    frobenius,
    log_norm,
    power_of_two,
    rescale,
    share,
)
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.problem import Problem, flatten, pick
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose
from recurrax.flow.summary import summary
from recurrax.flow.watch import GateStatistics, gate_statistics
from recurrax.gated.step import GatedStep
from recurrax.gated.tracing import trace

if TYPE_CHECKING:
    import chex

    from recurrax.cell import Cell, StepFn


class Paths(NamedTuple):
    """A block of d s_t / d s_0 and its two parts, for t = 1 ... T; natural logs."""

    log_total: chex.Array  # [T, *batch], log Frobenius norm of the block
    log_direct: chex.Array  # [T, *batch], of what stays inside each hidden unit
    log_detour: chex.Array  # [T, *batch], of what goes through h @ w_rec at least once
    share: chex.Array  # [T, *batch], ||total - direct|| / ||total||: of the detour
    gates: GateStatistics | None  # None where the cell has no view of its gates

    def __repr__(self) -> str:
        return summary(self, "share", -1, "share at T")


def paths(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    of: str | tuple[str, ...] | None = None,
    wrt: str | tuple[str, ...] | None = None,
) -> Paths:
    """The direct and the indirect part of d s_t / d s_0 in a gated cell.

    One step is `A_t = D_t + R_t`: D_t at fixed `z_rec`, which leads from a hidden unit to itself
    alone (in an LSTM, from c to c, the forget gate), and R_t through `h @ w_rec`. Then

        total_t = A_t ... A_1,   direct_t = D_t ... D_1,
        detour_t = total_t - direct_t = A_t detour_{t-1} + R_t direct_{t-1},

    the last by its own recursion, so that nothing cancels. Each is carried in log scale with an
    exponent of its own, the direct part unit by unit.

    Args:
      cell: a gated `Cell` or step with a direct path: some field of its state reaches itself
        elementwise, as c of an LSTM and h of a GRU do.
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      of: names of the fields of s_t to keep; by default those with a direct path to themselves,
        read off the traced pointwise function.
      wrt: names of the fields of s_0 to keep; the same by default.

    Returns:
      A `Paths`, each field `[T, *batch]`; row 0 belongs to s_1. A norm is over the block of all
      `[H, H]` derivatives: the root mean square over the units is `exp(log_direct) / sqrt(H)`.
      `-inf` where a part is exactly zero. The share is 0 where all is direct, near 1 where nearly
      nothing is, and above 1 where the two parts cancel; NaN where the total is zero.

    Differentiable in forward and reverse mode, the gate statistics' fractions aside.

    Raises:
      ValueError: if the step is not gated, or no field has a direct path to itself; if a name is
        unknown; if concrete values are not finite, or the state overflows on the way.
      ValueError, TypeError: as `rx.unroll` does.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> cell = rx.cells.lstm(3, 8, forget_bias=1.0)
      >>> params = cell.init(jax.random.key(0))
      >>> xs = jax.random.normal(jax.random.key(1), (50, 3))
      >>> p = rx.flow.paths(cell, params, None, xs)  # of c_t with respect to c_0
      >>> float(p.share[0]), bool(p.share[-1] > 0.9)
      (0.0, True)
      >>> p.gates.names, p.gates.mean.shape
      (('i', 'f', 'g', 'o'), (50, 4))

    Source: the direct part is the truncated gradient of Hochreiter and Schmidhuber (1997).
    """
    problem = pose(cell, params, state, xs)
    step = problem.step
    fields = direct_fields(problem)
    size = problem.params.w_rec.shape[0]
    rows, columns = (
        tuple(fields if name is None else _field_indices(argument, name, problem, size))
        for argument, name in (("of", of), ("wrt", wrt))
    )
    logs, gates = _paths(problem, rows, columns)
    view = step.view  # type: ignore[attr-defined]
    opened = None if view is None else GateStatistics(view.names, *gates)
    log_total, log_direct, log_detour, share = logs
    return Paths(log_total, log_direct, log_detour, share, opened)


def _field_indices(argument: str, name: Any, problem: Problem, size: int) -> list[int]:
    return [start // size for start, _ in pick(argument, name, problem.example())]


# --- which fields have a direct path -------------------------------------------------------------


def direct_fields(problem: Problem) -> list[int]:
    """The fields that reach themselves elementwise, in one step or by way of other fields."""
    step = problem.step
    if not isinstance(step, GatedStep):
        raise ValueError(
            "paths needs a gated cell, whose step is an elementwise path plus one through "
            "h @ w_rec, and this step is not one. Ask about each cell of a stack by itself, or "
            "build the cell with rx.gated_cell."
        )
    once = _reaches(step, problem)
    reaches = once
    for _ in range(len(once)):
        reaches = reaches | (reaches @ once)
    fields = [int(a) for a in np.flatnonzero(np.diag(reaches))]
    if not fields:
        raise ValueError(
            f"paths needs a field of the state with a direct path to itself, as c of an LSTM, and "
            f"{step.state.__name__}({', '.join(problem.state._fields)}) has none: its new state "
            "depends on the old one through h @ w_rec alone. Use flow.decay."
        )
    return fields


def _reaches(step: GatedStep, problem: Problem) -> np.ndarray:
    """bool `[S, S]`: whether field a of the new state depends on field b of the old one."""

    def example(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1,), leaf.dtype), tree)

    unit, state = example(problem.params.unit), tuple(example(problem.state))
    z = jax.ShapeDtypeStruct((step.gates, 1), problem.params.b.dtype)

    # The derivative and not the function, so that a stop_gradient is no path.
    def tangents(unit: Any, z: Any, state: Any, new: Any) -> Any:
        def advance(*fields: Any) -> tuple[Any, ...]:
            return tuple(step.pointwise(unit, z, z, step.state(*fields)))

        return jax.jvp(advance, state, new)[1]

    graph = trace(tangents, unit, z, state, state)
    found = np.zeros((len(state), len(state)), bool)
    for a, out in enumerate(graph.outputs):
        used = {id(out)} | {id(v) for eqn in graph.needed([out], ()) for v in eqn.invars}
        found[a] = [id(v) in used for v in graph.inputs[-1]]
    return found


# --- the recursions ------------------------------------------------------------------------------


class _Products(NamedTuple):
    """Where the products stand."""

    total: Scaled  # [N, W*H], from each of the W kept fields, all with one exponent
    detour: Scaled  # [N, W*H], likewise
    direct: Scaled  # [S, W, H], unit by unit, with exponents [W, H]


@for_each_example(1, 2)
def _paths(own: Problem, path: Trajectory, of: Any, wrt: Any) -> tuple[Any, Any]:
    step: Any = own.step

    def body(products: _Products, now: Any) -> tuple[_Products, Any]:
        products = _advance(linear_map(step, own.params, *now), products)
        gates = None if step.view is None else gate_statistics(step, own.params, *now)
        return products, (_logs(products, of), gates)

    logs, gates = jax.lax.scan(body, _start(own.state, wrt), (path.befores, own.xs))[1]
    return logs, gates


def _start(state: Any, wrt: tuple[int, ...]) -> _Products:
    """The identity, of which the detour is nothing."""
    fields, hidden, kept = len(state), state.h.shape[-1], np.asarray(wrt)
    dtype = flatten(state).dtype
    eye = np.eye(fields * hidden).reshape(fields * hidden, fields, hidden)[:, kept]
    eye = eye.reshape(fields * hidden, -1)
    direct = np.tile(np.eye(fields)[:, kept, None], (1, 1, hidden))
    return _Products(
        total=Scaled(jnp.asarray(eye, dtype), jnp.int32(0)),
        detour=Scaled(jnp.zeros(eye.shape, dtype), jnp.int32(ZERO)),
        direct=Scaled(jnp.asarray(direct, dtype), jnp.zeros(direct.shape[1:], jnp.int32)),
    )


def _advance(a: Any, old: _Products) -> _Products:
    """One step: `total = A total`, `detour = A detour + R direct`, `direct = D direct`."""
    total, detour, direct = old
    both = a.push(jnp.concatenate([total.mantissa, detour.mantissa], 1))
    pushed = jnp.split(both, 2, axis=1)
    # R is through_h^T in the columns of h: it reads the direct product's row h, unit by unit.
    row, exponent = share(rescale(direct.mantissa[a.h], direct.exponent))
    leaving = (a.through_h.T[:, None, :] * row).reshape(pushed[1].shape)
    detour = add(rescale(pushed[1], detour.exponent), rescale(leaving, exponent))
    held = jnp.einsum("abu,bwu->awu", a.direct, direct.mantissa, precision="highest")
    total = rescale(pushed[0], total.exponent)
    return _Products(total, rescale(*detour), rescale(held, direct.exponent))


def _logs(now: _Products, of: tuple[int, ...]) -> tuple[chex.Array, ...]:
    """Log norms of the rows that `of` keeps, and the share of the detour."""
    fields, kept = len(now.direct.mantissa), np.asarray(of)

    def rows(part: Scaled) -> Scaled:
        return rescale(part.mantissa.reshape(fields, -1)[kept], part.exponent)

    direct = share(rescale(now.direct.mantissa[kept], now.direct.exponent))
    total, detour = rows(now.total), rows(now.detour)
    # From the mantissas: two logs of a long product differ by their rounding.
    share_of_detour = frobenius(detour.mantissa) / frobenius(total.mantissa)
    share_of_detour *= power_of_two(detour.exponent - total.exponent, total.mantissa.dtype)
    return log_norm(total), log_norm(direct), log_norm(detour), share_of_detour
