"""Values of options, refused in one sentence that names the option."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import tyro
from tyro.constructors import PrimitiveConstructorSpec

from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from collections.abc import Callable


def arg(metavar: str, default: str | None = None) -> Any:
    """How an option is shown in the help."""
    hint = None if default is None else f"(default: {default})"
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


def integer(flag: str) -> PrimitiveConstructorSpec[Any]:
    """A whole number, or what the option is without one."""
    return _number(flag, int, "INT", "a whole number")


def number(flag: str) -> PrimitiveConstructorSpec[Any]:
    """A number, or what the option is without one."""
    return _number(flag, float, "FLOAT", "a number")


def two_files(flag: str) -> PrimitiveConstructorSpec[Any]:
    """Two paths, or None."""

    def parse(words: list[str]) -> tuple[Path, Path]:
        if len(words) != 2:
            raise Mistake(
                f"{flag} needs two files, BEFORE AFTER; got {' '.join(words) or 'nothing'}"
            )
        return Path(words[0]), Path(words[1])

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="BEFORE AFTER",
        instance_from_str=parse,
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: [] if value is None else [str(path) for path in value],
    )


def key_of(seed: int) -> Any:
    """Return the random key of `--seed`."""
    if not 0 <= seed < 2**32:
        raise Mistake(f"--seed must be from 0 to 2^32 - 1, got {seed}")
    return jax.random.key(seed)


def _number(
    flag: str, kind: Callable[[str], Any], metavar: str, words: str
) -> PrimitiveConstructorSpec[Any]:
    def parse(given: list[str]) -> Any:
        try:
            (word,) = given
            return kind(word)
        except ValueError:
            came = repr(" ".join(given)) if given else "nothing"
            raise Mistake(f"{flag} must be {words}, got {came}") from None

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=parse,
        is_instance=lambda value: value is None or isinstance(value, (int, float)),
        str_from_instance=lambda value: [str(value)],
    )
