"""One step's derivative as a linear map: the per-step Jacobian A_t, never larger than needed.

`d s_t / d s_{t-1}` of a gated cell is diagonals times `w_rec`: the pointwise function is
elementwise, so its diagonals are numbers a unit (`recurrax.gated.derivatives`).
Any other step is differentiated as it stands: `jax.linearize` takes it apart into what can be known
from the state and a linear function of the tangent.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from recurrax.flow.steps.problem import NO_FLAGS, Flags, flatten, step_of_vector
from recurrax.gated.derivatives import diagonals
from recurrax.gated.step import GatedStep

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex

    from recurrax.cell import StepFn


FEW = 32  # columns up to which `h @ w_rec` is cheaper than the matrix of all gates


def _precise(method: Callable[..., Any]) -> Callable[..., Any]:
    """Multiply matrices at full width: accelerators round float32 to ten bits by default."""

    @functools.wraps(method)
    def run(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return method(*args)

    return run


class GatedMap(NamedTuple):
    """A_t of a gated cell: `A[a, h] = sum_g diag(d s_a / d z_g) w_rec_g^T`, plus diagonals."""

    recurrent: chex.Array  # [G, S, H], d s_a / d z_g
    w_rec: chex.Array  # [H, G, H], from unit to gate and unit; the same at every t
    direct: chex.Array  # [S, S, H], d s_a / d s_b at fixed z_rec
    h: int  # which field is h

    @property
    def through_h(self) -> chex.Array:
        """What reaches the state through `h @ w_rec`, from unit to field and unit: `[H, N]`."""
        gates, fields, _ = self.recurrent.shape
        # Field by field and gate by gate: loops over contiguous rows, which a compiler makes fast.
        terms = [
            [self.recurrent[g, a] * self.w_rec[:, g] for g in range(gates)] for a in range(fields)
        ]
        return jnp.concatenate([functools.reduce(jnp.add, of_field) for of_field in terms], 1)

    @_precise
    def push(self, v: chex.Array) -> chex.Array:
        """`A v` for columns `[N, k]`."""
        gates, fields, hidden = self.recurrent.shape
        v = v.reshape(fields, hidden, -1)
        # A sum over fields: an einsum would become a product of tiny matrices for each unit.
        direct = sum(self.direct[:, b, :, None] * v[b] for b in range(fields))
        direct = direct.reshape(fields * hidden, -1)
        if gates > fields and v.shape[2] > FEW:
            return self.through_h.T @ v[self.h] + direct
        # Behind the barrier XLA cannot turn this into a product with the transposed weights, which
        # takes a CPU twenty times as long for eight columns (H = 256).
        z = v[self.h].T @ self.w_rec.reshape(hidden, gates * hidden)
        z = jax.lax.optimization_barrier(z).T.reshape(gates, hidden, -1)
        terms = (self.recurrent[g][:, :, None] * z[g] for g in range(gates))
        return functools.reduce(jnp.add, terms).reshape(fields * hidden, -1) + direct

    @_precise
    def push_rows(self, v: chex.Array) -> chex.Array:
        """`v A^T` for rows `[M, N]`: A applied to each row, whose numbers lie together."""
        fields, _, hidden = self.direct.shape
        if len(v) <= FEW:
            return self.push(v.T).T
        if fields == 1:
            return v @ (self.through_h + jnp.diag(self.direct[0, 0]))
        direct = v * jnp.concatenate([self.direct[a, a] for a in range(fields)])
        # Turned as a whole: putting it together from its fields takes a CPU twice as long.
        for turn in range(1, fields):
            scales = jnp.concatenate([self.direct[a, a - turn] for a in range(fields)])
            direct = direct + scales * jnp.roll(v, turn * hidden, 1)
        return v[:, self.h * hidden : (self.h + 1) * hidden] @ self.through_h + direct

    @_precise
    def pull(self, u: chex.Array) -> chex.Array:
        """`A^T u` for columns `[N, k]`."""
        gates, fields, hidden = self.recurrent.shape
        by_field = u.reshape(fields, hidden, -1)
        direct = sum(self.direct[a, :, :, None] * by_field[a] for a in range(fields))
        if gates > fields and u.shape[1] > FEW:
            through = self.through_h @ u
        else:
            z = jnp.einsum("gau,auk->guk", self.recurrent, by_field).reshape(gates * hidden, -1)
            through = self.w_rec.reshape(hidden, gates * hidden) @ z
        return direct.at[self.h].add(through).reshape(fields * hidden, -1)

    @_precise
    def matrix(self) -> chex.Array:
        """A itself, `[N, N]`."""
        fields, _, hidden = self.direct.shape
        blocks = jnp.einsum("abu,uv->aubv", self.direct, jnp.eye(hidden, dtype=self.direct.dtype))
        through = self.through_h.T.reshape(fields, hidden, hidden)
        return blocks.at[:, :, self.h].add(through).reshape(fields * hidden, fields * hidden)


class AnyMap(NamedTuple):
    """A_t of any step: the linear function that its derivative is, of a vector like `like`."""

    jvp: Callable[[chex.Array], chex.Array]
    like: Any

    @_precise
    def push(self, v: chex.Array) -> chex.Array:
        """`A v` for columns `[N, k]`."""
        return jax.vmap(self.jvp, in_axes=1, out_axes=1)(v)

    def push_rows(self, v: chex.Array) -> chex.Array:
        """`v A^T` for rows `[M, N]`: A applied to each row."""
        return self.push(v.T).T

    @_precise
    def pull(self, u: chex.Array) -> chex.Array:
        """`A^T u` for columns `[N, k]`."""
        transposed = jax.linear_transpose(self.jvp, self.like)
        return jax.vmap(lambda column: transposed(column)[0], in_axes=1, out_axes=1)(u)

    def matrix(self) -> chex.Array:
        """A itself, `[N, N]`."""
        return self.push(jnp.eye(self.like.shape[0], dtype=self.like.dtype))


def linear_map(
    step: StepFn, params: Any, state: Any, x: Any, flags: Flags = NO_FLAGS
) -> GatedMap | AnyMap:
    """Return the derivative of one example's next state with respect to its state.

    The state is the one after a reset. A masked step is the identity, one after a reset is zero.
    """
    if not isinstance(step, GatedStep):
        return AnyMap(_derivative(step, params, state, x, flags), jax.eval_shape(flatten, state))
    found = diagonals(step, params.unit, *step.pre_activations(params, state.h, x), state)
    hidden, dtype = state.h.shape[-1], flatten(state).dtype
    recurrent, direct = found.recurrent.astype(dtype), found.direct.astype(dtype)
    if flags.mask is not None:
        recurrent = jnp.where(flags.mask, recurrent, 0)
        direct = jnp.where(flags.mask, direct, jnp.eye(len(direct), dtype=dtype)[..., None])
    if flags.resets is not None:
        recurrent, direct = (jnp.where(flags.resets, 0, leaf) for leaf in (recurrent, direct))
    w_rec = params.w_rec.reshape(hidden, step.gates, hidden).astype(dtype)
    return GatedMap(recurrent, w_rec, direct, step.h_field)


def linear_maps(
    step: StepFn, params: Any, befores: Any, xs: Any, flags: Flags = NO_FLAGS
) -> tuple[Any, Callable[[Any], GatedMap | AnyMap]]:
    """Return the derivatives along a trajectory: what differs from step to step, and a function.

    The first leads with T and goes through a `lax.scan`; the function makes one step's map of one
    row of it. All that can be known without the columns is found for all steps at once, in a few
    wide operations; what is the same at every step, as weights are, stays where it is.
    """
    rows = befores, xs, flags
    first = jax.tree.map(lambda leaf: leaf[0], rows)
    if isinstance(step, GatedStep):
        shared: Any = linear_map(step, params, *first)  # for its weights; the rest is dropped

        def known_diagonals(*now: Any) -> tuple[chex.Array, chex.Array]:
            found: Any = linear_map(step, params, *now)
            return found.recurrent, found.direct

        parts = jax.vmap(known_diagonals)(*rows)
        return parts, lambda now: GatedMap(now[0], shared.w_rec, now[1], shared.h)

    def known(*now: Any) -> list[chex.Array]:
        return jax.tree.leaves(_derivative(step, params, *now))

    fixed, treedef = jax.tree.flatten(_derivative(step, params, *first))
    varies = _depend_on_arguments(jax.make_jaxpr(known)(*first))

    def varying(*now: Any) -> list[chex.Array]:
        return [leaf for leaf, v in zip(known(*now), varies, strict=True) if v]

    def make_map(now: list[chex.Array]) -> AnyMap:
        rows = iter(now)
        leaves = [next(rows) if v else leaf for leaf, v in zip(fixed, varies, strict=True)]
        return AnyMap(jax.tree.unflatten(treedef, leaves), jax.eval_shape(flatten, first[0]))

    return jax.vmap(varying)(*rows), make_map


@_precise
def _derivative(step: StepFn, params: Any, state: Any, x: Any, flags: Flags) -> Any:
    """Return the derivative of the next state as a function of a tangent `[N]`, a pytree."""

    def after(vector: chex.Array) -> chex.Array:
        return step_of_vector(step, params, vector, state, x, flags)[0]

    return jax.linearize(after, flatten(state))[1]


def _depend_on_arguments(closed: Any) -> list[bool]:
    """Return which results of a traced function depend on its arguments."""
    reached = set(closed.jaxpr.invars)
    for equation in closed.jaxpr.eqns:
        used = (atom for atom in equation.invars if not isinstance(atom, Literal))
        if any(variable in reached for variable in used):
            reached.update(equation.outvars)
    return [not isinstance(a, Literal) and a in reached for a in closed.jaxpr.outvars]
