"""Weights from ONNX: nodes `LSTM`, `GRU` and `RNN`, one after the other or both ways."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurrax.interop.layouts.assemble import converted
from recurrax.interop.layouts.candidates import Candidate, Found, reordered, take
from recurrax.interop.layouts.layers import Direction, Layer, layer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# Their gates in ONNX's order, and where each of ours stands there.
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
# What may stand between two layers: it moves numbers and changes none.
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout", "Flatten")


class _Node(NamedTuple):
    """A recurrent node, read."""

    name: str
    kind: str
    inputs: list[str]  # X, W, R, B, sequence_lens, initial_h, initial_c, P; "" where left out
    outputs: list[str]
    said: dict[str, Any]  # its attributes
    hidden: int

    @property
    def directions(self) -> int:
        return 2 if self.said.get("direction") == "bidirectional" else 1

    def weight(self, place: int) -> str:
        """The name of an input, `""` where it is left out."""
        return self.inputs[place] if len(self.inputs) > place else ""


def from_onnx(
    source: Any, *, prefix: str | None = None, reverse: bool | None = None
) -> tuple[Any, Any]:
    """A cell and its params from an ONNX model's `LSTM`, `GRU` or `RNN` nodes.

    Nodes of which one reads what the other gives, with nothing but changes of shape between, are
    the layers of one model. A GRU with `linear_before_reset=0`, which is ONNX's default, becomes
    `rx.cells.gru_reset_before`. The state that a graph begins with is no weight: pass it to
    `rx.unroll`. `layout` says how the graph's own inputs lie; ours are always `[T, B, I]`.

    Args:
      source: the path of an `.onnx` file, or a loaded `onnx.ModelProto`.
      prefix: the name of the first node, as `rx.interop.find` lists it, where there are several
        models.
      reverse: True for a node whose direction is `reverse`, as a sign that you will call
        `rx.unroll(..., reverse=True)`, which is what it computes.

    Returns:
      The cell, or what `rx.bidirectional` or `rx.stack` makes of several, and its params.

    Raises:
      FileNotFoundError, ValueError, TypeError, ImportError: as `rx.interop.convert` does; also if
        a node has peepholes, coupled gates, a clip, or activations that no cell here has.

    Example:
      >>> import recurrax as rx
      >>> cell, params = rx.interop.from_onnx("model.onnx")  # doctest: +SKIP

    Source: the operators LSTM, GRU and RNN of ONNX, version 22.
    """
    return converted(source, [recognise_onnx], prefix, reverse=reverse)


def recognise_onnx(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> list[Candidate]:
    """The recurrent nodes of a graph, those that feed each other joined."""
    graph = config.get("onnx")
    if graph is None:
        return []
    nodes = [_node(node, i, arrays) for i, node in enumerate(graph.node) if node.op_type in _ORDER]
    below = {node.outputs[0]: node.name for node in nodes if node.outputs}
    for node in graph.node:  # in the order of the computation
        if node.op_type in _MOVES and node.input and node.input[0] in below:
            below |= dict.fromkeys(node.output, below[node.input[0]])
    chains: list[list[_Node]] = []
    for node in nodes:
        on = below.get(node.inputs[0])
        chain = next((c for c in chains if c[-1].name == on and _fits(c[-1], node, arrays)), None)
        if chain is None:
            chains.append([node])
        else:
            chain.append(node)
    return [_candidate(chain, arrays) for chain in chains]


def _node(node: Any, place: int, arrays: dict[str, np.ndarray]) -> _Node:
    from onnx import helper

    said = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    said = {k: v.decode() if isinstance(v, bytes) else v for k, v in said.items()}
    name = node.name or (node.output[0] if node.output and node.output[0] else f"node {place}")
    if len(node.input) < 3:
        raise ValueError(
            f"{name} is damaged: an {node.op_type} has the inputs X, W and R at least, and it has "
            f"{len(node.input)}"
        )
    for weight in node.input[1:3]:
        if weight not in arrays:
            raise ValueError(
                f"the weight {weight!r} of {name} is no constant of the graph: export the model "
                "with its trained weights, not quantised"
            )
        if arrays[weight].ndim != 3:
            raise ValueError(
                f"the weight {weight!r} of {name} should have three axes (directions, gates, "
                f"features), got shape {list(arrays[weight].shape)}"
            )
    hidden = int(said.get("hidden_size") or arrays[node.input[2]].shape[-1])
    return _Node(name, node.op_type, list(node.input), list(node.output), said, hidden)


def _fits(below: _Node, node: _Node, arrays: dict[str, np.ndarray]) -> bool:
    return bool(arrays[node.inputs[1]].shape[-1] == below.hidden * below.directions)


def _candidate(chain: list[_Node], arrays: dict[str, np.ndarray]) -> Candidate:
    first = chain[0]
    kind = {"LSTM": "lstm", "RNN": "elman"}.get(first.kind, "gru")
    if first.kind == "GRU" and not first.said.get("linear_before_reset"):
        kind = "gru-reset-before"
    size = int(arrays[first.inputs[1]].shape[-1])
    found = Found(first.name, "onnx", kind, size, first.hidden, len(chain), first.directions)
    names = {node.weight(place) for node in chain for place in (1, 2, 3, 7)}  # W, R, B, P
    leaves = {name: arrays[name] for name in sorted(names) if name in arrays}
    return Candidate(found, leaves, partial(_layers, chain, leaves))


def _layers(
    chain: list[_Node], leaves: dict[str, np.ndarray], reverse: bool | None = None
) -> tuple[Layer, ...]:
    """Every node as a layer; refused where it computes what no cell does."""
    layers = []
    for node in chain:
        _check(node, leaves)
        backwards = node.said.get("direction") == "reverse"
        if backwards != bool(reverse):
            raise ValueError(
                f"{node.name} reads from the last step to the first: rx.unroll(..., reverse=True) "
                "does that with the converted cell. Say that you will with reverse=True"
                if backwards
                else f"reverse=True is for nodes of direction 'reverse', which {node.name} is not"
            )
        layers.append(layer_of(list(_sides(node, leaves))))
    return tuple(layers)


def _sides(node: _Node, leaves: dict[str, np.ndarray]) -> Iterator[Direction]:
    order, hidden, count = _ORDER[node.kind], node.hidden, node.directions
    rows = len(order) * hidden
    size = leaves[node.weight(1)].shape[-1]
    w_in = take(leaves, node.weight(1), count, rows, size)
    w_rec = take(leaves, node.weight(2), count, rows, hidden)
    biases = np.zeros((count, 2 * rows), w_in.dtype)
    if node.weight(3):
        biases = take(leaves, node.weight(3), count, 2 * rows)
    for side in range(count):
        of_input, of_state = (reordered(b, order) for b in np.split(biases[side], 2))
        b_n, cell = None, node.kind.lower()
        if node.kind == "RNN":
            relu = _activations(node)[side * len(_ACTIVATIONS["RNN"])] == "relu"
            cell = "elman-relu" if relu else "elman"
        elif node.kind == "GRU" and not node.said.get("linear_before_reset"):
            cell = "gru-reset-before"
        elif node.kind == "GRU":
            b_n = of_state[2 * hidden :]
            of_state = np.concatenate([of_state[: 2 * hidden], np.zeros_like(b_n)])
        ours_in, ours_rec = (reordered(weights[side], order, 0).T for weights in (w_in, w_rec))
        yield Direction(cell, ours_in, ours_rec, of_input + of_state, b_n)


def _activations(node: _Node) -> list[str]:
    named = node.said.get("activations") or _ACTIVATIONS[node.kind] * node.directions
    return [one.decode().lower() if isinstance(one, bytes) else one.lower() for one in named]


def _check(node: _Node, leaves: dict[str, np.ndarray]) -> None:
    """Refuse what the operators can do and no cell here does."""
    named = _activations(node)
    usual = list(_ACTIVATIONS[node.kind]) * node.directions
    known = usual == named or (node.kind == "RNN" and set(named) <= {"tanh", "relu"})
    if not known:
        raise ValueError(
            f"{node.name} has the activations {', '.join(named)}; the {node.kind} here has "
            f"{', '.join(usual)}" + (" or relu" if node.kind == "RNN" else "")
        )
    peepholes = node.weight(7)
    if peepholes and np.any(leaves.get(peepholes, np.ones(1))):
        raise ValueError(f"{node.name} has peepholes ({peepholes}), which no cell here has")
    for name, what in (("input_forget", "couples its gates"), ("clip", "clips its activations")):
        if node.said.get(name):
            raise ValueError(
                f"{node.name} {what} ({name} = {node.said[name]:g}), which no cell here does"
            )
