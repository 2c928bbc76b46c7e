"""What is said on a terminal: letter by letter, whatever a user's text holds."""

from __future__ import annotations

import sys

from rich.console import Console

from recurrax.literal import visible


def console(*, stderr: bool = False) -> Console:
    """A console that takes `[bold]` and `:smile:` for what they are."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def say(words: str) -> None:
    """A sentence on standard error, in one line."""
    print(f"recurrax: {visible(words)}", file=sys.stderr)
