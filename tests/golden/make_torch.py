"""Make torch.npz: values and gradients of torch's RNN, LSTM and GRU, in float64.

    python make_torch.py

Wants torch and NumPy; the tests want neither torch nor this script, only the file that it wrote.
Names in the file are `kind/what`; a gradient is `kind/d_what`. Arrays are laid out as torch has
them: weights `[G*H, I]`, time first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

T, B, I, H = 5, 3, 4, 5
KINDS = {
    "rnn_tanh": lambda: torch.nn.RNN(I, H, nonlinearity="tanh"),
    "rnn_relu": lambda: torch.nn.RNN(I, H, nonlinearity="relu"),
    "lstm": lambda: torch.nn.LSTM(I, H),
    "gru": lambda: torch.nn.GRU(I, H),
}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    arrays = {"torch_version": np.array(torch.__version__)}
    for kind, build in KINDS.items():
        arrays |= {f"{kind}/{name}": value for name, value in golden(kind, build()).items()}
    path = Path(__file__).with_name("torch.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {len(arrays)} arrays, {path.stat().st_size} bytes")


def golden(kind: str, module: torch.nn.Module) -> dict[str, np.ndarray]:
    weights = {name.removesuffix("_l0"): p for name, p in module.named_parameters()}
    for p in weights.values():
        torch.nn.init.uniform_(p, -0.9, 0.9)  # far enough from 0 for every nonlinearity to bend
    inputs = {"x": torch.randn(T, B, I), "h0": torch.randn(1, B, H)}
    if kind == "lstm":
        inputs["c0"] = torch.randn(1, B, H)
    for leaf in inputs.values():
        leaf.requires_grad_()

    # One call for each step, so that the state in between is seen; the sum below ties them.
    carry = tuple(inputs[name] for name in ("h0", "c0") if name in inputs)
    seen: dict[str, list[torch.Tensor]] = {"h": [], "c": []}
    for x in inputs["x"]:
        _, new = module(x[None], carry if kind == "lstm" else carry[0])
        carry = new if kind == "lstm" else (new,)
        for name, leaf in zip("hc", carry, strict=False):
            seen[name].append(leaf[0])
    states = {name: torch.stack(leaves) for name, leaves in seen.items() if leaves}

    start = tuple(inputs[name] for name in ("h0", "c0") if name in inputs)
    whole, _ = module(inputs["x"], start if kind == "lstm" else start[0])
    torch.testing.assert_close(whole, states["h"], rtol=0, atol=1e-15)

    weight = {f"weight_{name}": torch.randn_like(leaf) for name, leaf in states.items()}
    loss = sum((weight[f"weight_{name}"] * leaf).sum() for name, leaf in states.items())
    leaves = weights | inputs
    grads = torch.autograd.grad(loss, list(leaves.values()))
    named = {f"d_{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    everything = leaves | states | weight | named | {"loss": loss}
    return {name: leaf.detach().numpy() for name, leaf in everything.items()}


if __name__ == "__main__":
    main()
