"""What was measured as strict JSON: plain numbers, and null for what is not finite."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import recurrax

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recurrax.cli.data import Sequences


def as_json(options: Mapping[str, Any], sequences: Sequences, cells: Mapping[str, Any]) -> str:
    """One document: versions, what was asked, the data, and each cell by name."""
    length, batch, features = sequences.xs.shape
    asked = {name: plain(value) for name, value in options.items() if name != "json"}
    document = {
        "recurrax": recurrax.__version__,
        "jax": jax.__version__,
        "options": asked,
        "data": {"name": sequences.name, "T": length, "B": batch, "I": features},
        "cells": cells,
    }
    return json.dumps(document, indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """A result as dicts, lists, strings and numbers, of seven digits."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = np.asarray(value)
        exact = value.dtype.kind in "iub"
        return value.tolist() if exact else plain(np.asarray(value, np.float64).tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return str(value)
