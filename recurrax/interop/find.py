"""Which recurrent layers somebody's weights hold, whoever made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurrax.interop.equinox import recognise_equinox
from recurrax.interop.files import load
from recurrax.interop.flax import recognise_flax
from recurrax.interop.haiku import recognise_haiku
from recurrax.interop.keras import recognise_keras
from recurrax.interop.layouts.assemble import converted, take_apart
from recurrax.interop.layouts.candidates import Candidate, Found
from recurrax.interop.onnx import recognise_onnx
from recurrax.interop.reading.sources import read
from recurrax.interop.tensorflow import recognise_tensorflow
from recurrax.interop.torch import recognise_torch

if TYPE_CHECKING:
    import numpy as np

    from recurrax.interop.layouts.candidates import Prefix, Recogniser


def _recognise_own(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """What rx.interop.save wrote."""
    if "recurrax" not in config:
        return []
    layers = take_apart("convert", *load(config["recurrax"]))
    first = layers[0].forward
    hidden = (first.w_rec if first.w_proj is None else first.w_proj).shape[0]
    directions = 1 + (layers[0].backward is not None)
    sizes = first.w_in.shape[0], hidden, len(layers), directions
    return [Candidate(Found("", "recurrax", first.cell, *sizes), arrays, lambda: layers)]


# Each claims what the ones before it left: a cell of equinox without biases is one of torch too.
RECOGNISERS: tuple[Recogniser, ...] = (
    _recognise_own,
    recognise_torch,
    recognise_keras,
    recognise_onnx,
    recognise_flax,
    recognise_haiku,
    recognise_equinox,
    recognise_tensorflow,
)


def _recognise(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    candidates: list[Candidate] = []
    claimed: set[str] = set()
    for recognise in RECOGNISERS:
        new = [one for one in recognise(arrays, config) if claimed.isdisjoint(one.leaves)]
        claimed.update(name for one in new for name in one.leaves)
        candidates += new
    return candidates


def find(source: Any) -> tuple[Found, ...]:
    """The recurrent layers in somebody's weights, found by the names and shapes of arrays.

    Args:
      source: as any converter takes it, such as a path or a state_dict.

    Returns:
      A `Found` for each: the prefix that picks it, its library, its kind, I, H, how many layers
      it has and in how many directions. Empty if there is none.

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.stack(rx.cells.gru(3, 8), rx.cells.gru(8, 8))
      >>> weights = rx.interop.to_torch(cell, cell.init(jax.random.key(0)), prefix="encoder")
      >>> found, = rx.interop.find(weights)
      >>> found.prefix, found.library, found.kind, found.input_size, found.layers
      ('encoder', 'torch', 'gru', 3, 2)
    """
    given = read(source)
    return tuple(one.found for one in _recognise(given.arrays, given.config))


def convert(source: Any, *, prefix: Prefix | None = None, **options: Any) -> tuple[Any, Any]:
    """A cell and its params from anybody's weights, whichever library they are of.

    Args:
      source: a path (`.safetensors`, `.npz`, `.pt`, `.pth`, `.keras`, `.h5`, `.onnx`), or names
        and arrays: a state_dict, a tree of params, `get_weights()`, a module.
      prefix: which of several recurrent layers, as `rx.interop.find` names them; or, as of
        `rx.interop.from_flax`, a tuple of several that stand on each other.
      **options: of that library's converter, such as `activation` of `rx.interop.from_torch`.

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the source cannot be read, is not safe to read, holds no recurrent layer or
        several of which none is named, or one that cannot be held; the message says which.
      TypeError: if the source is nothing that holds arrays.
      ImportError: if the package that reads the file is not installed.

    Example:
      >>> import jax, recurrax as rx
      >>> cell = rx.cells.gru(3, 8)
      >>> weights = rx.interop.to_torch(cell, cell.init(jax.random.key(0)))
      >>> rx.interop.convert(weights)[0]
      gru(3, 8, float32)
    """
    return converted(source, [_recognise], prefix, **options)
