"""An identity that may not be differentiated: where a silent wrong number would come out.

`jax.custom_jvp` cannot refuse: within a scan, reverse mode drops the rule of what it has already
evaluated and differentiates what stands inside. A primitive without a derivative always refuses.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_identity = Primitive("no_derivative")
_identity.def_impl(lambda x, message: x)
_identity.def_abstract_eval(lambda x, message: x)
mlir.register_lowering(_identity, lambda context, x, message: [x])


def _batch(args: Any, dims: Any, message: str) -> Any:
    return _identity.bind(*args, message=message), dims[0]


def _refuse(primals: Any, tangents: Any, message: str) -> Any:
    raise NotImplementedError(message)


batching.primitive_batchers[_identity] = _batch
ad.primitive_jvps[_identity] = _refuse


def no_derivative(tree: Any, message: str) -> Any:
    """Return the arrays as they are, for a use whose derivative is refused with this message."""

    def guard(leaf: Any) -> Any:
        inexact = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        return _identity.bind(leaf, message=message) if inexact else leaf

    return jax.tree.map(guard, tree)
