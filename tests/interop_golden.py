"""What a golden file says of a layer of another library, and the same of its conversion."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from close import assert_same

import recurrax as rx

GOLDEN = Path(__file__).parent / "golden"


def golden(library: str, layer: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"interop_{library}.npz", allow_pickle=False) as file:
        names = [name for name in file.files if name.startswith(f"{layer}/")]
        return {name.removeprefix(f"{layer}/"): file[name] for name in names}


def part(found: dict[str, np.ndarray], begin: str) -> dict[str, np.ndarray]:
    """The arrays under `w/` or `d/`, without that."""
    return {n.removeprefix(begin): found[n] for n in found if n.startswith(begin)}


def outputs_and_gradients(cell, params, found, flip=False):
    """The outputs, and the gradients of the same projection by params and inputs."""

    def loss(params, x):
        ys = rx.unroll(cell, params, None, x[::-1] if flip else x)[1]
        return (found["weight"] * ys).sum(), ys

    grads, ys = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, found["x"])
    return ys, *grads


def assert_same_model(actual, expected) -> None:
    """The same cell, and every bit of its params."""
    assert actual[0] == expected[0]
    assert_same(actual[1], expected[1])
