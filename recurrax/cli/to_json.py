"""What was measured as strict JSON: plain numbers, and "inf", "-inf" or "nan" as strings.

Both `float(...)` of such a string and `np.asarray(row, float)` give the number back.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import recurrax
from recurrax.literal import readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recurrax.cli.console import Difference
    from recurrax.cli.data import Sequences


def as_json(
    options: Mapping[str, Any],
    sequences: Sequences,
    cells: Mapping[str, Any],
    change: Difference | None = None,
) -> str:
    """One document: versions, what was asked, the data, what two compare to, each cell by name."""
    length, batch, features = sequences.xs.shape
    asked = {name: plain(value) for name, value in options.items() if name != "json"}
    notes = {"notes": sequences.notes} if sequences.notes else {}
    how = plain({**sequences.done, **notes})
    document = {
        "recurrax": recurrax.__version__,
        "jax": jax.__version__,
        "options": asked,
        "data": {"name": sequences.name, "T": length, "B": batch, "I": features, **how},
        **({} if change is None else {"comparison": plain(change)}),
        "cells": cells,
    }
    return json.dumps(document, indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """A result as dicts, lists, strings and numbers, of seven digits."""
    if isinstance(value, str):
        return readable(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {readable(str(name)): plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = np.asarray(value)
        exact = value.dtype.kind in "iub"
        return value.tolist() if exact else plain(np.asarray(value, np.float64).tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return readable(str(value))
