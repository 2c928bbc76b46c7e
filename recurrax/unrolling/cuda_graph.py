"""Compiler options for a GPU."""

from __future__ import annotations

from recurrax.unrolling.kernel.placement import attached

_REPLAYED = "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,CONDITIONAL,DYNAMIC_SLICE_FUSION,WHILE"


def gpu_options() -> dict[str, bool | int | str]:
    """Compiler options that replay a loop over time as a CUDA graph.

    On a GPU a scan launches its kernels anew at every step. With these options XLA records the
    loop once and replays it. They take effect on the outermost `jax.jit` alone. What they gain has
    not been measured yet (`python -m tests.benchmarks.gpu` will tell), so nothing here uses them
    unasked.

    Returns:
      A dict for `compiler_options` of `jax.jit`, empty where JAX runs on no NVIDIA GPU: the same
      program compiles everywhere.

    Example:
      >>> import jax, jax.numpy as jnp, recurrax as rx
      >>> from recurrax.unrolling import gpu_options
      >>> cell = rx.cells.gru(3, 8)
      >>> params = cell.init(jax.random.key(0))
      >>> run = jax.jit(
      ...     lambda p, xs: rx.unroll(cell, p, None, xs)[1], compiler_options=gpu_options()
      ... )
      >>> run(params, jnp.ones((10, 4, 3))).shape
      (10, 4, 8)
    """
    if attached() is None:
        return {}
    return {
        "xla_gpu_enable_command_buffer": _REPLAYED,
        "xla_gpu_command_buffer_unroll_loops": True,
        "xla_gpu_graph_min_graph_size": 1,
    }
