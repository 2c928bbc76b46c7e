"""Pictures that fail without taking the numbers with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NO_PICTURE = 1  # the exit code where the numbers are there and a picture is not


def attempt(name: object, draw: Callable[[], None]) -> str | None:
    """Draw and write a picture; if that fails, say why in a sentence.

    Args:
      name: of the picture, as it is said.
      draw: draws and writes it.
    """
    try:
        draw()
    except Exception as error:  # fonts, layouts, disks: whatever it is, the numbers go on
        words = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return f"the picture {name} cannot be made ({words}); the numbers are not touched by it"
    return None
