"""The two kernels as functions that JAX can transform.

A primitive for both: on a CUDA device it is lowered to the kernel, elsewhere to its plain twin; its
derivative is the twin's; and `jax.vmap` folds the new axis into the batch where all examples share
their weights, and into the groups where they do not. Only when it is lowered for CUDA (or run by
the interpreter) is Pallas imported.
"""

from __future__ import annotations

import warnings
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from recurrax.unrolling.gated.layer import abstract
from recurrax.unrolling.gated.linear_map import axis_leaves, fold, unfold
from recurrax.unrolling.kernel import reference
from recurrax.unrolling.kernel.by_gate import backward_by_gate, forward_by_gate
from recurrax.unrolling.kernel.kernel_spec import (
    BACKWARD_AXES,
    FORWARD_AXES,
    FORWARD_OUTPUT_AXES,
    GRADIENT_AXES,
    Backward,
    Forward,
    ForwardOutputs,
    Gradients,
    KernelSpec,
)
from recurrax.unrolling.kernel.placement import addressable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def forward(task: KernelSpec, given: Forward) -> ForwardOutputs:
    """Unroll; see `kernel_spec.py` for what is given and found."""
    return _bind("forward", task, given)  # type: ignore[no-any-return]


def backward(task: KernelSpec, given: Backward) -> Gradients:
    """The gradients; see `kernel_spec.py`."""
    return _bind("backward", task, given)  # type: ignore[no-any-return]


_REFERENCE: dict[str, Callable[..., Any]] = {
    "forward": reference.forward,
    "backward": reference.backward,
}
_AXES: dict[str, tuple[Any, Any]] = {
    "forward": (FORWARD_AXES, FORWARD_OUTPUT_AXES),
    "backward": (BACKWARD_AXES, GRADIENT_AXES),
}

_pass = Primitive("recurrax_kernel")
_pass.multiple_results = True


def _bind(name: str, task: KernelSpec, given: Any) -> Any:
    leaves, tree = jax.tree.flatten(given)
    out: Any = jax.tree.structure(jax.eval_shape(partial(_REFERENCE[name], task), given))
    return jax.tree.unflatten(out, _pass.bind(*leaves, name=name, task=task, tree=tree))


def _twin(*leaves: Any, name: str, task: KernelSpec, tree: Any) -> list[Any]:
    return jax.tree.leaves(_REFERENCE[name](task, jax.tree.unflatten(tree, leaves)))


def _kernel(*leaves: Any, name: str, task: KernelSpec, tree: Any) -> list[Any]:
    if not all(addressable(a.shape) for a in leaves):
        return _twin(*leaves, name=name, task=task, tree=tree)
    from recurrax.unrolling.kernel.backward_kernel import backward_kernel
    from recurrax.unrolling.kernel.forward_kernel import forward_kernel

    kernels: dict[str, tuple[Any, Any]] = {
        "forward": (forward_kernel, forward_by_gate),
        "backward": (backward_kernel, backward_by_gate),
    }
    run, by_gate = kernels[name]
    given = jax.tree.unflatten(tree, leaves)
    pointwise = by_gate(task.step, given.unit, given.w_rec.shape[1])
    return jax.tree.leaves(run(task, pointwise, given))


def _run(*leaves: Any, **params: Any) -> list[Any]:
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        return _anywhere(*leaves, **params)
    return _compiled(**params)(*leaves)  # type: ignore[no-any-return]


@lru_cache(maxsize=128)
def _compiled(**params: Any) -> Any:
    return jax.jit(partial(_pass.bind, **params))


def _anywhere(*leaves: Any, task: KernelSpec, **params: Any) -> list[Any]:
    return (_kernel if task.interpret else _twin)(*leaves, task=task, **params)


def _on_cuda(ctx: Any, *args: Any, **params: Any) -> Any:
    with warnings.catch_warnings():
        # Pallas's Triton backend is deprecated from jax 0.11 on; a user can do nothing about it.
        warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated")
        return mlir.lower_fun(_kernel, multiple_results=True)(ctx, *args, **params)


def _shapes(*avals: Any, **params: Any) -> list[Any]:
    given = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    found = jax.eval_shape(partial(_twin, **params), *given)
    return [abstract(a.shape, a.dtype, avals) for a in found]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    out = _pass.bind(*primals, **params)
    moving = [i for i, t in enumerate(tangents) if type(t) is not ad.Zero]

    def of(*some: Any) -> list[Any]:
        values = list(primals)
        for i, a in zip(moving, some, strict=True):
            values[i] = a
        return _twin(*values, **params)

    moved = [ad.instantiate_zeros(tangents[i]) for i in moving]
    return out, jax.jvp(of, [primals[i] for i in moving], moved)[1]


def _batch(
    args: Sequence[Any], dims: Sequence[Any], *, name: str, task: KernelSpec, tree: Any
) -> Any:
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    before, after = _AXES[name]
    axes = axis_leaves(jax.tree.unflatten(tree, args), _present(before, tree))
    shared = all(d is None for d, axis in zip(dims, axes, strict=True) if axis is None)
    # Where the weights differ from example to example, each is a group of its own.
    into = axes if shared else (0,) * len(axes)
    folded = [
        a if axis is None else fold(_leading(a, d, size), axis)
        for a, d, axis in zip(args, dims, into, strict=True)
    ]
    found = _pass.bind(*folded, name=name, task=task, tree=tree)
    whole = jax.eval_shape(partial(_REFERENCE[name], task), jax.tree.unflatten(tree, folded))
    out_axes = axis_leaves(whole, _present(after, jax.tree.structure(whole)))
    into = out_axes if shared else (0,) * len(out_axes)
    out = [unfold(a, axis or 0, size) for a, axis in zip(found, into, strict=True)]
    return out, [0] * len(out)


def _leading(a: Any, dim: int | None, size: int) -> Any:
    return jnp.broadcast_to(a, (size, *a.shape)) if dim is None else jnp.moveaxis(a, dim, 0)


def _present(axes: Any, tree: Any) -> Any:
    """The axes, None where nothing is given, so that they are a prefix of the tree."""
    given = jax.tree.unflatten(tree, [0] * tree.num_leaves)
    return type(axes)(*(None if g is None else a for a, g in zip(axes, given, strict=True)))


_pass.def_impl(_run)
_pass.def_abstract_eval(_shapes)
mlir.register_lowering(_pass, mlir.lower_fun(_anywhere, multiple_results=True))
mlir.register_lowering(_pass, _on_cuda, platform="cuda")
ad.primitive_jvps[_pass] = _jvp
batching.primitive_batchers[_pass] = _batch
