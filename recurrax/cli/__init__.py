"""The command `recurrax`."""

from recurrax.cli.app import run

__all__ = ["run"]
