"""Values of options: how they are read and shown, and which are refused in one sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import tyro
from tyro.constructors import PrimitiveConstructorSpec

from recurrax import tasks
from recurrax.cli.console import Mistake, as_mistakes
from recurrax.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# What --task takes, in the words of the help.
TASKS = f"{', '.join(name for name in tasks.NAMES if name != 'text')}, or text with --text."


def arg(metavar: str, default: str | None = None, words: str | None = None) -> Any:
    """Return how an option is shown in the help; its words, where they are made from a table."""
    hint = None if default is None else f"(default: {default})"
    return tyro.conf.arg(metavar=metavar, help=words, help_behavior_hint=hint)


def number(flag: str, kind: Callable[[str], Any] = float) -> PrimitiveConstructorSpec[Any]:
    """Return the reader of a number, for `kind = int` of a whole one."""

    def parse(words: list[str]) -> Any:
        try:
            (word,) = words
            return kind(word)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            came = repr(" ".join(words)) if words else "nothing"
            raise Mistake(f"{flag} must be {wanted}, got {came}") from None

    return _reader("INT" if kind is int else "FLOAT", parse)


def integer(flag: str) -> PrimitiveConstructorSpec[Any]:
    """Return the reader of a whole number."""
    return number(flag, int)


def two_files(flag: str) -> PrimitiveConstructorSpec[Any]:
    """Return the reader of two paths."""

    def parse(words: list[str]) -> tuple[Path, Path]:
        if len(words) != 2:
            came = " ".join(words) or "nothing"
            raise Mistake(f"{flag} needs two files, BEFORE AFTER; got {came}")
        return Path(words[0]), Path(words[1])

    return _reader("BEFORE AFTER", parse)


def _reader(metavar: str, parse: Callable[[list[str]], Any]) -> PrimitiveConstructorSpec[Any]:
    """Return a reader of any count of words, so that `parse` says what is wrong with them."""
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=parse,
        is_instance=lambda value: True,  # only defaults are asked about, which are ours
        str_from_instance=lambda value: [str(value)],
    )


def flag_of(name: str) -> str:
    """Return the flag of an option, such as `--report-every`."""
    return f"--{name.replace('_', '-')}"


def check_name(flag: str, what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known, with the nearest that is."""
    if name not in known:
        meant = nearest(name, known, show=str)
        choose = f"{meant} Choose from" if meant else "; choose from"
        raise Mistake(f"{flag}: unknown {what} {name!r}{choose} {', '.join(known)}")


def key_of(seed: int) -> Any:
    """Return the random key of a seed."""
    if not 0 <= seed < 2**32:
        raise Mistake(f"--seed must be from 0 to 2^32 - 1, got {seed}")
    return jax.random.key(seed)


def check_folder(out: Path) -> None:
    """Make a folder, and find out before the work whether its result can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Mistake(
            f"--out {out} cannot be written ({error.strerror}); name a folder of your own"
        ) from None


def task_of(name: str, length: int | None, text: Path | str | None, prefix: str = "") -> tasks.Task:
    """Return a task; refuse a length or a text that does not go with it, or that is missing."""
    if name == "text" and text is None:
        raise Mistake("--task text needs --text FILE, the text to learn from")
    if name in tasks.NAMES and name != "text" and text is not None:
        raise Mistake(f"--text is for --task text, not for {name}")
    if name == "digits" and length is not None:
        raise Mistake("--length does not go with --task digits, whose sequences have 64 steps")
    options = {"T": length, "path": text}
    options = {option: value for option, value in options.items() if value is not None}
    with as_mistakes(ValueError, TypeError, OSError, ImportError, prefix=prefix):
        return tasks.get(name, **options)
