"""Matrix factorisations, one matrix at a time on a CPU.

jaxlib spreads a batched LAPACK call over its thread pool and waits inside that pool, so two such
calls in one program can wait for each other for ever (seen with jaxlib 0.10.2 on two cores). A
call for one matrix never waits. Accelerators keep their batched calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays, which `jax.vmap` turns into a loop on a CPU."""
    wrapped = jax.custom_batching.custom_vmap(function)

    @wrapped.def_vmap
    def over_batch(size: int, batched: Sequence[bool], *args: Any) -> tuple[Any, Any]:
        axes = [0 if mapped else None for mapped in batched]

        def loop(*args: Any) -> Any:
            def one(i: Any) -> Any:
                return wrapped(
                    *(a if axis is None else a[i] for a, axis in zip(args, axes, strict=True))
                )

            return jax.lax.map(one, jax.numpy.arange(size))

        def together(*args: Any) -> Any:
            return jax.vmap(function, in_axes=axes, axis_size=size)(*args)

        out = jax.lax.platform_dependent(*args, cpu=loop, default=together)
        return out, jax.tree.map(lambda _: True, out)

    result: Callable[..., Any] = wrapped
    return result
