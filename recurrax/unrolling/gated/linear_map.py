"""A linear map with a hand-written transpose, under every JAX transformation.

`jax.custom_vjp` forbids forward mode and `jax.custom_jvp` cannot say how its rule is transposed; a
primitive can do both. It is linear in some of its arguments; its derivative with respect to the
others (what it was linearised at) is that of its code.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from recurrax.unrolling.gated.layer import abstract

if TYPE_CHECKING:
    from collections.abc import Sequence

Leaves = list[Any]


class LinearMap:
    """Functions of lists of arrays; hashable. An absent array is None and stands for zero."""

    def forward(self, at: Leaves, x: Leaves, wanted: Sequence[bool]) -> Leaves:
        """The image of x, linearised at `at`; None where an output is not wanted."""
        raise NotImplementedError

    def backward(self, at: Leaves, y: Leaves, wanted: Sequence[bool]) -> Leaves:
        """The transpose: y lies where the outputs of `forward` lie."""
        raise NotImplementedError

    def batched(self, size: int, at: Sequence[Any], x: Sequence[Any]) -> LinearMap | None:
        """A map that does the same to a batch, if there is a better one than `jax.vmap`'s.

        `at` and `x` tell which arguments have a leading batch axis, True or False (None: absent).
        """
        return None


@dataclasses.dataclass(frozen=True)
class Vmapped(LinearMap):
    """`jax.vmap` of a linear map over `size` examples, in both directions.

    `at` is True for each array that has a leading batch axis, of those that it is linearised at;
    `x` is the same for what it is linear in.
    """

    map: LinearMap
    size: int
    at: tuple[bool, ...]
    x: tuple[bool, ...]

    def forward(self, at: Leaves, x: Leaves, wanted: Sequence[bool]) -> Leaves:
        axes = [0 if b else None for b in self.at], [0 if b else None for b in self.x]
        run = partial(self.map.forward, wanted=wanted)
        return list(jax.vmap(run, in_axes=axes, axis_size=self.size)(at, x))

    def backward(self, at: Leaves, y: Leaves, wanted: Sequence[bool]) -> Leaves:
        axes = [0 if b else None for b in self.at], 0
        run = partial(self.map.backward, wanted=wanted)
        found = jax.vmap(run, in_axes=axes, axis_size=self.size)(at, y)
        return [
            g if g is None or batched else g.sum(0)
            for g, batched in zip(found, self.x, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Folded(LinearMap):
    """A linear map over a batch whose leading axis is folded into the batch axis it has already.

    So `jax.vmap` over examples keeps the weights' gradient one product. Without this each example
    would have a gradient of the weights of its own, to be summed. `size`, `at` and `x` are as in
    `Vmapped`; `at_axes`, `x_axes` and `y_axes` tell where the batch axis is in each array, None
    for those that have none.
    """

    map: LinearMap
    size: int
    at: tuple[bool, ...]
    x: tuple[bool, ...]
    at_axes: tuple[int | None, ...]
    x_axes: tuple[int | None, ...]
    y_axes: tuple[int, ...]

    def forward(self, at: Leaves, x: Leaves, wanted: Sequence[bool]) -> Leaves:
        folded = self._fold(at, self.at_axes, self.at), self._fold(x, self.x_axes, self.x)
        return self._unfold(self.map.forward(*folded, wanted), self.y_axes)

    def backward(self, at: Leaves, y: Leaves, wanted: Sequence[bool]) -> Leaves:
        folded = self._fold(at, self.at_axes, self.at)
        cotangents = self._fold(y, self.y_axes, (True,) * len(y))
        found = self._unfold(self.map.backward(folded, cotangents, wanted), self.x_axes)
        # What all examples share has one gradient already.
        return [
            g if g is None or axis is None or batched else g.sum(0)
            for g, axis, batched in zip(found, self.x_axes, self.x, strict=True)
        ]

    def _fold(self, arrays: Leaves, axes: Sequence[int | None], batched: Sequence[bool]) -> Leaves:
        def one(a: Any, axis: int | None, here: bool) -> Any:
            if a is None or axis is None:
                return a
            return fold(a if here else jnp.broadcast_to(a, (self.size, *a.shape)), axis)

        return list(map(one, arrays, axes, batched))

    def _unfold(self, arrays: Leaves, axes: Sequence[int | None]) -> Leaves:
        return [
            a if a is None or axis is None else unfold(a, axis, self.size)
            for a, axis in zip(arrays, axes, strict=True)
        ]


def fold(a: Any, axis: int) -> Any:
    """Join the leading axis to another one, told by where it is without the leading one."""
    a = jnp.moveaxis(a, 0, axis)
    return a.reshape(*a.shape[:axis], a.shape[axis] * a.shape[axis + 1], *a.shape[axis + 2 :])


def unfold(a: Any, axis: int, size: int) -> Any:
    """Take a leading axis of this size out of another one again."""
    a = a.reshape(*a.shape[:axis], size, a.shape[axis] // size, *a.shape[axis + 1 :])
    return jnp.moveaxis(a, axis, 0)


def axis_leaves(tree: Any, axes: Any) -> tuple[int | None, ...]:
    """One axis for each leaf of a tree, from a tree of axes that is a prefix of it (-1: none)."""
    leaves: list[int] = []
    jax.tree.map(lambda axis, part: leaves.extend([axis] * len(jax.tree.leaves(part))), axes, tree)
    return tuple(None if axis < 0 else axis for axis in leaves)


def apply(linear: LinearMap, at: Leaves, x: Leaves, shapes: Sequence[Any]) -> Leaves:
    """The image of x under a linear map.

    Args:
      linear: the map.
      at: arrays that it is linearised at.
      x: arrays that it is linear in, None for a zero.
      shapes: what the image is, each with a shape and a dtype; None for a part that is not wanted.
    """
    wanted = tuple(s is not None for s in shapes)
    out = _linear.bind(
        *at,
        *(a for a in x if a is not None),
        map=linear,
        transposed=False,
        count=len(at),
        x=tuple(a is not None for a in x),
        y=wanted,
        x_shapes=tuple(None if a is None else (a.shape, a.dtype) for a in x),
        y_shapes=tuple(None if s is None else (tuple(s.shape), s.dtype) for s in shapes),
    )
    return _spread(out, wanted)


_linear = Primitive("recurrax_linear")
_linear.multiple_results = True


def _spread(values: Any, present: Sequence[bool]) -> Leaves:
    """The values at the places that are present, None at the others."""
    values = iter(values)
    return [next(values) if here else None for here in present]


def _run(*args: Any, map: LinearMap, transposed: bool, count: int, x: Any, y: Any, **_: Any) -> Any:
    at, rest = list(args[:count]), args[count:]
    if transposed:
        out = map.backward(at, _spread(rest, y), x)
        return [g for g, here in zip(out, x, strict=True) if here]
    out = map.forward(at, _spread(rest, x), y)
    return [g for g, here in zip(out, y, strict=True) if here]


def _shapes_of(
    *args: Any, transposed: bool, x_shapes: Any, y_shapes: Any, x: Any, y: Any, **_: Any
) -> Any:
    shapes, present = (x_shapes, x) if transposed else (y_shapes, y)
    return [abstract(s[0], s[1], args) for s, here in zip(shapes, present, strict=True) if here]


def _jvp(primals: Any, tangents: Any, *, count: int, **params: Any) -> Any:
    out = _linear.bind(*primals, count=count, **params)
    at, rest = primals[:count], primals[count:]
    d_at, d_rest = tangents[:count], tangents[count:]
    parts = []  # one of them at least: JAX asks for no derivative along nothing
    if not all(type(t) is ad.Zero for t in d_rest):
        moved = [ad.instantiate_zeros(t) for t in d_rest]
        parts.append(_linear.bind(*at, *moved, count=count, **params))
    moving = [i for i, t in enumerate(d_at) if type(t) is not ad.Zero]
    if moving:

        def of(*some: Any) -> Any:
            all_ = list(at)
            for i, a in zip(moving, some, strict=True):
                all_[i] = a
            return _run(*all_, *rest, count=count, **params)

        parts.append(jax.jvp(of, [at[i] for i in moving], [d_at[i] for i in moving])[1])
    return out, [sum(each[1:], each[0]) for each in zip(*parts, strict=True)]


def _transpose(
    cts: Any, *args: Any, transposed: bool, count: int, x: Any, y: Any, **params: Any
) -> Any:
    at, rest = args[:count], args[count:]
    given, out = (y, x) if transposed else (x, y)
    cts_at = _spread(cts, out)
    present = tuple(c is not None and type(c) is not ad.Zero for c in cts_at)
    unknown = [ad.is_undefined_primal(a) for a in rest]
    wanted = tuple(bool(u) for u in (v is not None and v for v in _spread(unknown, given)))
    if not any(present):
        return [None] * len(args)
    x_, y_ = (present, wanted) if transposed else (wanted, present)
    found = _linear.bind(
        *at,
        *(c for c, here in zip(cts_at, present, strict=True) if here),
        transposed=not transposed,
        count=count,
        x=x_,
        y=y_,
        **params,
    )
    found = iter(found)
    return [None] * count + [next(found) if u else None for u in unknown]


def _batch(
    args: Any,
    dims: Any,
    *,
    map: LinearMap,
    transposed: bool,
    count: int,
    x: Any,
    y: Any,
    x_shapes: Any,
    y_shapes: Any,
) -> Any:
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    args = [a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(args, dims, strict=True)]
    is_batched = [d is not None for d in dims]
    at_batched = tuple(is_batched[:count])
    given = y if transposed else x
    rest_batched = _spread(is_batched[count:], given)
    if transposed:
        # Every cotangent gets the axis, and so has every gradient.
        rest = [
            a if b else jnp.broadcast_to(a, (size, *a.shape))
            for a, b in zip(args[count:], is_batched[count:], strict=True)
        ]
        x_batched = (True,) * len(x)
    else:
        rest = args[count:]
        x_batched = tuple(bool(b) for b in rest_batched)
    better = None if transposed else map.batched(size, at_batched, rest_batched)
    new = better or Vmapped(map, size, at_batched, x_batched)

    def grow(shapes: Any, batched: Any) -> Any:
        return tuple(
            None if s is None else ((size, *s[0]) if b else s[0], s[1])
            for s, b in zip(shapes, batched, strict=True)
        )

    out = _linear.bind(
        *args[:count],
        *rest,
        map=new,
        transposed=transposed,
        count=count,
        x=x,
        y=y,
        x_shapes=grow(x_shapes, x_batched),
        y_shapes=grow(y_shapes, (True,) * len(y)),
    )
    return out, [0] * len(out)


_linear.def_impl(_run)
_linear.def_abstract_eval(_shapes_of)
mlir.register_lowering(_linear, mlir.lower_fun(_run, multiple_results=True))
ad.primitive_jvps[_linear] = _jvp
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch
