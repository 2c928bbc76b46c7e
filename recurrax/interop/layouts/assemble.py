"""From a source to a cell with its params, and from these back to layers in our layout."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from recurrax.cell import Cell
from recurrax.cells import CELLS
from recurrax.cells.bidirectional import Bidirectional, Directions, bidirectional
from recurrax.cells.combined import StackStep
from recurrax.cells.gru import GRUUnit
from recurrax.cells.stack import BidirectionalStack, stack
from recurrax.interop.layouts.candidates import Candidate, check_finite, choose, listed
from recurrax.interop.layouts.layers import Direction, Layer
from recurrax.interop.reading.sources import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recurrax.interop.layouts.candidates import Prefix, Recogniser


def converted(
    source: Any, recognisers: Sequence[Recogniser], prefix: Prefix | None, **options: Any
) -> tuple[Any, Any]:
    """The one layer that is found, or those that prefixes name, as a cell and its params.

    Raises:
      ValueError: if there is none or no such one, or several and no prefix, if none has such an
        option, or weights contradict each other or are not finite.
    """
    given = read(source)
    found = [one for recognise in recognisers for one in recognise(given.arrays, given.config)]
    chosen = [[choose(found, name, given) for name in row] for row in _rows(prefix)]
    asked = {name: value for name, value in options.items() if value is not None}
    every = [one for row in chosen for one in row]
    known = {name for one in every for name in inspect.signature(one.layers).parameters}
    for name in asked:
        if name not in known:
            raise ValueError(f"{name} says nothing of {listed(every)}: leave it out")
    for one in every:
        for name, array in one.leaves.items():
            check_finite(name, array)
    return assemble([layer for row in chosen for layer in _layers_of(row, asked)])


def _rows(prefix: Any) -> list[tuple[str | None, ...]]:
    """The names of each layer, from bottom to top."""
    rows: list[tuple[str | None, ...]]
    if prefix is None or isinstance(prefix, str):
        return [(prefix,)]
    given = prefix if isinstance(prefix, (tuple, list)) and prefix else [None]
    rows = [tuple(row) if isinstance(row, (tuple, list)) else (row,) for row in given]
    if not all(isinstance(name, str) for row in rows for name in row):
        raise TypeError(
            "prefix must be the path of a layer, or a tuple of such for layers from bottom to top, "
            f"where a pair is (forward, backward); got {prefix!r}"
        )
    return rows


def _layers_of(row: list[Candidate], asked: dict[str, Any]) -> tuple[Layer, ...]:
    """The layers of one prefix, or the one layer of a pair (forward, backward)."""
    parts = []
    for one in row:
        known = inspect.signature(one.layers).parameters
        parts.append(one.layers(**{name: asked[name] for name in asked if name in known}))
    if len(parts) == 1:
        return parts[0]
    if len(parts) != 2 or any(len(part) > 1 or part[0].backward is not None for part in parts):
        raise ValueError(
            "where prefix has a pair, it names the cell of the forward direction and that of the "
            f"backward one, of one layer each; got {listed(row)}"
        )
    return (Layer(parts[0][0].forward, parts[1][0].forward),)


def assemble(layers: Sequence[Layer]) -> tuple[Any, Any]:
    """The cell of these layers, and its params in the dtype of the weights.

    One layer is a cell, or with both directions what `rx.bidirectional` makes; several are a
    stack of such. float64 becomes float32 unless `jax_enable_x64` is on.
    """
    built = [_layer(layer) for layer in layers]
    if len(built) == 1:
        return built[0]
    return stack(*(cell for cell, _ in built)), tuple(params for _, params in built)


def _layer(layer: Layer) -> tuple[Any, Any]:
    cell, params = _direction(layer.forward)
    if layer.backward is None:
        return cell, params
    back, back_params = _direction(layer.backward)
    both = bidirectional(cell, back, merge=layer.merge)
    return both, Directions(params, back_params)


def _direction(direction: Direction) -> tuple[Cell, Any]:
    row = CELLS[direction.cell]
    dtypes = {array.dtype for array in direction[1:] if array is not None}
    widest = functools.reduce(jnp.promote_types, dtypes)  # of float16 and bfloat16 as well
    dtype = jnp.asarray(np.zeros(0, widest)).dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"weights must be floating point, got {dtype}: save them as float32")

    def ours(array: np.ndarray) -> Any:
        return jnp.array(np.ascontiguousarray(array), dtype)  # a copy: files may change

    fields: dict[str, Any] = {"w_in": ours(direction.w_in), "w_rec": ours(direction.w_rec)}
    fields["b"] = ours(direction.b)
    sizes = [direction.w_in.shape[0], direction.w_rec.shape[0]]
    if direction.b_n is not None:
        fields["unit"] = GRUUnit(b_n=ours(direction.b_n))
    if direction.w_proj is not None:
        fields["w_proj"] = ours(direction.w_proj)
        sizes[1:] = direction.w_proj.shape
    return row.build(*sizes, dtype=dtype), row.params(**fields)


def take_apart(to: str, cell: Any, params: Any) -> tuple[Layer, ...]:
    """The layers of a cell, a bidirectional pair or a stack of them.

    Args:
      to: who asks, as messages name it: "to_torch".
      cell: as `rx.unroll` takes it.
      params: its params.

    Raises:
      ValueError: if a part is none of the library's own cells, or params do not belong to it.
    """
    if isinstance(cell, BidirectionalStack):
        steps: tuple[Any, ...] = cell.layers
    elif isinstance(cell, Cell) and isinstance(cell.step, StackStep):
        steps = cell.step.steps
    elif isinstance(cell, Bidirectional):
        forward, backward = params if type(params) is Directions else (params, params)
        ahead, back = _taken(to, cell.forward, forward), _taken(to, cell.backward, backward)
        return (Layer(ahead, back, cell.merge),)
    else:
        return (Layer(_taken(to, cell, params)),)
    if type(params) is not tuple or len(params) != len(steps):
        raise ValueError(
            f"{to} takes the params of its cell, for this stack a tuple of {len(steps)}; got "
            f"{type(params).__name__}"
        )
    pairs = zip(steps, params, strict=True)
    return tuple(layer for part, inner in pairs for layer in take_apart(to, part, inner))


def _taken(to: str, cell: Any, params: Any) -> Direction:
    """One cell, or the step of one inside a stack."""
    step = getattr(cell, "step", cell)
    for name, row in CELLS.items():
        if isinstance(params, row.params) and step == row.build(1, 1).step:
            w_in, w_rec, b = (np.array(leaf) for leaf in (params.w_in, params.w_rec, params.b))
            unit, proj = getattr(params, "unit", None), getattr(params, "w_proj", None)
            b_n = None if unit is None else np.array(unit.b_n)
            return Direction(name, w_in, w_rec, b, b_n, None if proj is None else np.array(proj))
    raise ValueError(
        f"{to} takes the cells of rx.cells, and stacks and directions of them, with their params; "
        f"got {cell!r} with {type(params).__name__}"
    )
