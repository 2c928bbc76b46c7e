"""Layers of torch, and what torch computes with them, for a golden file and for a live test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np

T, B, I, H = 4, 2, 2, 3

LAYERS = {
    "deep LSTM": lambda: torch.nn.LSTM(I, H, 2, bidirectional=True),
    "projected LSTM": lambda: torch.nn.LSTM(I, H, 2, bidirectional=True, proj_size=1),
    "GRU": lambda: torch.nn.GRU(I, H),
    "GRU without bias": lambda: torch.nn.GRU(I, H, bias=False),
    "relu RNN": lambda: torch.nn.RNN(I, H, 2, nonlinearity="relu"),
    "LSTM cell": lambda: Stepped(torch.nn.LSTMCell(I, H)),
    "GRU cell": lambda: Stepped(torch.nn.GRUCell(I, H)),
    "normed LSTM": lambda: torch.nn.utils.parametrizations.weight_norm(
        torch.nn.LSTM(I, H), "weight_hh_l0"
    ),
}


class Stepped(torch.nn.Module):
    """A cell over a sequence."""

    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, xs):
        state, ys = None, []
        for x in xs:
            state = self.cell(x, state)
            ys.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(ys), state


def made(name: str, seed: int) -> torch.nn.Module:
    """A layer in float64 whose weights are far enough from 0 for every function to bend."""
    torch.manual_seed(seed)
    module = LAYERS[name]().double()
    for weight in module.parameters():
        torch.nn.init.uniform_(weight, -0.9, 0.9)
    return module


def computed(module: torch.nn.Module, seed: int) -> dict[str, np.ndarray]:
    """Weights by their names, inputs, outputs, a random projection and its gradients."""
    torch.manual_seed(seed)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    y = module(x)[0]
    weight = torch.randn_like(y)
    names, leaves = zip(*module.named_parameters(), strict=True)
    grads = torch.autograd.grad((weight * y).sum(), [x, *leaves])
    named = {"x": x, "y": y, "weight": weight, "d_x": grads[0]}
    named |= {f"w/{name}": leaf for name, leaf in zip(names, leaves, strict=True)}
    named |= {f"d/{name}": grad for name, grad in zip(names, grads[1:], strict=True)}
    return {name: leaf.detach().numpy() for name, leaf in named.items()}
