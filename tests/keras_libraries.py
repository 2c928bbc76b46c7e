"""Layers of Keras, and what it computes with them, for a golden file and for a live test."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np

T, B, I, H = 5, 2, 3, 4

LAYERS = {
    "LSTM": lambda: keras.layers.LSTM(H, return_sequences=True),
    "GRU": lambda: keras.layers.GRU(H, return_sequences=True),
    "GRU before": lambda: keras.layers.GRU(H, return_sequences=True, reset_after=False),
    "GRU without bias": lambda: keras.layers.GRU(H, return_sequences=True, use_bias=False),
    "relu RNN": lambda: keras.layers.SimpleRNN(H, activation="relu", return_sequences=True),
    "backwards": lambda: keras.layers.LSTM(H, go_backwards=True, return_sequences=True),
    "summed GRU": lambda: both_ways(keras.layers.GRU(H, return_sequences=True), "sum"),
    "multiplied LSTM": lambda: both_ways(keras.layers.LSTM(H, return_sequences=True), "mul"),
    "joined GRU": lambda: both_ways(
        keras.layers.GRU(H, return_sequences=True, reset_after=False), "concat"
    ),
    "RNN of a cell": lambda: keras.layers.RNN(keras.layers.GRUCell(H), return_sequences=True),
}


def both_ways(
    layer: keras.layers.Layer, merge_mode: str, name: str | None = None
) -> keras.layers.Layer:
    return keras.layers.Bidirectional(layer, merge_mode=merge_mode, name=name)


def model() -> keras.Model:
    """Two recurrent layers and a head; what the configuration says of them is not the default."""
    return keras.Sequential(
        [
            keras.Input((None, I)),
            both_ways(
                keras.layers.GRU(H, return_sequences=True, reset_after=False), "ave", "reader"
            ),
            keras.layers.SimpleRNN(3, activation="relu", return_sequences=True, name="writer"),
            keras.layers.Dense(1, name="head"),
        ]
    )


def drawn(layer: keras.layers.Layer, seed: int) -> keras.layers.Layer:
    """The same layer with weights far enough from 0 for every function to bend."""
    random = np.random.default_rng(seed)
    layer.set_weights([random.uniform(-0.9, 0.9, w.shape) for w in layer.get_weights()])
    return layer


def made(name: str, seed: int) -> keras.layers.Layer:
    layer = LAYERS[name]()
    layer.build((B, T, I))
    return drawn(layer, seed)


def computed(layer: keras.layers.Layer, seed: int) -> dict[str, np.ndarray]:
    """Weights in their order, inputs, outputs, a random projection and its gradients."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(T, B, I)).astype("float32")
    fixed = [v.value for v in layer.non_trainable_variables]

    def outputs(weights):
        return layer.stateless_call(weights, fixed, x.swapaxes(0, 1))[0].swapaxes(0, 1)

    weights = [v.value for v in layer.trainable_variables]
    y = outputs(weights)
    weight = random.normal(size=y.shape).astype("float32")
    grads = jax.grad(lambda weights: (weight * outputs(weights)).sum())(weights)
    named = {"x": x, "y": y, "weight": weight}
    named |= {f"w/{i}": leaf for i, leaf in enumerate(weights)}
    named |= {f"d/{i}": grad for i, grad in enumerate(grads)}
    return {name: np.asarray(leaf) for name, leaf in named.items()}
