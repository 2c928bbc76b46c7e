"""Sound, scaled to between -1 and 1."""

from __future__ import annotations

import warnings
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from recurrax.cli.data.asked import Found
from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path


def read_sound(path: Path, file: IO[Any]) -> Found:
    """A `.wav`: one time step a sample, one feature a channel."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            rate, samples = wavfile.read(file)
    except OSError:
        raise
    except Exception:  # the reader stumbles in many ways over what is no sound
        raise Mistake(
            f"{path} cannot be read as a .wav of plain samples (PCM or float); convert it with an "
            "audio program"
        ) from None
    if not samples.size:
        raise Mistake(f"{path} holds no sample; give a .wav with at least one")
    found = Found(_scaled(samples if samples.ndim == 2 else samples[:, None]))
    if any("prematurely" in str(warning.message) for warning in seen):
        found = found.told(f"{path.name} ends before its header says; what is there is read")
    return found.told(samples_per_second=int(rate))


def _scaled(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind == "f":
        return samples.astype(np.float64)
    if samples.dtype.kind == "u":  # of 8 bits or fewer, silence is in the middle
        return (samples.astype(np.float64) - 128) / 128
    return samples / -float(np.iinfo(samples.dtype).min)
