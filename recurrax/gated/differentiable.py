"""Whether JAX can differentiate a pointwise function, and whether its gradient is linear.

What is made of JAX's elementary operations alone is, and has one. A rule of the user's own (a
`jax.custom_vjp`, a primitive) or an operation that JAX differentiates in some cases only need not:
such functions run forward, so they are run by scan. Nothing but the user's function and JAX's
derivative of it is run here, so what is raised here is about that function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jax.extend.core import Jaxpr, JaxprEqn

    Fields = Callable[..., tuple[Any, ...]]


class Refusal(NotImplementedError):
    """A known reason why an engine does not run a step; its text says which.

    Raised at the places that know of one and caught where an engine is chosen. Any other exception
    of an engine's analysis is a fault and is not caught: behind `engine="auto"`, which turns to a
    slower engine, it would never be seen.
    """


def check_differentiable(fields: Fields, *shapes: Any) -> None:
    """Raise `Refusal` unless JAX can differentiate a function, and its gradient is linear.

    Args:
      fields: the pointwise function on plain tuples, `(unit, z_in, z_rec, fields) -> fields`.
      *shapes: of its arguments, with one batch axis.
    """

    def pulled(*args: Any) -> Any:
        new, pull = jax.vjp(fields, *args)
        return pull(new)

    def pulled_and_pushed(*args: Any) -> Any:
        new, pull = jax.vjp(fields, *args)
        return jax.linear_transpose(pull, new)(pull(new))

    try:
        jaxpr = jax.make_jaxpr(fields)(*shapes).jaxpr
        if _elementary(jaxpr):
            return
        jax.eval_shape(pulled, *shapes)
    except Exception as error:  # of the user's function or rule, or of JAX for want of a rule
        raise Refusal(str(error)) from error
    reason = "its gradient is not linear (a custom_vjp?)"
    try:
        jax.eval_shape(pulled_and_pushed, *shapes)
    except Exception as error:  # each primitive that is not linear fails in its own way
        raise Refusal(reason) from error
    # What can be transposed is linear but for a term that does not depend on the error.
    if _has_own_gradient(jaxpr) and _has_constant_term(fields, *shapes):
        raise Refusal(reason)


def _has_constant_term(fields: Fields, *shapes: Any) -> bool:
    """Whether the gradient of an error of zeros is not zero, at some arguments."""
    draw = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(shapes)
    args = [np.asarray(draw.uniform(0.2, 0.8, a.shape), a.dtype) for a in leaves]

    @jax.jit
    def pulled_zeros(*leaves: Any) -> Any:
        new, pull = jax.vjp(fields, *jax.tree.unflatten(tree, leaves))
        return pull(jax.tree.map(jnp.zeros_like, new))

    with jax.ensure_compile_time_eval():
        found = [np.asarray(g) for g in jax.tree.leaves(pulled_zeros(*args))]
    return any(bool(np.any(np.isfinite(g) & (g != 0))) for g in found)


def _elementary(jaxpr: Jaxpr) -> bool:
    return all(
        all(_elementary(inner) for inner in _inside(eqn))
        if eqn.primitive.name in ("jit", "pjit")
        else eqn.primitive.name in _ELEMENTARY
        for eqn in jaxpr.eqns
    )


def _has_own_gradient(jaxpr: Jaxpr) -> bool:
    """Whether there is a `jax.custom_vjp` in it, however deep."""
    return any(
        eqn.primitive.name.startswith("custom_vjp_call")
        or any(_has_own_gradient(inner) for inner in _inside(eqn))
        for eqn in jaxpr.eqns
    )


def _inside(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    """The functions that an equation calls."""
    for value in eqn.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            inner: Any = getattr(each, "jaxpr", each)  # closed, or open
            if hasattr(inner, "eqns"):
                yield inner


# What JAX always differentiates, by rules whose gradients are linear.
_ELEMENTARY = frozenset(
    """abs acos acosh add asin asinh atan atan2 atanh broadcast_in_dim cbrt clamp concatenate
    convert_element_type copy cos cosh div dot_general eq erf erfc exp exp2 expand_dims expm1 ge
    gt integer_pow iota le log log1p logistic lt max min mul ne neg not or and pad pow reduce_max
    reduce_sum reshape rsqrt select_n sign sin sinh slice split sqrt square squeeze stack
    stop_gradient sub tan tanh transpose unstack""".split()  # noqa: SIM905
)
