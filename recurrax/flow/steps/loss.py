"""A loss of the outputs, and its gradient by them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from recurrax import checks
from recurrax.flow.referents import referents, same

if TYPE_CHECKING:
    from collections.abc import Callable

    import chex


def check_loss(loss: Any) -> None:
    """Raise if a loss is not a function; called first, since it is the first argument."""
    if not callable(loss):
        came = repr(loss) if isinstance(loss, (str, int, float)) else checks.kind(loss)
        raise TypeError(f"loss must be a function of the outputs ys, got {came}; it comes first")


def by_outputs(loss: Callable[[Any], Any], ys: Any) -> tuple[chex.Array, list[chex.Array]]:
    """The loss, and its gradient by each leaf of the outputs that has one.

    Raises:
      TypeError: if the loss does not return a real scalar.
      ValueError: if the gradient is concrete and not finite.
    """
    shape = jax.eval_shape(loss, ys)
    if not hasattr(shape, "shape") or shape.shape or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(
            "loss must take the outputs ys and return a real scalar, got "
            f"{checks.show(shape)}. Take a mean or a sum over time and batch."
        )
    value, ys_bar = jax.value_and_grad(loss, allow_int=True)(ys)
    ys_bar = [leaf for leaf in jax.tree.leaves(ys_bar) if leaf.dtype != jax.dtypes.float0]
    checks.check_finite(
        "the gradient of loss by ys", ys_bar, "Is the loss differentiable at these outputs?"
    )
    return value, ys_bar


class Looked(NamedTuple):
    """What a loss sees."""

    ys_bar: list[chex.Array]
    instants: chex.Array  # [], how many it looks at
    finite: chex.Array  # [], whether the gradient is


def looks(loss: Callable[[Any], Any], ys: Any) -> tuple[list[chex.Array], str]:
    """The loss's gradient by the outputs, and whether that is of `"one"` instant or of `"many"`.

    `"unknown"` where it is traced. Raises as `by_outputs` does.
    """
    compiled = _compiled(loss, ys)
    if compiled is not None:
        found = compiled(ys)
        if found.finite:
            return found.ys_bar, "one" if found.instants <= 1 else "many"
    ys_bar = by_outputs(loss, ys)[1]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in ys_bar):
        return ys_bar, "unknown"
    return ys_bar, "one" if _instants(ys_bar) <= 1 else "many"


# By loss: what it referred to when it was last seen, and its compiled gradient from the second
# time on. Neither keeps the loss alive, and one that is written anew at each call is not compiled.
_seen: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def _compiled(loss: Any, ys: Any) -> Any:
    """The gradient of a loss as one program, where it is certain to be the same function again."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(ys)):
        return None
    refers = referents(loss)
    if refers is None:
        return None
    before, compiled = _seen.get(loss, (None, None))
    if before is None or not same(before, refers):
        _seen[loss] = (refers, None)
        return None
    if compiled is None:
        compiled = _graded(weakref.ref(loss))
        _seen[loss] = (refers, compiled)
    return compiled


def _graded(loss: Any) -> Callable[[Any], Looked]:
    @jax.jit
    def graded(ys: Any) -> Looked:
        ys_bar = by_outputs(loss(), ys)[1]
        finite = [all_finite(leaf) for leaf in ys_bar]
        return Looked(ys_bar, _instants(ys_bar), jnp.all(jnp.asarray(finite)))

    return graded


@jax.jit
def _instants(ys_bar: list[chex.Array]) -> chex.Array:
    """How many instants have a gradient."""
    rows = [jnp.sum(jnp.abs(leaf.reshape(len(leaf), -1)), axis=1) != 0 for leaf in ys_bar]
    return jnp.sum(jnp.any(jnp.stack(rows), axis=0)) if rows else jnp.int32(0)


def all_finite(leaf: chex.Array) -> chex.Array:
    """Whether all entries are; the columns are summed first, since that is vectorised."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.bool_(True)
    zero = leaf * 0
    return jnp.all(jnp.isfinite(jnp.sum(zero, axis=0) if leaf.ndim else zero))
