"""What a function depends on besides its arguments: to know it again as the same function.

A compiled function keeps the values that it saw when it was traced. Whoever rebinds a global or a
closed-over name later expects the new one to count, so a function is only compiled behind its
writer's back while all that it refers to is the same, and of a kind that cannot change in place.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONSTANTS = (int, float, complex, str, bytes, type(None), np.generic, np.dtype)
_LIBRARIES = ("builtins", "jax", "jaxlib", "numpy", "math", "optax", "recurrax")


def referents(function: Any) -> tuple[Any, ...] | None:
    """The objects that a plain Python function refers to, or None if one of them may change.

    Arrays of JAX and constants stay what they are; modules and functions of the libraries too.
    Functions are followed into what they refer to in turn.

    Example:
      >>> import jax.numpy as jnp
      >>> goal = jnp.ones(3)
      >>> referents(lambda ys: ((ys - goal) ** 2).sum())[-1] is goal
      True
      >>> scales = [1.0]  # a list may change
      >>> referents(lambda ys: scales[0] * ys.sum()) is None
      True
    """
    if not isinstance(function, types.FunctionType):
        return None
    found: list[Any] = [function]
    # Without the function itself, which what is returned must not keep alive.
    return tuple(found[1:]) if _follow(function, found) else None


def same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Whether two lists of referents hold the same objects."""
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True))


def _follow(function: types.FunctionType, found: list[Any]) -> bool:
    """Add what a function refers to; False if some of it may change."""
    found.append(function.__code__)
    return all(_fixed(value, found) for value in _values(function))


def _values(function: types.FunctionType) -> Iterator[Any]:
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            yield cell
    scope = function.__globals__
    yield from (scope[name] for name in _names(function.__code__) if name in scope)


def _names(code: types.CodeType) -> Iterator[str]:
    """Of globals, and of attributes that are called like one, also in the functions within."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _fixed(value: Any, found: list[Any]) -> bool:
    if any(value is other for other in found):
        return True
    found.append(value)
    if isinstance(value, types.FunctionType) and not _of_library(value.__module__):
        return _follow(value, found)
    if isinstance(value, tuple):
        return all(_fixed(item, found) for item in value)
    if isinstance(value, types.ModuleType):
        return _of_library(value.__name__)
    if isinstance(value, jax.Array):
        return not isinstance(value, jax.core.Tracer)
    if isinstance(value, _CONSTANTS):
        return True
    return callable(value) and _of_library(getattr(value, "__module__", None))


def _of_library(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES
