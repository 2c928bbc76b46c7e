"""Weights from and to Equinox: `LSTMCell` and `GRUCell`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from recurrax.interop.layouts.assemble import converted, take_apart
from recurrax.interop.layouts.candidates import Candidate, Found, take
from recurrax.interop.layouts.layers import Direction, Layer
from recurrax.interop.layouts.modules import groups, places

if TYPE_CHECKING:
    from recurrax.interop.layouts.candidates import Prefix
    from recurrax.interop.layouts.modules import Group

_KINDS = {"cell": ("weight_ih weight_hh", "bias bias_n")}


def from_equinox(source: Any, *, prefix: Prefix | None = None) -> tuple[Any, Any]:
    """A cell and its params from Equinox: `LSTMCell`, `GRUCell`.

    Its matrices are transposed, its biases are ours; none stands for zeros.

    Args:
      source: a cell of Equinox, any module or pytree with some inside, a mapping of names to
        arrays, or a path (`.safetensors`, `.npz`). A file of `eqx.tree_serialise_leaves` has no
        names: let Equinox read it into the module.
      prefix: the path of one cell of several, such as `"encoder/cells/0"`; or of several as
        layers, from bottom to top, a pair inside being (forward, backward).

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params, in the
      dtype of the weights (float64 becomes float32 unless `jax_enable_x64` is on).

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does.

    Example:
      >>> import numpy as np, recurrax as rx
      >>> weights = {"weight_ih": np.ones((24, 3), "f"), "weight_hh": np.ones((24, 8), "f")}
      >>> weights |= {"bias": np.zeros(24, "f"), "bias_n": np.zeros(8, "f")}
      >>> rx.interop.from_equinox(weights)[0]
      gru(3, 8, float32)

    Source: the documentation of `equinox.nn`.
    """
    return converted(source, [recognise_equinox], prefix)


def recognise_equinox(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """One candidate for each cell."""
    candidates = []
    for group in groups(arrays, _KINDS):
        w_in, w_rec = (group.leaves[f"{group.path}weight_{side}"] for side in ("ih", "hh"))
        if w_in.ndim != 2 or w_rec.ndim != 2:
            continue
        hidden = w_rec.shape[1]
        kind = "gru" if w_rec.shape[0] == 3 * hidden else "lstm"
        found = Found(group.prefix, "equinox", kind, w_in.shape[1], hidden, 1, 1)
        candidates.append(Candidate(found, group.sources, partial(_layers, group, found)))
    return candidates


def _layers(group: Group, found: Found) -> tuple[Layer, ...]:
    at, leaves, hidden = group.path, group.leaves, found.hidden_size
    rows = (3 if found.kind == "gru" else 4) * hidden
    w_in = take(leaves, f"{at}weight_ih", rows, found.input_size).T
    w_rec = take(leaves, f"{at}weight_hh", rows, hidden).T
    b, b_n = np.zeros(rows, w_in.dtype), np.zeros(hidden, w_in.dtype)
    if f"{at}bias" in leaves:
        b = take(leaves, f"{at}bias", rows)
    if f"{at}bias_n" in leaves:
        b_n = take(leaves, f"{at}bias_n", hidden)
    return (Layer(Direction(found.kind, w_in, w_rec, b, b_n if found.kind == "gru" else None)),)


def to_equinox(cell: Any, params: Any, like: Any, *, prefix: Prefix | None = None) -> Any:
    """A module of Equinox with these weights in the place of its own.

    Args:
      cell: an LSTM or a GRU, both directions of one, or a stack of such.
      params: its params.
      like: an `eqx.nn.LSTMCell` or `GRUCell` of the same sizes, or a module with such inside.
      prefix: as of `from_equinox`, where in `like` the cells are; not needed if `like` is the cell
        itself.

    Returns:
      `like`, but for the weights of those cells.

    Raises:
      ValueError: if Equinox has no such cell, or `like` none of this kind and these sizes there.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> shapes = {"weight_ih": (32, 3), "weight_hh": (32, 8), "bias": (32,)}
      >>> like = {name: jnp.zeros(shape) for name, shape in shapes.items()}  # or eqx.nn.LSTMCell
      >>> cell = rx.cells.lstm(3, 8)
      >>> made = rx.interop.to_equinox(cell, params := cell.init(jax.random.key(0)), like)
      >>> bool((made["weight_hh"] == params.w_rec.T).all())
      True
    """
    layers = take_apart("to_equinox", cell, params)
    wanted: dict[str, np.ndarray] = {}
    for where, side in places("to_equinox", layers, prefix or ""):
        at = where.replace(".", "/").strip("/") + "/" if where else ""
        wanted |= {f"{at}{leaf}": array for leaf, array in _leaves_of(side).items()}
    given, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, leaf in given:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        new = wanted.pop(name, None)
        if new is not None and new.shape != jnp.shape(leaf):
            raise ValueError(
                f"{name} of like has shape {list(jnp.shape(leaf))}, but the cell's weights make "
                f"{list(new.shape)}: build like with the same kind and sizes"
            )
        leaves.append(leaf if new is None else jnp.asarray(new))
    for name, array in wanted.items():
        if "bias" not in name.rpartition("/")[2] or array.any():
            why = ", made with use_bias=False," if "bias" in name else ""
            raise ValueError(
                f"like{why} has no {name}, which the cell needs: give a cell of Equinox of the "
                "same kind, and prefix= where it stands in a model"
            )
    return jax.tree_util.tree_unflatten(structure, leaves)


def _leaves_of(side: Direction) -> dict[str, np.ndarray]:
    if side.cell not in ("lstm", "gru"):
        raise ValueError(
            f"Equinox cannot hold a cell {side.cell}: it has an LSTMCell without projection, and a "
            "GRUCell that resets after the recurrent product"
        )
    leaves = {"weight_ih": side.w_in.T, "weight_hh": side.w_rec.T, "bias": side.b}
    return leaves if side.b_n is None else leaves | {"bias_n": side.b_n}
