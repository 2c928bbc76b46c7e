"""How a result prints: names, shapes and a headline, and not pages of arrays."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np

from recurrax import checks


def summary(result: Any, field: str = "", place: Any = ..., words: str = "") -> str:
    """Return one line for a result that is a NamedTuple: its fields, single numbers written out.

    The headline is the median of what stands at a place of a field, unless that is traced, and
    `words` say what it is of.

    Example:
      >>> import jax.numpy as jnp, recurrax as rx
      >>> rx.flow.Horizon(steps=jnp.array([30.0, 12.0]), reached=jnp.array([True, True]))
      Horizon(steps=float32[2], reached=bool[2], median of steps 21)
    """
    fields = [(name, getattr(result, name)) for name in result._fields]
    # What only an option gives is not spoken of without it.
    defaults = result._field_defaults
    fields = [(a, b) for a, b in fields if b is not None or a not in defaults]
    parts = [f"{name}={checks.show(value, _leaf_text)}" for name, value in fields]
    values: Any = getattr(result, field, None)
    if _is_known(values) and np.ndim(values):
        with contextlib.suppress(IndexError):  # of a result whose leaves were sliced
            found = np.asarray(values)[place]
            median = "median " if np.size(found) > 1 else ""
            parts.append(f"{median}{words} {np.median(found):.4g}")
    return f"{type(result).__name__}({', '.join(parts)})"


def _leaf_text(leaf: Any) -> str:
    if isinstance(leaf, float) or (_is_known(leaf) and np.ndim(leaf) == 0):
        value = np.asarray(leaf)
        return f"{value:.4g}" if value.dtype.kind == "f" else str(value)
    return checks.show(leaf) if hasattr(leaf, "dtype") else repr(leaf)


def _is_known(leaf: Any) -> bool:
    arrays = (np.ndarray, np.generic, jax.Array)
    return isinstance(leaf, arrays) and not isinstance(leaf, jax.core.Tracer)
