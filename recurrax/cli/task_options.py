"""The options of a task that every command takes which trains on one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recurrax.cli.mistakes import Mistake

if TYPE_CHECKING:
    from pathlib import Path


def check_task_options(name: str, length: int | None, text: Path | None) -> None:
    """Refuse a length or a text that does not go with the task, or a text that is not there."""
    if (name == "text") != (text is not None):
        raise Mistake(
            "--task text needs --text FILE, the text to learn from"
            if name == "text"
            else f"--text is for --task text, not for {name}"
        )
    if name == "digits" and length is not None:
        raise Mistake("--length does not go with --task digits, whose sequences have 64 steps")
