"""Make the .onnx models of this folder, and onnx.npz: what onnxruntime computes with them.

    python make_onnx.py

Wants onnx and onnxruntime; the tests want onnx and the files. `deep_lstm.onnx` is two layers both
ways, between them the Transpose and Reshape that exporters write; `cells.onnx` has a node of
each other kind side by side. Names in the file are those of the models' outputs, and `x`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

HERE = Path(__file__).parent
T, B, I, H = 5, 2, 3, 4
RANDOM = np.random.default_rng(0)


class Graph:
    """Nodes and constants, gathered."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def recurrent(self, kind: str, name: str, given: str, size: int, **said: object) -> str:
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
        sides = 2 if said.get("direction") == "bidirectional" else 1
        shapes = {"W": (gates * H, size), "R": (gates * H, H), "B": (2 * gates * H,)}
        weights = [
            self.constant(f"{name}.{leaf}", RANDOM.uniform(-0.9, 0.9, (sides, *shape)).astype("f4"))
            for leaf, shape in shapes.items()
        ]
        node = helper.make_node(kind, [given, *weights], [f"{name}.Y"], name, hidden_size=H, **said)
        self.nodes.append(node)
        return f"{name}.Y"

    def joined(self, given: str) -> str:
        """`[T, D, B, H]` as `[T, B, D*H]`."""
        shape = self.constant(f"{given}.shape", np.array([0, 0, -1]))
        turned = helper.make_node("Transpose", [given], [f"{given}.turned"], perm=[0, 2, 1, 3])
        flat = helper.make_node("Reshape", [f"{given}.turned", shape], [f"{given}.flat"])
        self.nodes += [turned, flat]
        return f"{given}.flat"

    def save(self, path: Path, outputs: list[str]) -> None:
        def float32(name: str, shape: list) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

        results = [float32(name, [T, B, None]) for name in outputs]
        graph = helper.make_graph(
            self.nodes, "recurrent", [float32("x", [T, B, I])], results, self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def main() -> None:
    deep = Graph()
    below = deep.joined(deep.recurrent("LSTM", "below", "x", I, direction="bidirectional"))
    above = deep.joined(deep.recurrent("LSTM", "above", below, 2 * H, direction="bidirectional"))
    deep.save(HERE / "deep_lstm.onnx", [above])

    cells = Graph()
    outputs = [
        cells.recurrent("GRU", "after", "x", I, linear_before_reset=1),
        cells.recurrent("GRU", "before", "x", I),
        cells.recurrent("RNN", "tanh", "x", I),
        cells.recurrent("RNN", "relu", "x", I, activations=["Relu"]),
        cells.recurrent("LSTM", "back", "x", I, direction="reverse"),
    ]
    cells.save(HERE / "cells.onnx", [cells.joined(name) for name in outputs])

    x = RANDOM.normal(size=(T, B, I)).astype("f4")
    arrays = {"x": x, "onnxruntime_version": np.array(onnxruntime.__version__)}
    for name in ("deep_lstm.onnx", "cells.onnx"):
        session = onnxruntime.InferenceSession(HERE / name)
        found = session.run(None, {"x": x})
        arrays |= dict(zip([one.name for one in session.get_outputs()], found, strict=True))
    np.savez_compressed(HERE / "onnx.npz", **arrays)
    print(f"onnx.npz: {', '.join(arrays)}")


if __name__ == "__main__":
    main()
