"""An identity that may not be differentiated: where a silent wrong number would come out.

`jax.custom_jvp` cannot refuse: within a scan, reverse mode drops the rule of what it has already
evaluated and differentiates what stands inside. A primitive without a derivative always refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

if TYPE_CHECKING:
    import chex

_once = Primitive("differentiated_once")
_once.def_impl(lambda x: x)
_once.def_abstract_eval(lambda x: x)
mlir.register_lowering(_once, lambda context, x: [x])
batching.primitive_batchers[_once] = lambda args, dims: (_once.bind(*args), dims[0])


def _refuse(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "flow.decay has first derivatives only, since the vector behind a spectral norm is not "
        "differentiated. For second derivatives multiply flow.jacobians yourself."
    )


ad.primitive_jvps[_once] = _refuse


def differentiated_once(x: chex.Array) -> chex.Array:
    """`x`, for use in a derivative rule whose result must not be differentiated again."""
    result: chex.Array = _once.bind(x)
    return result
