"""Weights to and from files, with the description of their cell, and never by pickle."""

from recurrax.interop.describe import describe
from recurrax.interop.files import Weights, load, save

__all__ = ["Weights", "describe", "load", "save"]
