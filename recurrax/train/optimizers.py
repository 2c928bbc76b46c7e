"""Optimizers of Optax by name, for the command."""

from __future__ import annotations

from typing import Any

import optax

from recurrax.cures.clipping.global_norm import clip_by_global_norm

NAMES = ("adam", "adamw", "nadam", "rmsprop", "adagrad", "lion", "sgd")  # as Optax calls them


def optimizer(name: str, learning_rate: float, clip: float | None = None) -> Any:
    """An optimizer, behind a clip of the gradient's global norm if one is given.

    Args:
      name: one of `NAMES`, with Optax's defaults.
      learning_rate: above 0.
      clip: the largest norm, as `rx.cures.clip_by_global_norm` takes it.

    Returns:
      An `optax.GradientTransformation`.
    """
    made = getattr(optax, name)(learning_rate)
    return made if clip is None else optax.chain(clip_by_global_norm(clip), made)
