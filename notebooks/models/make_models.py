"""Make the two broken models that 06_diagnose_your_model.ipynb looks at.

    KERAS_BACKEND=jax python make_models.py

Wants torch, safetensors and keras; the notebook wants neither torch nor keras.
"""

from __future__ import annotations

from pathlib import Path

import keras
import safetensors.torch
import torch

HERE = Path(__file__).parent


class Tagger(torch.nn.Module):
    """Two layers of LSTM in both directions, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.LSTM(3, 20, num_layers=2, bidirectional=True)
        self.head = torch.nn.Linear(40, 2)


def tagger() -> Tagger:
    """A helper of the kind that is pasted everywhere sets the forget bias, with a wrong sign."""
    torch.manual_seed(0)
    model = Tagger()
    for name, value in model.encoder.named_parameters():
        if "weight_hh" in name:
            torch.nn.init.orthogonal_(value)
        elif "bias" in name:
            torch.nn.init.zeros_(value)
            value.data[20:40] = -1.25  # of i, f, g, o the second; and of two biases that add up
    return model


def forecaster() -> keras.Model:
    """A GRU as Keras makes it, to be fed with pressures in hectopascal."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 3))
    hidden = keras.layers.GRU(24, return_sequences=True, name="gru")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, name="forecast")(hidden))


def main() -> None:
    safetensors.torch.save_file(tagger().state_dict(), HERE / "tagger_lstm.safetensors")
    forecaster().save(HERE / "forecaster_gru.keras")
    for path in sorted(HERE.glob("*.[sk]*")):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
