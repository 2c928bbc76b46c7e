"""How a result prints: names, shapes and a headline, and not pages of arrays."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np

from recurrax import checks


def summary(result: Any, field: str = "", place: Any = ..., words: str = "") -> str:
    """Return one line for a result that is a NamedTuple: its fields, single numbers written out.

    Args:
      result: the result; its leaves may be traced, or of NumPy.
      field: the field that holds the headline, if there is one; left out where it is traced.
      place: where in that field; of several numbers there the median is taken.
      words: what the headline is of.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> rx.flow.Horizon(steps=jnp.array([30.0, 12.0]), reached=jnp.array([True, True]))
      Horizon(steps=float32[2], reached=bool[2], median of steps 21)
      >>> rx.flow.Horizon(steps=jnp.float32(30), reached=jnp.bool_(True))
      Horizon(steps=30, reached=True)
    """
    parts = [f"{name}={_in_short(getattr(result, name))}" for name in result._fields]
    values: Any = getattr(result, field, None)
    if _is_known(values) and np.ndim(values):
        with contextlib.suppress(IndexError):  # of a result whose leaves were sliced
            found = np.asarray(values)[place]
            median = "median " if np.size(found) > 1 else ""
            parts.append(f"{median}{words} {np.median(found):.4g}")
    return f"{type(result).__name__}({', '.join(parts)})"


def _in_short(tree: Any) -> str:
    def leaf_text(leaf: Any) -> _Word:
        if isinstance(leaf, float) or (_is_known(leaf) and np.ndim(leaf) == 0):
            value = np.asarray(leaf)
            return _Word(f"{value:.4g}" if value.dtype.kind == "f" else value)
        return _Word(checks.show(leaf) if hasattr(leaf, "dtype") else repr(leaf))

    return repr(jax.tree.map(leaf_text, tree))


def _is_known(leaf: Any) -> bool:
    arrays = (np.ndarray, np.generic, jax.Array)
    return isinstance(leaf, arrays) and not isinstance(leaf, jax.core.Tracer)


class _Word(str):
    """A string that prints without quotes."""

    __slots__ = ()
    __repr__ = str.__str__
