"""Make interop_torch.npz and interop_keras.npz, and small files as the two libraries write them.

    KERAS_BACKEND=jax python make_interop.py

Wants torch, safetensors and keras; the tests want neither, only the files. Names in an .npz are
`layer/what`: `w/...` a weight in the library's own layout, `d/...` its gradient.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import keras_libraries  # noqa: E402 (from the folder above)
import torch_libraries  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    for name, library in (("torch", torch_libraries), ("keras", keras_libraries)):
        arrays = {}
        for seed, layer in enumerate(library.LAYERS):
            found = library.computed(library.made(layer, seed), 100 + seed)
            arrays |= {f"{layer}/{what}": array for what, array in found.items()}
        np.savez_compressed(HERE / f"interop_{name}.npz", **arrays)

    encoder = torch_libraries.made("GRU", 2).float()
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"epoch": 3, "model": weights}, HERE / "torch_gru.pt")
    safetensors.torch.save_file(weights, HERE / "torch_gru.safetensors")

    model = keras_libraries.drawn(keras_libraries.model(), 0)
    for ending in (".keras", ".h5"):
        model.save(HERE / f"keras_model{ending}")
    model.save_weights(HERE / "keras_model.weights.h5")
    x = np.random.default_rng(1).normal(size=(5, 2, 3)).astype("float32")
    y = np.asarray(model(x.swapaxes(0, 1))).swapaxes(0, 1)
    head = model.layers[-1].get_weights()
    np.savez_compressed(HERE / "keras_model.npz", x=x, y=y, kernel=head[0], bias=head[1])
    for path in sorted((*HERE.glob("interop_[kt]*"), *HERE.glob("*_model*"), *HERE.glob("*_gru*"))):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
