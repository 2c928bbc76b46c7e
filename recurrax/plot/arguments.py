"""What may be drawn, and the words for what may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def by_name(results: Any, kind: type) -> dict[str, Any]:
    """Results of one kind by name; one alone has the empty name."""
    if isinstance(results, kind):
        return {"": results}
    if not isinstance(results, Mapping):
        raise TypeError(
            f"results must be a rx.flow.{kind.__name__}, or several by name in a dict; got "
            f"{type(results).__name__}"
        )
    if not results:
        raise ValueError(f"results must hold at least one rx.flow.{kind.__name__}, got none")
    for name, result in results.items():
        check_kind(f"results[{name!r}]", result, kind)
    return {str(name): result for name, result in results.items()}


def check_kind(argument: str, result: Any, kind: type) -> None:
    if not isinstance(result, kind):
        raise TypeError(
            f"{argument} must be a rx.flow.{kind.__name__}, got {type(result).__name__}"
        )
