"""A pointwise function gate by gate: what a GPU kernel can run on tiles.

A kernel holds each gate as a tile `[rows, columns]` of its own and cannot take one array apart. So
the function is traced for one example, `z [G, H]`, and its equations are run again on tiles: an
axis of hidden units is a tile, the axis of gates a list of tiles. What is elementwise is done tile
by tile, and what only moves gates about (slices, stacks, sums over gates) moves tiles about.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from recurrax.gated.derivatives import new_fields, pull_back
from recurrax.gated.differentiable import Refusal
from recurrax.unrolling.kernel.gate_moves import MOVES, Tiles, is_number, is_zero

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from recurrax.gated.step import GatedStep


@dataclasses.dataclass(frozen=True)
class ByGate:
    """A traced function of one example, to be run on tiles.

    Args:
      jaxpr: what was traced; its inputs are `[G, H]` or `[H]`.
      hidden: the H that it was traced with.
      inputs: the structure of its arguments.
      output: the structure of its results.
      constants: the arrays it closes over.
    """

    jaxpr: Any
    hidden: int
    inputs: Any
    output: Any
    constants: tuple[Any, ...]

    @property
    def columns(self) -> tuple[Any, ...]:
        """The constants with a value for each hidden unit, `[H]`; a kernel must be given these."""
        return tuple(c.reshape(self.hidden) for c in self.constants if self._is_column(c))

    def __call__(self, columns: Sequence[Any], *args: Any) -> Any:
        """Run it.

        Args:
          columns: tiles of `columns`.
          *args: as the function's own, each `[G, H]` array a tuple of G tiles, each `[H]` a tile.

        Returns:
          What the function returns, each `[G, H]` array a tuple of G tiles.
        """
        given = iter(columns)
        constants = [
            Tiles("1" * (c.ndim - 1) + "h", (_as(c.dtype, next(given)),))
            if self._is_column(c)
            else _number(c)
            for c in self.constants
        ]
        leaves = self.inputs.flatten_up_to(args)
        tiles = [
            Tiles("gh", tuple(a)) if isinstance(a, tuple) else Tiles("h", (a,)) for a in leaves
        ]
        out = _evaluate(self.jaxpr, self.hidden, constants, tiles)
        gates = [v.aval.ndim > 1 for v in self.jaxpr.outvars]
        found = [t.parts if many else t.parts[0] for t, many in zip(out, gates, strict=True)]
        return jax.tree.unflatten(self.output, found)

    def counts_the_sum(self, z_in: int, z_rec: int) -> bool:
        """Whether two of the inputs, told by their places, do nothing but be added up."""
        pair = {self.jaxpr.invars[z_in], self.jaxpr.invars[z_rec]}
        users = [e for e in self.jaxpr.eqns if any(v in pair for v in e.invars if not _literal(v))]
        alone = len(users) == 1 and users[0].primitive.name == "add"
        returned = any(v in pair for v in self.jaxpr.outvars if not _literal(v))
        return alone and set(users[0].invars) == pair and not returned

    def _is_column(self, a: np.ndarray) -> bool:
        return a.ndim > 0 and a.size == a.shape[-1] == self.hidden


def _literal(atom: Any) -> bool:
    return isinstance(atom, Literal)


def forward_by_gate(step: GatedStep, unit: Any, hidden: int) -> ByGate:
    """`(unit, z_in, z_rec, fields) -> fields`; `unit` gives the structure alone."""
    return _traced(step, jax.tree.structure(unit), hidden, False)


def backward_by_gate(step: GatedStep, unit: Any, hidden: int) -> ByGate:
    """`(unit, z_in, z_rec, fields, error) -> (d_unit, d_in, d_rec, d_fields)`."""
    return _traced(step, jax.tree.structure(unit), hidden, True)


@lru_cache(maxsize=128)
def _traced(step: GatedStep, unit: Any, hidden: int, backward: bool) -> ByGate:
    def pulled(*args: Any) -> Any:
        return pull_back(step, *args)[1]

    if hidden <= step.gates:  # an axis must tell by its size what it is
        raise Refusal(f"H = {hidden} is no more than its {step.gates} gates")
    one = jax.ShapeDtypeStruct((hidden,), jnp.float32)
    gates = jax.ShapeDtypeStruct((step.gates, hidden), jnp.float32)
    old = (one,) * len(step.state._fields)  # type: ignore[attr-defined]
    args: Any = (jax.tree.unflatten(unit, [one] * unit.num_leaves), gates, gates, old)
    args = (*args, old) if backward else args
    try:
        traced = jax.make_jaxpr(
            pulled if backward else partial(new_fields, step), return_shape=True
        )(*args)
    except Exception as error:  # of the user's function, which must run on one example
        raise Refusal(str(error)) from error
    closed, shape = traced
    if any(isinstance(c, jax.core.Tracer) for c in closed.consts):
        raise Refusal("it closes over a value that is being traced")
    if any(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(shape)):
        raise Refusal("it does not keep to the dtype it is given")
    constants = tuple(np.asarray(c) for c in closed.consts)
    return ByGate(
        closed.jaxpr, hidden, jax.tree.structure(args), jax.tree.structure(shape), constants
    )


def _number(a: Any) -> Tiles:
    """A constant with at most a value for each gate."""
    a = np.asarray(a)
    if a.size == 1:
        return Tiles("1" * a.ndim, (a.reshape(()),))
    axis = next(i for i, n in enumerate(a.shape) if n > 1)
    if a.size != a.shape[axis]:
        raise Refusal(f"it closes over an array of shape {a.shape}")
    axes = "".join("g" if i == axis else "1" for i in range(a.ndim))
    return Tiles(axes, tuple(a.reshape(-1)))


def _as(dtype: Any, column: Any) -> Any:
    return column != 0 if dtype == np.bool_ else column.astype(dtype)


def _evaluate(
    jaxpr: Any, hidden: int, constants: Sequence[Tiles], args: Sequence[Tiles]
) -> list[Tiles]:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *args], strict=True))

    def read(atom: Any) -> Tiles:
        return _number(atom.val) if _literal(atom) else known[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(a) for a in eqn.invars]
        out = _equation(eqn, hidden, inputs)
        for tiles, v in zip(out, eqn.outvars, strict=True):
            _check(tiles, v.aval.shape, hidden)
        known.update(zip(eqn.outvars, out, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _check(tiles: Tiles, shape: tuple[int, ...], hidden: int) -> None:
    """Raise unless each axis is what its letter says, and there is a tile for each gate."""
    if tiles.axes.count("g") > 1:
        raise Refusal("it has two axes of gates")
    sizes = [len(tiles.parts) if a == "g" else hidden if a == "h" else 1 for a in tiles.axes]
    if tuple(sizes) != shape or ("g" not in tiles.axes and len(tiles.parts) != 1):
        raise Refusal(f"it makes an array {shape} that is not one of gates and units")


def _equation(eqn: Any, hidden: int, inputs: list[Tiles]) -> list[Tiles]:
    name = eqn.primitive.name
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in eqn.params and name in _CALLS:
            inner = eqn.params[key]
            arrays = [np.asarray(c) for c in getattr(inner, "consts", ())]
            if any(a.size == hidden for a in arrays):
                raise Refusal(f"a {name} inside it closes over an array of H numbers")
            constants = [_number(a) for a in arrays]
            return _evaluate(getattr(inner, "jaxpr", inner), hidden, constants, inputs)
    if name in _ELEMENTWISE:
        return [_elementwise(eqn, inputs)]
    if name in MOVES:
        found = MOVES[name](eqn, *inputs)
        return found if isinstance(found, list) else [found]
    raise Refusal(f"{name} is not elementwise")


def _elementwise(eqn: Any, inputs: list[Tiles]) -> Tiles:
    shaped = [t for t in inputs if t.axes]
    axes = shaped[0].axes if shaped else ""
    for t in shaped[1:]:
        axes = "".join(b if a == "1" else a for a, b in zip(axes, t.axes, strict=True))
    for t in shaped:
        if any(a not in ("1", b) for a, b in zip(t.axes, axes, strict=True)):
            raise Refusal("it mixes gates and hidden units")
    count = max(len(t.parts) for t in inputs)
    parts = [
        _one(eqn, [t.parts[i] if len(t.parts) > 1 else t.parts[0] for t in inputs])
        for i in range(count)
    ]
    return Tiles(axes, tuple(parts))


def _one(eqn: Any, values: list[Any]) -> Any:
    """One tile; zeros that the transpose of a slice leaves are not worked on."""
    name = eqn.primitive.name
    if name in ("add", "add_any") and (is_zero(values[0]) or is_zero(values[1])):
        return values[1] if is_zero(values[0]) else values[0]
    if name == "mul" and any(is_zero(v) for v in values):
        return np.zeros((), eqn.outvars[0].aval.dtype)
    if name in ("neg", "copy", "reduce_precision") and is_zero(values[0]):
        return values[0]
    dtype = eqn.outvars[0].aval.dtype
    if name in _OF_NUMBERS and all(is_number(v) for v in values):
        return np.asarray(_OF_NUMBERS[name](*values), dtype)
    shape = np.broadcast_shapes(*(jnp.shape(v) for v in values))
    wide = [_widened(v, shape, a.aval.dtype) for v, a in zip(values, eqn.invars, strict=True)]
    return eqn.primitive.bind(*wide, **eqn.params)


def _widened(value: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    # A number is written into the kernel and not passed to it.
    if is_number(value):
        return jax.lax.full(shape, value.item(), dtype)
    return jnp.broadcast_to(value, shape)


# Of numbers alone, which so stay numbers: the scales of gates, say.
_OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "convert_element_type": np.asarray,
}

_CALLS = {"jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2"}

_ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp
    convert_element_type copy cos cosh div eq erf erf_inv erfc exp exp2 expm1 floor ge gt
    integer_pow is_finite le log log1p logistic lt max min mul ne neg nextafter not
    one_minus_square or pow reduce_precision rem rsqrt select_n sign sin sinh sqrt square
    sub tan tanh xor""".split()  # noqa: SIM905
)
