"""How much of a derivative stays inside its hidden units, and how much goes round by `w_rec`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

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
from recurrax.flow.parts import by_layer
from recurrax.flow.steps.jacobian import linear_map
from recurrax.flow.steps.problem import Problem, pick
from recurrax.flow.steps.trajectory import Trajectory, for_each_example, pose
from recurrax.flow.summary import summary
from recurrax.flow.watch import GateStatistics, gate_statistics
from recurrax.gated.derivatives import new_fields
from recurrax.gated.step import GatedStep

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


@by_layer
def paths(
    cell: Cell | StepFn,
    params: Any,
    state: Any,
    xs: Any,
    *,
    of: str | tuple[str, ...] | None = None,
    wrt: str | tuple[str, ...] | None = None,
    mask: chex.Array | None = None,
    resets: chex.Array | None = None,
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
        elementwise, as c of an LSTM and h of a GRU do; layers in both directions give a dict
        (`flow.parts`).
      params: the cell's params.
      state: the state before the first step, or None for the initial state of a `Cell`.
      xs: the inputs `[T, *batch, I]`.
      of: names of the fields of s_t to keep; by default those with a direct path to themselves,
        read off the traced pointwise function.
      wrt: names of the fields of s_0 to keep; the same by default.
      mask: bool `[T, *batch]`, as in `rx.unroll`; a step where it is False is the identity,
        and its gates are NaN.
      resets: bool `[T, *batch]`, as in `rx.unroll`; nothing of s_0 is left from a reset on.

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
    problem = pose(cell, params, state, xs, mask, resets)
    step: Any = problem.step
    fields, hidden = direct_fields(problem), problem.state.h.shape[-1]
    rows, columns = (
        fields
        if wanted is None
        else tuple(start // hidden for start, _ in pick(argument, wanted, problem.example()))
        for argument, wanted in (("of", of), ("wrt", wrt))
    )
    logs: tuple[Any, Any, Any, Any]
    logs, gates = _paths(problem, rows, columns)
    opened = None if step.view is None else GateStatistics(step.view.names, *gates)
    return Paths(*logs, opened)


def direct_fields(problem: Problem) -> tuple[int, ...]:
    """Return the fields that reach themselves elementwise, in one step or by other fields."""
    step = problem.step
    if not isinstance(step, GatedStep):
        raise ValueError(
            "paths needs a gated cell, whose step is an elementwise path plus one through "
            "h @ w_rec, and this step is not one. Ask about each cell of a stack by itself, or "
            "build the cell with rx.gated_cell."
        )

    def example(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1,), leaf.dtype), tree)

    unit, state = example(problem.params.unit), tuple(example(problem.state))
    z = jax.ShapeDtypeStruct((step.gates, 1), problem.params.b.dtype)

    # The derivative and not the function, so that a stop_gradient is no path.
    def tangents(unit: Any, z: Any, state: Any, new: Any) -> Any:
        return jax.jvp(lambda *old: new_fields(step, unit, z, z, old), state, new)[1]

    jaxpr, count = jax.make_jaxpr(tangents)(unit, z, state, state).jaxpr, len(state)
    # Which of the old fields' tangents each new field's needs.
    used = [dce_jaxpr(jaxpr, [a == b for b in range(count)])[1][-count:] for a in range(count)]
    once = reaches = np.asarray(used)
    for _ in range(count):
        reaches = reaches | (reaches @ once)
    fields = tuple(int(a) for a in np.flatnonzero(np.diag(reaches)))
    if not fields:
        raise ValueError(
            f"paths needs a field of the state with a direct path to itself, as c of an LSTM, and "
            f"{step.state.__name__}({', '.join(problem.state._fields)}) has none: its new state "
            "depends on the old one through h @ w_rec alone. Use flow.decay."
        )
    return fields


class _Products(NamedTuple):
    """Where the products stand."""

    total: Scaled  # [N, W*H], from each of the W kept fields, all with one exponent
    detour: Scaled  # [N, W*H], likewise
    direct: Scaled  # [S, W, H], unit by unit, with exponents [W, H]


@for_each_example(1, 2)
def _paths(
    own: Problem, path: Trajectory, of: tuple[int, ...], wrt: tuple[int, ...]
) -> tuple[Any, Any]:
    step: Any = own.step
    rows, columns = np.asarray(of), np.asarray(wrt)
    fields, hidden, dtype = len(own.state), own.state.h.shape[-1], own.dtype

    def logs(now: _Products) -> tuple[chex.Array, ...]:
        """Return the log norms of the rows that are kept, and the share of the detour."""
        direct = share(rescale(now.direct.mantissa[rows], now.direct.exponent))
        total, detour = (
            rescale(part.mantissa.reshape(fields, -1)[rows], part.exponent)
            for part in (now.total, now.detour)
        )
        # From the mantissas: two logs of a long product differ by their rounding.
        detours = frobenius(detour.mantissa) / frobenius(total.mantissa)
        detours *= power_of_two(detour.exponent - total.exponent, dtype)
        return log_norm(total), log_norm(direct), log_norm(detour), detours

    def body(old: _Products, now: Any) -> tuple[_Products, Any]:
        """One step: `total = A total`, `detour = A detour + R direct`, `direct = D direct`."""
        a: Any = linear_map(step, own.params, *now)
        total, detour, direct = old
        both = a.push(jnp.concatenate([total.mantissa, detour.mantissa], 1))
        pushed = jnp.split(both, 2, axis=1)
        # R is through_h^T in the columns of h: it reads the direct product's row h, unit by unit.
        row, exponent = share(rescale(direct.mantissa[a.h], direct.exponent))
        leaving = (a.through_h.T[:, None, :] * row).reshape(pushed[1].shape)
        detour = add(rescale(pushed[1], detour.exponent), rescale(leaving, exponent))
        held = jnp.einsum("abu,bwu->awu", a.direct, direct.mantissa, precision="highest")
        total = rescale(pushed[0], total.exponent)
        products = _Products(total, rescale(*detour), rescale(held, direct.exponent))
        gates = None if step.view is None else gate_statistics(step, own.params, *now)
        return products, (logs(products), gates)

    eye = np.eye(fields * hidden).reshape(fields * hidden, fields, hidden)[:, columns]
    identity = jnp.asarray(eye.reshape(fields * hidden, -1), dtype)
    direct = jnp.asarray(np.tile(np.eye(fields)[:, columns, None], (1, 1, hidden)), dtype)
    start = _Products(
        total=Scaled(identity, jnp.int32(0)),
        detour=Scaled(jnp.zeros_like(identity), jnp.int32(ZERO)),
        direct=Scaled(direct, jnp.zeros(direct.shape[1:], jnp.int32)),
    )
    found: tuple[Any, Any] = jax.lax.scan(body, start, own.rows(path.befores))[1]
    return found
