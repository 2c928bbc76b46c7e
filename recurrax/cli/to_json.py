"""What was measured as strict JSON: plain numbers, and "inf", "-inf" or "nan" as strings.

Both `float(...)` of such a string and `np.asarray(row, float)` give the number back.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from recurrax.literal import readable
from recurrax.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping


def document(options: Mapping[str, Any], **content: Any) -> str:
    """Return one document: the versions, the options but `json`, and the content by name."""
    versions = {"recurrax": __version__, "jax": jax.__version__}
    asked = {name: value for name, value in options.items() if name != "json"}
    return json.dumps(plain(versions | {"options": asked} | content), indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a result as dicts, lists, strings and numbers, of seven digits."""
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
