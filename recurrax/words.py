"""What messages share: the nearest of the names that exist, numbers of steps, another's error."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def nearest(
    word: Any, known: Iterable[str], *, cutoff: float = 0.6, show: Callable[[str], str] = repr
) -> str:
    """Return "; did you mean ...?" with the known name nearest to a word, or "" if none is near.

    Args:
      word: what was asked for.
      known: the names that exist.
      cutoff: how alike two names must be, as `difflib.get_close_matches` takes it.
      show: how the name is written: `repr` in quotes, `str` without.

    Example:
      >>> nearest("lsmt", ["elman", "lstm", "gru"])
      "; did you mean 'lstm'?"
    """
    found = difflib.get_close_matches(str(word), list(known), 1, cutoff)
    return f"; did you mean {show(found[0])}?" if found else ""


def unknown(what: str, name: Any, known: Iterable[str]) -> str:
    """Return what to say of a name that does not exist, such as of a `what` = "cell"."""
    known = list(known)
    return f"there is no {what} {name!r}{nearest(name, known) or '.'} There are {', '.join(known)}"


def steps_of(count: float) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{count:.0f} step{'' if round(count) == 1 else 's'}"


def short(value: float) -> str:
    """Return a number as short as it can be written without being another one."""
    words = f"{value:g}"
    return words if float(words) == value else repr(float(value))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, "" if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
