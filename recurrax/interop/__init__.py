"""Weights to and from files and other libraries, none of which is imported, and never by pickle."""

from recurrax.interop.describe import describe
from recurrax.interop.equinox import from_equinox, to_equinox
from recurrax.interop.files import Weights, load, save
from recurrax.interop.find import convert, find
from recurrax.interop.flax import from_flax, to_flax
from recurrax.interop.haiku import from_haiku, to_haiku
from recurrax.interop.keras import from_keras, to_keras
from recurrax.interop.layouts.candidates import Found
from recurrax.interop.onnx import from_onnx
from recurrax.interop.tensorflow import from_tensorflow
from recurrax.interop.torch import from_torch, to_torch

__all__ = [
    "Found",
    "Weights",
    "convert",
    "describe",
    "find",
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_onnx",
    "from_tensorflow",
    "from_torch",
    "load",
    "save",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_keras",
    "to_torch",
]
