"""What may be drawn, and the words for what may not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recurrax import checks


def by_name(results: Any, kind: type) -> dict[str, Any]:
    """Results of one kind of `rx.flow` by name; one alone has the empty name."""
    name = f"rx.flow.{kind.__name__}"
    return read_by_name(results, name, lambda _, given: given if isinstance(given, kind) else None)


def read_by_name(
    results: Any, kind: str, read: Callable[[str, Any], Any], *, also: str = ""
) -> dict[str, Any]:
    """What `read(argument, result)` makes of each result by name; one alone has the empty name.

    It returns None for what is no such result; a message calls it a `kind`, or what it is `also`.
    """
    alone = read(argument_of(""), results)
    if alone is not None:
        return {"": alone}
    if not isinstance(results, Mapping):
        raise TypeError(
            f"results must be a {kind}{also}, or several by name in a dict; got "
            f"{type(results).__name__}"
        )
    if not results:
        raise ValueError(f"results must hold at least one {kind}, got none")
    named = {}
    for name, result in results.items():
        argument = f"results[{name!r}]"
        named[str(name)] = read(argument, result)
        if named[str(name)] is None:
            raise TypeError(f"{argument} must be a {kind}{also}, got {type(result).__name__}")
    return named


def argument_of(name: str) -> str:
    return f"results[{name!r}]" if name else "results"


def check_kind(argument: str, result: Any, kind: type) -> None:
    if not isinstance(result, kind):
        raise TypeError(
            f"{argument} must be a rx.flow.{kind.__name__}, got {type(result).__name__}"
        )


def numbers_by_name(argument: str, numbers: Any, unit: str = ",") -> dict[str, float]:
    """Numbers to draw across a picture by name; none for None."""
    if numbers is None:
        return {}
    if not isinstance(numbers, Mapping):
        raise TypeError(
            f"{argument} must hold numbers by name in a dict{unit} got {type(numbers).__name__}"
        )
    for name, value in numbers.items():
        checks.check_number(f"{argument}[{name!r}]", value)
    return {str(name): float(value) for name, value in numbers.items()}
