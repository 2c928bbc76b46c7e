"""What a user of the command can get wrong."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Mistake(Exception):
    """Bad input, told in one sentence."""


@contextmanager
def told(*errors: type[Exception], prefix: str = "") -> Iterator[None]:
    """Errors of these kinds are the user's to mend, and their message says how."""
    try:
        yield
    except errors as error:
        raise Mistake(f"{prefix}{error}") from None
