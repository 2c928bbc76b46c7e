"""Make torch_bidirectional.npz: two bidirectional layers on packed sequences, in float64.

    python make_torch_bidirectional.py

Wants torch and NumPy, as make_torch.py does. Names in the file are `kind/what`; a gradient is
`kind/d_what`. Weights have torch's own names; h0 and c0 are `[layers * directions, B, H]`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

T, B, I, H = 7, 4, 3, 2
LENGTHS = torch.tensor([4, 7, 1, 6])
KINDS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    arrays = {"torch_version": np.array(torch.__version__), "lengths": LENGTHS.numpy()}
    for kind, build in KINDS.items():
        module = build(I, H, num_layers=2, bidirectional=True)
        arrays |= {f"{kind}/{name}": value for name, value in golden(kind, module).items()}
    path = Path(__file__).with_name("torch_bidirectional.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


def golden(kind: str, module: torch.nn.Module) -> dict[str, np.ndarray]:
    weights = dict(module.named_parameters())
    for p in weights.values():
        torch.nn.init.uniform_(p, -0.9, 0.9)  # far enough from 0 for every nonlinearity to bend
    inputs = {"x": torch.randn(T, B, I), "h0": torch.randn(4, B, H)}
    if kind == "lstm":
        inputs["c0"] = torch.randn(4, B, H)
    for leaf in inputs.values():
        leaf.requires_grad_()

    packed = pack_padded_sequence(inputs["x"], LENGTHS, enforce_sorted=False)
    start = (inputs["h0"], inputs["c0"]) if kind == "lstm" else inputs["h0"]
    ys, last = module(packed, start)
    ys, _ = pad_packed_sequence(ys, total_length=T)
    last = dict(zip("hc", last, strict=True)) if kind == "lstm" else {"h": last}

    found = {"ys": ys} | last
    weight = {f"weight_of_{name}": torch.randn_like(leaf) for name, leaf in found.items()}
    loss = sum((weight[f"weight_of_{name}"] * leaf).sum() for name, leaf in found.items())
    leaves = weights | inputs
    grads = torch.autograd.grad(loss, list(leaves.values()))
    named = {f"d_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    everything = leaves | found | weight | named
    return {name: leaf.detach().numpy() for name, leaf in everything.items()}


if __name__ == "__main__":
    main()
