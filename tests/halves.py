"""float16 where XLA has it: for an x86 CPU without F16C it finds no code."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest


def skip_without(dtype) -> None:
    """Skip the test that runs if nothing of this dtype can be compiled here."""
    name = str(jnp.dtype(dtype))
    if not _compiles(name):
        pytest.skip(f"XLA makes no {name} code for this processor")


@functools.cache
def _compiles(name: str) -> bool:
    try:
        jnp.ones(2).astype(name).astype(jnp.float32).block_until_ready()
    except jax.errors.JaxRuntimeError:
        return False
    return True
