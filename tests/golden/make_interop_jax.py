"""Make interop_jax.npz: layers of Flax, Haiku and Equinox with their gradients, in float64.

    PYTHONPATH=tests python tests/golden/make_interop_jax.py

Wants flax, dm-haiku and equinox; the tests want neither them nor this script, only the file that
it wrote. In the file `layer|leaf` is a weight and the gradient by it, stacked, with slashes between
the words of a leaf; `layer` the outputs `[T, B, H]` and the random weights with which they are
summed to the number that is differentiated; `x [T, B, I]` the inputs of all.
"""

from __future__ import annotations

from pathlib import Path

import equinox
import flax
import haiku
import jax
import jax.numpy as jnp
import numpy as np
from jax_libraries import LAYERS, B, I, T


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    draw = np.random.default_rng(1)
    xs = draw.standard_normal((T, B, I))
    versions = [f"{m.__name__} {m.__version__}" for m in (flax, haiku, equinox, jax)]
    arrays = {"versions": np.array(", ".join(versions)), "x": xs}
    for name, make in LAYERS.items():
        layer = make()
        ys = layer.run(layer.weights, xs)
        r = draw.standard_normal(ys.shape)

        def loss(weights, layer=layer, r=r):
            return jnp.sum(r * layer.run(weights, xs))

        arrays[name] = np.stack([ys, r])
        gradients = jax.tree.leaves(jax.grad(loss)(layer.weights))
        weights = jax.tree_util.tree_leaves_with_path(layer.weights)
        for (path, weight), gradient in zip(weights, gradients, strict=True):
            leaf = jax.tree_util.keystr(path, simple=True, separator="/")
            arrays[f"{name}|{leaf}"] = np.stack([weight, gradient])
    path = Path(__file__).with_name("interop_jax.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
